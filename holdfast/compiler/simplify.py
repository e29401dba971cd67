"""Rules that make an expression smaller without changing a value; `Builder.apply` asks them.

A rule gets the builder and the inputs of an operation, and returns a node that exists already or is
simpler, or None. `graph.py` calls them through `RULES`.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """A mean is linear: taken apart where that pulls out what all units share, it needs no sweep
    of its own."""
    if x.uniform:
        return x
    if x.op == "neg":
        return builder.apply("neg", (builder.apply("mean", x.inputs),))
    if x.op in ("add", "sub") and _shares(x):
        return builder.apply(x.op, [builder.apply("mean", (term,)) for term in x.inputs])
    if x.op == "mul":
        for this, other in (x.inputs, x.inputs[::-1]):
            if this.uniform:
                return builder.apply("mul", (this, builder.apply("mean", (other,))))
            if other.op in ("mul", "neg") and (pulled := _uniform_factor(builder, other)):
                factor, rest = pulled
                inner = builder.apply("mul", (this, rest))
                return builder.apply("mul", (factor, builder.apply("mean", (inner,))))
    if x.op == "div" and x.inputs[1].uniform:
        return builder.apply("div", (builder.apply("mean", x.inputs[:1]), x.inputs[1]))
    return None


def _shares(x: Node) -> bool:
    """Whether a term or a factor of a sum is the same for all units."""
    if x.op in ("add", "sub", "neg"):
        return x.uniform or any(_shares(term) for term in x.inputs)
    return x.uniform or (x.op in ("mul", "div") and any(_shares(term) for term in x.inputs))


def _uniform_factor(builder: Builder, x: Node) -> tuple[Node, Node] | None:
    """A product as a factor that all units share and the rest."""
    if x.op == "neg":
        return builder.const(-1.0), x.inputs[0]
    for this, other in (x.inputs, x.inputs[::-1]):
        if this.uniform:
            return this, other
    return None


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
