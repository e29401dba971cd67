"""The plan keeps what the backward step needs and no more, and says why."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from holdfast import Cell
from holdfast.cells import CELLS
from holdfast.compiler.graph import Builder, Graph, Node, reach
from holdfast.compiler.naming import name_nodes, spell
from holdfast.compiler.ops import OPS
from holdfast.compiler.plan import SAVE_COST, Plan, plan
from holdfast.compiler.trace import Accumulator, Trace
from tests.emit.user_cells import ALL_CELLS, CORE
from tests.graph.test_graph import EXPRESSIONS, Expression, build
from tests.graph.walk import evaluate, random_leaves
from tests.helpers import assert_same

EVERY = {**ALL_CELLS, **CELLS}
CELL = pytest.mark.parametrize("cell", EVERY.values(), ids=lambda cell: cell.name)

SAVED = {
    "lstm": ["sigmoid(f)", "sigmoid(i)", "tanh(g)", "sigmoid(o)"],
    "lstm_1997_plain": ["sigmoid(i)", "sigmoid(g)", "sigmoid(o)"],
    "peephole": ["sigmoid(t2)", "sigmoid(t6)", "tanh(g)", "sigmoid(t11)"],
    "coupled": ["sigmoid(i)", "tanh(g)", "sigmoid(o)"],
    "gru": ["n.recurrent", "sigmoid(z)", "sigmoid(r)", "tanh(t3)"],
    "gru_2014": ["sigmoid(z)", "sigmoid(r)", "h_prev * t1", "tanh(t3)"],
    "rnn": [],
    "rnn_relu": [],
}
"""One value for each gate where its activation says it all; the plain networks read h itself."""


def _plan(cell: Cell) -> Plan:
    return plan(cell.traced, cell.states, cell.weights)


def _spelled(nodes: Iterable[Node], names: dict[Node, str]) -> list[str]:
    return [names[node] if node.leaf else spell(node, names) for node in nodes]


@pytest.mark.parametrize("name", SAVED)
def test_what_a_cell_of_the_catalogue_saves(name: str) -> None:
    made = _plan(CELLS[name])
    names = name_nodes(made.forward.nodes())
    assert _spelled(made.saved, names) == SAVED[name]


@CELL
def test_every_choice_has_its_reason(cell: Cell) -> None:
    made = _plan(cell)
    names = name_nodes(made.forward.nodes())
    for node in made.saved:
        starts = (f"save {names[node]} = ", f"save {names[node]}: ")
        (reason,) = (line for line in made.reasons if line.startswith(starts))
        words = ("never stored", "again, it would cost", "every unit of the row", "a matrix")
        assert any(word in reason for word in words)
    for node in made.recomputed:
        (reason,) = (
            line for line in made.reasons if line.startswith(f"do not save {names[node]}:")
        )
        assert reason.endswith(f"costs {OPS[node.op].cost}")
    for name in cell.states:
        assert any(line.startswith(f"keep the sequence of {name}:") for line in made.reasons)


@CELL
def test_the_text_is_a_program_that_reads_only_what_is_kept(cell: Cell) -> None:
    made = _plan(cell)
    lines = made.text().splitlines()
    steps = [line.partition(" ")[2] for line in lines if line.startswith(("recompute", "compute"))]
    names = name_nodes(dict.fromkeys((*made.forward.nodes(), *made.backward.nodes())))
    known = {names[node] for node in (*made.saved, *made.shared, *made.available)}
    leaves = (*made.forward.nodes(), *made.backward.nodes())
    known |= {names[node] for node in leaves if node.op in ("weight", "input", "grad", "const")}
    by_name = {name: node for node, name in names.items()}
    for step in steps:
        target = step.partition(" = ")[0]
        assert {names[child] for child in by_name[target].inputs} <= known, step
        known.add(target)
    for line in lines:
        if line.startswith("give "):
            assert line.partition(" = ")[2] in known, line


def _known(made: Plan, values: dict[Node, Tensor]) -> dict[Node, Tensor]:
    """Values of what the backward pass may load; the recomputed ones are not among them."""
    loadable = (*made.saved, *made.shared, *made.available)
    return {node: values[node] for node in loadable}


def _check_sufficient(made: Plan, generator: torch.Generator) -> None:
    """The backward step from saved and free values alone equals the one from everything."""
    both = Graph({**made.forward.outputs, **made.backward.outputs})
    leaves = {key: value.detach() for key, value in random_leaves(both, generator).items()}
    everything = evaluate((*made.forward.nodes(), *made.backward.nodes()), leaves)
    roots = list(made.backward.outputs.values())
    allowed = {key: value for key, value in leaves.items() if key[0] in ("grad", "weight", "input")}
    found = evaluate(roots, allowed, _known(made, everything))
    for name, root in made.backward.outputs.items():
        assert_same(found[root], everything[root], name)


@CELL
def test_saved_and_free_values_suffice(cell: Cell, generator: torch.Generator) -> None:
    _check_sufficient(_plan(cell), generator)


@CELL
def test_nothing_is_saved_in_vain(cell: Cell) -> None:
    """Without any one of the saved values the backward step is impossible or costs more."""
    made = _plan(cell)
    for node in made.saved:
        others = [kept for kept in made.saved if kept is not node]
        again = _steps(made, others)
        impossible = any(step.op == "gate" or step.crossing for step in again)
        if impossible or any(factor.inputs[0] is node for factor in _called(made)):
            continue
        cost = sum(OPS[step.op].cost for step in again if not step.leaf)
        before = sum(OPS[step.op].cost for step in _steps(made, made.saved) if not step.leaf)
        assert cost >= before + SAVE_COST


def _called(made: Plan) -> list[Node]:
    """Gates that are called: the gradient of their R needs the operand, whatever it costs."""
    return [node for node in made.forward.nodes() if node.op == "affine"]


def _steps(made: Plan, saved: Iterable[Node]) -> list[Node]:
    """Forward values that the backward step computes, or would have to know, given `saved`."""
    free = {node for node in made.forward.nodes() if node.leaf and node.op != "gate"}
    closed = {*saved, *made.available, *free}
    forward = set(made.forward.nodes())
    needed = reach(made.backward.outputs.values(), stop=closed)
    return [node for node in needed if node in forward and node not in closed]


@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("seed", [7])
@given(first=EXPRESSIONS, second=EXPRESSIONS)
def test_saved_and_free_values_suffice_for_random_cells(
    first: Expression, second: Expression, seed: int
) -> None:
    builder = Builder()
    kinds = {"x": "gate", "y": "state", "z": "weight"}

    def leaf(name: str) -> Any:
        return builder.leaf(kinds[name], name)

    results = [build(one, leaf, builder.const, builder.apply) for one in (first, second)]
    sums = (Accumulator("x", "x", True, True, True, True),)
    traced = Trace(Graph(dict(zip(("h", "y"), results, strict=True))), sums)
    _check_sufficient(plan(traced, ("y",), ("z",)), torch.Generator().manual_seed(seed))


def test_direct_says_whether_h_flows_without_a_matrix() -> None:
    assert {name: _plan(CELLS[name]).direct for name in CORE} == {
        "lstm": False,
        "lstm_1997_plain": False,
        "peephole": False,
        "coupled": False,
        "gru": True,
        "gru_2014": True,
        "rnn": False,
        "rnn_relu": False,
    }
