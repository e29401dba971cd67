"""Rules that make an expression smaller without changing a value; `Builder.apply` asks them.

A rule gets the builder and the inputs of an operation, and returns a node that exists already or is
simpler, or None. `graph.py` calls them through `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from holdfast.compiler.graph import Builder, Node


def _is(node: Node, value: float) -> bool:
    return node.op == "const" and node.value == value


def _add(builder: Builder, x: Node, y: Node) -> Node | None:
    for this, other in ((x, y), (y, x)):
        if _is(this, 0.0):
            return other
        if this.op == "neg":
            return builder.apply("sub", (other, this.inputs[0]))
    return None


def _sub(builder: Builder, x: Node, y: Node) -> Node | None:
    if _is(y, 0.0):
        return x
    if _is(x, 0.0):
        return builder.apply("neg", (y,))
    if y.op == "neg":
        return builder.apply("add", (x, y.inputs[0]))
    if x is y and x.op == "mean":
        return builder.const(0.0)
    return None


def _mul(builder: Builder, x: Node, y: Node) -> Node | None:
    for this, other in ((x, y), (y, x)):
        if _is(this, 0.0):
            return builder.const(0.0)
        if _is(this, 1.0):
            return other
        if _is(this, -1.0):
            return builder.apply("neg", (other,))
        if this.op == "neg":
            return builder.apply("neg", (builder.apply("mul", (this.inputs[0], other)),))
    if x is y:
        return builder.apply("square", (x,))
    return None


def _div(builder: Builder, x: Node, y: Node) -> Node | None:
    if _is(y, 1.0):
        return x
    if _is(x, 0.0):
        return builder.const(0.0)
    return None


def _neg(builder: Builder, x: Node) -> Node | None:
    return x.inputs[0] if x.op == "neg" else None


def _where(builder: Builder, condition: Node, x: Node, y: Node) -> Node | None:
    if condition.op == "const":
        return x if condition.value else y
    return x if x is y else None


def _mean(builder: Builder, x: Node) -> Node | None:
    """A mean is linear: factors and terms that all units share leave it, and of what a factor
    multiplies there is one mean, so that few sums over the units are left."""
    if x.uniform:
        return x
    groups: dict[Node | None, list[tuple[bool, Node]]] = {}
    for negative, factor, rest in _terms(builder, x):
        groups.setdefault(factor, []).append((negative, rest))
    if set(groups) == {None} and not any(rest.uniform for _, rest in groups[None]):
        opposite, turned = _turn(groups[None])
        if not opposite and _sum(builder, turned) is x:
            return _apart(builder, groups[None])
    total = builder.const(0.0)
    for factor, members in groups.items():
        product = _scaled(builder, factor, _mean_of_sum(builder, members))
        total = builder.apply("add", (total, product))
    return total


def _scaled(builder: Builder, factor: Node | None, value: Node) -> Node:
    if factor is None:
        return value
    if factor.op == "div" and _is(factor.inputs[0], 1.0):
        return builder.apply("div", (value, factor.inputs[1]))
    return builder.apply("mul", (factor, value))


def _terms(builder: Builder, x: Node) -> Iterator[tuple[bool, Node | None, Node]]:
    """A value as a sum: each term's sign, the factor that all units share, and the rest."""
    if x.op in ("add", "sub") and not x.uniform:
        yield from _terms(builder, x.inputs[0])
        for negative, factor, rest in _terms(builder, x.inputs[1]):
            yield negative != (x.op == "sub"), factor, rest
    elif x.op == "neg":
        for negative, factor, rest in _terms(builder, x.inputs[0]):
            yield not negative, factor, rest
    else:
        yield _factored(builder, x)


def _factored(builder: Builder, x: Node) -> tuple[bool, Node | None, Node]:
    """A product as its sign, the factor that all units share, and the rest."""
    if x.uniform or x.op not in ("mul", "div", "neg"):
        return False, None, x
    negative, factor, rest = _factored(builder, x.inputs[0])
    if x.op == "neg":
        return not negative, factor, rest
    second = x.inputs[1]
    if x.op == "div":
        if not second.uniform:
            return False, None, x
        one = builder.const(1.0) if factor is None else factor
        return negative, builder.apply("div", (one, second)), rest
    if second.uniform or x.inputs[0].uniform:
        shared, other = (second, x.inputs[0]) if second.uniform else x.inputs
        negative, factor, rest = _factored(builder, other)
        whole = shared if factor is None else builder.apply("mul", (factor, shared))
        return negative, whole, rest
    negative_too, factor_too, rest_too = _factored(builder, second)
    whole = factor_too if factor is None else factor
    if factor is not None and factor_too is not None:
        whole = builder.apply("mul", (factor, factor_too))
    return negative != negative_too, whole, builder.apply("mul", (rest, rest_too))


def _mean_of_sum(builder: Builder, members: list[tuple[bool, Node]]) -> Node:
    """The mean of a sum of terms without a shared factor."""
    shared = [member for member in members if member[1].uniform]
    own = [member for member in members if not member[1].uniform]
    total = _sum(builder, shared)
    if not own:
        return total
    apart = _apart(builder, own)
    if apart is not None:
        return builder.apply("add", (total, apart))
    opposite, turned = _turn(own)
    mean = builder.apply("mean", (_sum(builder, turned),))
    return builder.apply("sub" if opposite else "add", (total, mean))


def _apart(builder: Builder, members: list[tuple[bool, Node]]) -> Node | None:
    """The mean of differences from what all units share, where the mean without that is known."""
    inner: list[tuple[bool, Node]] = []
    shared: list[tuple[bool, Node]] = []
    for negative, node in members:
        if node.op not in ("add", "sub") or not any(term.uniform for term in node.inputs):
            return None
        signs = (negative, negative != (node.op == "sub"))
        for sign, term in zip(signs, node.inputs, strict=True):
            (shared if term.uniform else inner).append((sign, term))
    opposite, turned = _turn(inner)
    known = builder.known("mean", (_sum(builder, turned),))
    if known is None:
        return None
    return builder.apply("sub" if opposite else "add", (_sum(builder, shared), known))


def _turn(members: list[tuple[bool, Node]]) -> tuple[bool, list[tuple[bool, Node]]]:
    """The sign of the term that was made first, and the terms with that sign taken out."""
    opposite = min(members, key=lambda member: member[1].index)[0]
    return opposite, [(negative != opposite, node) for negative, node in members]


def _sum(builder: Builder, members: list[tuple[bool, Node]]) -> Node:
    """A sum in the order in which the terms were made, so that equal sums are one node."""
    total = builder.const(0.0)
    for negative, node in sorted(members, key=lambda member: member[1].index):
        total = builder.apply("sub" if negative else "add", (total, node))
    return total


RULES: dict[str, Callable[..., Node | None]] = {
    "add": _add,
    "sub": _sub,
    "mul": _mul,
    "div": _div,
    "neg": _neg,
    "where": _where,
    "mean": _mean,
}
"""The rule of each operation that has one."""
