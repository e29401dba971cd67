"""Every cell of the catalogue: what its file says, and the compiled target at two small sizes.

A new file in `holdfast/cells` has its rows here by itself. The grid of sizes of
`test_matches_eager.py` is slow but for a few cells; this is what each of them must pass at once.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast import Cell, show
from holdfast.cells import CELLS
from holdfast.compiler import cell as definitions
from holdfast.nn import Recurrent, checks
from tests.conftest import ROOT
from tests.emit.compare import compare, compiled, ragged_lengths
from tests.emit.problems import fit, problem
from tests.helpers import Shape, assert_same, unequal_
from tests.test_docs import blocks

CELL = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
SMALL = Shape(3, 2, 3, 5)


def counted(formula: str, I: int, H: int) -> int:
    """The value of a formula such as `3 (I H + H^2) + 4 H`, where factors stand side by side."""
    parts = re.findall(r"\d+|[IH]|[-+/^()]", formula)
    assert "".join(parts) == formula.replace(" ", ""), f"{formula!r} is no formula in I and H"
    spelled = ""
    for before, part in zip(["(", *parts], parts, strict=False):
        factors = re.fullmatch(r"[\dIH(]+", part) and re.fullmatch(r"[\dIH)]+", before)
        spelled += ("*" if factors else "") + ("**" if part == "^" else part)
    value = eval(spelled, {"I": I, "H": H})
    assert value == int(value), f"{formula!r} is {value} at I={I}, H={H}"
    return int(value)


def test_formulas_are_read_as_they_are_written() -> None:
    assert counted("4 (I H + H^2 + H) + 3 H", 3, 5) == 4 * (15 + 25 + 5) + 15
    assert counted("I H + 12 I + (H/2) (I + 1)", 3, 4) == 12 + 36 + 8
    for wrong in ("4 (I H + N)", "I * H"):
        with pytest.raises(AssertionError, match="is no formula"):
            counted(wrong, 3, 5)


@CELL
def test_a_cell_says_what_it_is_and_where_it_comes_from(cell: Cell) -> None:
    first, blank, *rest = cell.doc.splitlines()
    assert re.fullmatch(r"[A-Z][^:]*: \w.*\b(19|20)\d\d.*\.", first), (
        f'{cell.name}: got {first!r}, expected "What it is: Authors year[, where]."'
    )
    assert not blank
    assert "h = " in cell.doc, f"{cell.name} does not write down its equations"
    assert f"def {cell.name}(" in cell.source
    formulas = [line for line in rest if line.startswith("Parameters: ")]
    assert len(formulas) == 1, f"{cell.name} has {len(formulas)} lines `Parameters: FORMULA`"
    for I, H in ((3, fit(cell, 5)), (7, fit(cell, 2))):
        expected = counted(formulas[0].removeprefix("Parameters: "), I, H)
        assert cell.count(I, H) == expected, f"{cell.name} at I={I}, H={H}: {formulas[0]}"


@CELL
def test_a_layer_takes_a_cell_by_name(cell: Cell, generator: torch.Generator) -> None:
    assert show.find_cell(cell.name) is cell
    assert f"\n{cell.name} " in show.catalogue()
    H = fit(cell, SMALL.H)
    layer = Recurrent(cell.name, SMALL.I, H, dtype=torch.float64)
    assert layer.cell is cell
    assert layer.backend == "llvm", layer.backend_reason
    # As many rows as below, so that both run the same kernels.
    x = torch.randn((40, SMALL.B, SMALL.I), generator=generator, dtype=torch.float64)
    extra = {name: x.new_full((40, SMALL.B), 0.5) for name in cell.inputs if name != "x"}
    out, _ = layer(x, extra=extra)
    out.sum().backward()
    for what, value in (("out", out), *((n, p.grad) for n, p in layer.named_parameters())):
        assert value is not None
        assert torch.isfinite(value).all(), f"{what} of a new layer"


KINDS = [
    pytest.param(
        cell,
        dtype,
        id=f"{name}-{str(dtype).removeprefix('torch.')}",
        # Every kernel is compiled for the test; those of the other dtype are nearly the same.
        marks=pytest.mark.slow if dtype == torch.float32 and number % 4 else (),
    )
    for number, (name, cell) in enumerate(CELLS.items())
    for dtype in (torch.float64, torch.float32)
]


@pytest.mark.parametrize(("cell", "dtype"), KINDS)
def test_the_compiled_cell_is_its_definition(
    cell: Cell, dtype: torch.dtype, generator: torch.Generator
) -> None:
    given = problem(cell, SMALL, generator, dtype)
    compiled(given)
    compare(given, generator)
    compare(given, generator, lengths=ragged_lengths(SMALL, generator))


@CELL
def test_gradients_are_those_of_finite_differences(cell: Cell, generator: torch.Generator) -> None:
    given = problem(cell, SMALL, generator)
    compiled(given)

    def run(*inputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(given.with_inputs(inputs).run("llvm", sequences=True))

    assert torch.autograd.gradcheck(run, given.inputs)


def test_the_option_of_a_layer_is_the_layer_norm_lstm(generator: torch.Generator) -> None:
    layer = Recurrent("layer_norm_lstm", 3, 5, dtype=torch.float64)
    begun = layer.state_dict()
    assert_same(begun["gain_ih_f_l0"], torch.ones(5, dtype=torch.float64))
    assert_same(begun["bias_c_l0"], torch.zeros(5, dtype=torch.float64))
    unequal_(layer, generator)
    option = Recurrent("lstm", 3, 5, layer_norm=True, dtype=torch.float64)
    option.load_state_dict(layer.state_dict())
    x = torch.randn((4, 2, 3), generator=generator, dtype=torch.float64)
    assert_same(option(x), layer(x))


def test_the_recipe_for_a_new_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    """The file that CONTRIBUTING.md shows, in a copy of the catalogue, passes all of the above."""
    shutil.copytree(ROOT / "holdfast" / "cells", tmp_path / "grown")
    first = next(one for one in blocks(ROOT / "CONTRIBUTING.md") if "@cell" in one.text)
    (tmp_path / "grown" / "ugrnn.py").write_text(first.text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(definitions, "_known", dict(definitions._known))
    grown = importlib.import_module("grown")
    assert set(grown.CELLS) == {*CELLS, "ugrnn"}
    for module in (show, checks):
        monkeypatch.setattr(module, "CELLS", grown.CELLS)
    assert grown.ugrnn is grown.CELLS["ugrnn"]
    test_a_cell_says_what_it_is_and_where_it_comes_from(grown.ugrnn)
    test_a_layer_takes_a_cell_by_name(grown.ugrnn, generator)
    test_the_compiled_cell_is_its_definition(grown.ugrnn, torch.float64, generator)
    test_gradients_are_those_of_finite_differences(grown.ugrnn, generator)


def test_the_page_has_every_cell() -> None:
    page = ROOT / "docs" / "cells.md"
    rows = ["| cell | states | parameters | what it is |", "|---|---|---|---|"]
    for name, cell in CELLS.items():
        formula = re.search(r"^Parameters: (.+)$", cell.doc, re.MULTILINE)
        assert formula, f"{name} has no line `Parameters: FORMULA`"
        what = cell.doc.splitlines()[0].removesuffix(".")
        rows.append(f"| `{name}` | {' '.join(show.memories(cell))} | {formula[1]} | {what} |")
    table, text = "".join(f"{row}\n" for row in rows), page.read_text(encoding="utf-8")
    if os.environ.get("HOLDFAST_ACCEPT") == "1":
        text = re.sub(r"^\| cell \|.*\n(\|.*\n)*", lambda _: table, text, flags=re.MULTILINE)
        page.write_text(text, encoding="utf-8")
    assert f"\n\n{table}\n" in text, "the table of docs/cells.md is old; see HOLDFAST_ACCEPT=1"


def test_a_file_holds_cells_of_its_name() -> None:
    for name, cell in CELLS.items():
        file = cell.function.__module__.rpartition(".")[2]
        assert f"{name}_".startswith(f"{file}_"), f"{file}.py holds {name}"


def test_a_file_is_imported_when_it_is_needed() -> None:
    script = (
        "import sys, holdfast\n"
        "loaded = lambda: {m for m in sys.modules if m.startswith('holdfast.cells.')}\n"
        "assert 'holdfast.cells.lstm_1997' not in loaded()\n"
        "from holdfast.cells.lstm_1997 import lstm_1997 as first\n"
        "from holdfast.cells import lstm_1997 as again, CELLS\n"
        "assert again is first is CELLS['lstm_1997'], again\n"
        "assert not hasattr(holdfast.cells, 'lstm_2097')\n"
        "from holdfast.nn.library import _cell\n"
        f"assert _cell({CELLS['rnn_relu'].key!r}).name == 'rnn_relu'\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, check=True)
