"""Varied cells against the same mathematics written out in PyTorch; their derivatives; errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast import Cell, cell, sigmoid, tanh
from holdfast.cells import CELLS
from holdfast.compiler.differentiate import differentiate
from holdfast.compiler.emit import eager
from holdfast.compiler.graph import Graph, Node, reach
from holdfast.compiler.vary import ACTIVATIONS, Variation, vary
from holdfast.errors import CellError
from tests.emit.problems import bent, problem, variations
from tests.emit.user_cells import ALL_CELLS, CORE
from tests.graph.equations import STEPS, TORCH, Plain
from tests.helpers import Shape, assert_same

SHAPE = Shape(3, 1, 4, 5)
HERE = {name: CELLS[name] for name in CORE}


def test_every_activation_has_its_equation_here() -> None:
    assert set(TORCH) - {bent} == set(ACTIVATIONS)


SITES = {
    "lstm": {"gate", "candidate", "output"},
    "lstm_1997_plain": {"gate", "output"},
    "peephole": {"gate", "candidate", "output"},
    "coupled": {"gate", "candidate", "output"},
    "gru": {"gate", "candidate"},
    "gru_2014": {"gate", "candidate"},
    "rnn": {"candidate"},
    "rnn_relu": {"candidate"},
}


def test_the_cells_that_are_varied_have_their_equations_here() -> None:
    assert set(STEPS) == set(SITES) == set(CORE)


@pytest.mark.parametrize("name", SITES)
def test_a_cell_takes_the_variations_it_has_a_place_for(name: str) -> None:
    everything = set(variations(CELLS["lstm"]))
    missing = everything - set(variations(CELLS[name]))
    expected = set()
    if "gate" not in SITES[name]:
        expected |= {one for one in everything if one.startswith("gate_")} | {"user_gate"}
    if "candidate" not in SITES[name]:
        expected |= {one for one in everything if one.startswith("candidate_")}
        expected |= {"user_candidate", "candidate_mask", "masks"}
    if "output" not in SITES[name]:
        expected.add("user_output")
    if name == "gru_2014":
        expected |= {"layer_norm", "layer_norm_only", "masks_norm"}
    assert missing == expected


def _every(cells: Mapping[str, Cell]) -> list[Any]:
    return [
        pytest.param(made, options, id=f"{made.name}-{name}")
        for made in cells.values()
        for name, options in variations(made).items()
    ]


EVERY = pytest.mark.parametrize(("base", "options"), _every(HERE))
CELL = pytest.mark.parametrize("base", HERE.values(), ids=lambda made: made.name)


def _masks(made: Cell, rows: int, units: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Multipliers that are all different, so that the masks of evaluation are covered as well."""
    return {
        mask.name: torch.rand((rows, units), generator=generator, dtype=torch.float64)
        for mask in made.masks
    }


@EVERY
def test_one_step_is_its_equations(
    base: Cell, options: Variation, generator: torch.Generator
) -> None:
    made = vary(base, options)
    given = problem(made, SHAPE, generator)
    masks = _masks(made, SHAPE.B, SHAPE.H, generator)
    h, states = eager.step(made, given.x[0], given.parameters, given.h, given.states, masks)
    plain = Plain(base, options, given.parameters, masks)
    new, news = STEPS[base.name](plain, given.x[0], given.h, given.states)
    news = tuple(
        plain.zoned(name, one, old)
        for name, one, old in zip(base.states, news, given.states, strict=True)
    )
    new = plain.zoned("h", new, given.h)
    assert_same((h, *states), (new, *news), "values")
    incoming = [torch.rand(new.shape, generator=generator, dtype=new.dtype) for _ in (h, *states)]
    found = given.gradients((h, *states), incoming)
    assert_same(found, given.gradients((new, *news), incoming), "gradients")


@CELL
def test_the_default_changes_nothing(base: Cell) -> None:
    assert vary(base, Variation()) is base


@EVERY
def test_equal_variations_give_the_same_cell(base: Cell, options: Variation) -> None:
    again = replace(options)
    assert again is not options
    assert vary(base, again) is vary(base, options)


@CELL
def test_other_mathematics_has_another_key(base: Cell) -> None:
    made = {name: vary(base, options) for name, options in variations(base).items()}
    keys: dict[str, list[str]] = {}
    for name, one in made.items():
        keys.setdefault(one.key, []).append(name)
    for names in keys.values():
        kinds = {name.partition("_")[0] for name in names}
        same = [made[name].graph.text() for name in names]
        assert len(set(same)) == 1, f"{names} share a key"
        assert kinds <= {"candidate", "gate"} or len(names) == 1 or not base.states, names


def test_keys_tell_numbers_masks_and_equal_functions() -> None:
    lstm = CELLS["lstm"]

    def key(**options: Any) -> str:
        return vary(lstm, Variation(**options)).key

    keys = [
        lstm.key,
        key(clip=1.0),
        key(clip=2.0),
        key(state_clip=1.0),
        key(recurrent_mask=True),
        key(candidate_mask=True),
        key(zoneout=("h",)),
        key(zoneout=("c",)),
        key(zoneout=("h", "c")),
        key(layer_norm=True),
        key(layer_norm=True, norm_bias=False),
        key(diagonal=True),
    ]
    assert len(set(keys)) == len(keys)
    first = key(activations=(("gate", lambda x: x / (1.0 + abs(x))),))
    assert first == key(activations=(("gate", "softsign"),))


def test_a_varied_cell_says_what_it_needs() -> None:
    lstm = CELLS["lstm"]
    made = vary(lstm, Variation(recurrent_mask=True, candidate_mask=True, zoneout=("h", "c")))
    assert [(mask.name, mask.per_step) for mask in made.masks] == [
        ("candidate", True),
        ("zoneout_h", True),
        ("zoneout_c", True),
        ("recurrent", False),
    ]
    assert made.operand == "recurrent"
    assert made.shapes(3, 5) == lstm.shapes(3, 5)
    assert vary(lstm, Variation(diagonal=True, recurrent_mask=True)).operand == ""
    shapes = vary(lstm, Variation(diagonal=True)).shapes(3, 5)
    assert shapes == {
        "weight_ih": (20, 3),
        "bias_ih": (20,),
        **{f"u_{gate}": (5,) for gate in "ifgo"},
    }
    shapes = vary(lstm, Variation(layer_norm=True)).shapes(3, 5)
    vectors = [f"gain_{side}_{gate}" for side in ("ih", "hh") for gate in "ifgo"]
    vectors += [f"bias_{gate}" for gate in "ifgo"] + ["gain_c", "bias_c"]
    assert shapes.pop("weight_ih") == (20, 3)
    assert shapes.pop("weight_hh") == (20, 5)
    assert shapes == dict.fromkeys(vectors, (5,))


Leaves = dict[tuple[str, str], Tensor]


def _values(roots: Sequence[Node], leaves: Leaves, matrices: Mapping[str, Tensor]) -> list[Tensor]:
    """Nodes from leaves `[rows, H]`; a gate that is called has its R, `[H, H]`."""
    found: dict[Node, Tensor] = {}
    like = next(iter(leaves.values()))
    for node in reach(roots):
        inputs = [found[child] for child in node.inputs]
        if node.op == "const":
            found[node] = torch.tensor(node.value, dtype=torch.float64)
        elif node.leaf:
            found[node] = leaves[node.op, node.name]
        elif node.op == "affine":
            operand = inputs[0].expand_as(like)
            found[node] = leaves["gate", node.name] + operand @ matrices[node.name].T
        elif node.op == "through":
            found[node] = inputs[0].expand_as(like) @ matrices[node.name]
        else:
            found[node] = eager.SPELLINGS[node.op](*inputs)
    return [found[root].expand_as(like) for root in roots]


def _leaves(forward: Graph, generator: torch.Generator) -> Leaves:
    kinds = [node for node in forward.nodes() if node.owned and node.op != "const"]
    return {
        ("gate" if node.op == "affine" else node.op, node.name): (
            2 * torch.rand((3, 7), generator=generator, dtype=torch.float64) - 1
        ).requires_grad_()
        for node in kinds
    }


USER = ("three_states", "taken_apart", "terms", "bare", "shifting", "restarting")


@pytest.mark.parametrize(
    ("base", "options"), _every({**HERE, **{name: ALL_CELLS[name] for name in USER}})
)
def test_the_backward_step_is_the_derivative(
    base: Cell, options: Variation, generator: torch.Generator
) -> None:
    """Rows of several units each, because a mean looks at all units of a row and at no other."""
    made = vary(base, options)
    forward = made.graph
    backward = differentiate(
        forward,
        [one.leaf for one in made.accumulators],
        ("h", *made.states),
        made.weights,
    )
    leaves = _leaves(forward, generator)
    matrices = {
        node.name: torch.rand((7, 7), generator=generator, dtype=torch.float64) - 0.5
        for node in forward.nodes()
        if node.op == "affine"
    }
    incoming = {
        ("grad", f"d_{name}"): torch.rand((3, 7), generator=generator, dtype=torch.float64) - 0.4
        for name in forward.outputs
    }
    results = _values(list(forward.outputs.values()), leaves, matrices)
    pairs = [pair for pair in zip(results, incoming.values(), strict=True) if pair[0].requires_grad]
    wanted = torch.autograd.grad(
        [result for result, _ in pairs],
        list(leaves.values()),
        [gradient for _, gradient in pairs],
        allow_unused=True,
    )
    reference = dict(zip(leaves, wanted, strict=True))
    found = _values(list(backward.outputs.values()), leaves | incoming, matrices)
    zero = torch.zeros(3, 7, dtype=torch.float64)
    for name, value in zip(backward.outputs, found, strict=True):
        kind, _, leaf = name.removeprefix("d_").partition(" ")
        gradient = reference.get((kind, leaf))
        assert_same(value, zero if gradient is None else gradient, name)


def _number(x: Any) -> Any:
    return 1.0


def _branch(x: Any) -> Any:
    return x if x else 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Variation(zoneout=("m",)), "no state m for zoneout; it has h, c"),
        (Variation(activations=(("gate", "sigmoyd"),)), "no activation named 'sigmoyd'"),
        (Variation(activations=(("gates", "tanh"),)), "gates has no place in the cell lstm"),
        (Variation(activations=(("gate", _number),)), "gave 1.0; expected a symbol"),
        (Variation(activations=(("gate", lambda x: x > 0.0),)), "expected a symbol"),
        (Variation(layer_norm=True, diagonal=True), "layer_norm with a diagonal recurrence"),
    ],
)
def test_what_is_not_possible_is_refused(options: Variation, message: str) -> None:
    with pytest.raises(CellError, match=message):
        vary(CELLS["lstm"], options)


def test_a_mask_on_a_candidate_that_is_not_there() -> None:
    with pytest.raises(CellError, match=r"no place in the cell lstm_1997_plain.*: gate, output"):
        vary(CELLS["lstm_1997_plain"], Variation(candidate_mask=True))


def test_an_activation_that_is_no_mathematics() -> None:
    with pytest.raises(CellError, match="where"):
        vary(CELLS["rnn"], Variation(activations=(("candidate", _branch),)))


@cell(gates="a", weights="u_a")
def namesake(a, u_a):
    """A weight with the name that a diagonal recurrence would take."""
    return tanh(a * u_a)


@cell(gates="r n")
def halved(r, n, h):
    """A gate that is called with no other gate in its operand."""
    return sigmoid(r) * tanh(n(0.5 * h))


def test_weights_of_a_variation_are_its_own() -> None:
    try:
        made = vary(namesake, Variation(diagonal=True))
    except CellError:
        return
    assert len(made.weights) == 2


def test_a_gate_that_is_called_is_a_place() -> None:
    assert vary(halved, Variation(candidate_mask=True)).masks


def test_a_variation_of_a_variation(generator: torch.Generator) -> None:
    """Refused, or the same as both at once."""
    first = vary(CELLS["lstm"], Variation(recurrent_mask=True, zoneout=("h",)))
    try:
        made = vary(first, Variation(clip=1.0))
    except CellError:
        return
    both = vary(CELLS["lstm"], Variation(recurrent_mask=True, zoneout=("h",), clip=1.0))
    assert made.masks
    assert made.operand == first.operand
    given, twin = (problem(one, SHAPE, generator) for one in (made, both))
    twin = given._replace(cell=both)
    assert_same(given.run("eager"), twin.run("eager"))


def test_every_new_state_is_clipped(generator: torch.Generator) -> None:
    made = vary(ALL_CELLS["shifting"], Variation(state_clip=0.01))
    given = problem(made, SHAPE, generator)
    for state in given.run("eager")[2:]:
        assert state.abs().max() <= 0.01


@pytest.mark.parametrize("options", [Variation(clip=-1.0), Variation(state_clip=-1.0)])
def test_bounds_are_positive(options: Variation) -> None:
    with pytest.raises(CellError):
        vary(CELLS["lstm"], options)


def test_a_state_is_zoned_out_once() -> None:
    twice, once = Variation(zoneout=("h", "h")), Variation(zoneout=("h",))
    try:
        made = vary(CELLS["lstm"], twice)
    except CellError:
        return
    assert made.key == vary(CELLS["lstm"], once).key
