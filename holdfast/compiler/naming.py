"""Names for the nodes of a step graph, and their operations as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from holdfast.compiler.ops import OPS

if TYPE_CHECKING:
    from holdfast.compiler.graph import Node


def name_nodes(nodes: Iterable[Node]) -> dict[Node, str]:
    """A distinct name for each node: the user's where a line assigned it, t1, t2 ... elsewhere."""
    nodes = tuple(nodes)
    names: dict[Node, str] = {}
    taken: set[str] = set()
    for node in (*(n for n in nodes if n.leaf), *(n for n in nodes if not n.leaf)):
        name = describe(node) if node.leaf else "" if node.owned else node.name
        if not name or name in taken:
            stem = name or "t"
            number = 2 if name else 1
            while f"{stem}{number}" in taken:
                number += 1
            name = f"{stem}{number}"
        taken.add(name)
        names[node] = name
    return names


def describe(node: Node) -> str:
    """A node in words: a leaf's kind and name, a constant's value, an operation's name."""
    if node.op == "const":
        short = f"{node.value:.9g}"
        return short if float(short) == node.value else repr(node.value)
    if node.op == "state":
        return f"{node.name}_prev"
    return node.name if node.leaf else node.op


def spell(node: Node, names: Mapping[Node, str]) -> str:
    """One operation as text, with infix symbols where the operation has one."""
    inputs = [names[child] for child in node.inputs]
    if node.owned:
        return f"{node.name}({inputs[0]})" if node.op == "affine" else f"{inputs[0]} R_{node.name}"
    op = OPS[node.op]
    if op.infix:
        return f" {op.infix} ".join(inputs)
    return f"-{inputs[0]}" if node.op == "neg" else f"{node.op}({', '.join(inputs)})"
