"""The verbs `cells` and `show`: the catalogue, the structures, every stage of a cell as text."""

from __future__ import annotations

import argparse
import json
import types
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any

from holdfast.cells import CELLS
from holdfast.compiler.build import STAGES, stages
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.emit.target import TARGETS
from holdfast.errors import CellError, did_you_mean
from holdfast.nn import structures

WIDTH = 128
"""Inputs and units for which the catalogue counts parameters."""

_DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in FORMATS}


def add_cells(verbs: Any) -> None:
    """``holdfast cells``."""
    parser = verbs.add_parser("cells", help="list the cells of the catalogue, and the structures")
    parser.set_defaults(run=_run_cells)


def add_show(verbs: Any) -> None:
    """``holdfast show CELL --stage STAGE``."""
    parser = verbs.add_parser("show", help="print a stage of a cell, from definition to assembly")
    parser.add_argument(
        "cell", metavar="CELL", help="a cell of the catalogue, or FILE.py:NAME for one of yours"
    )
    parser.add_argument("--stage", choices=STAGES, help="one stage (default: cell to plan)")
    kernel = parser.add_argument_group("of the stages llvm and asm")
    kernel.add_argument("--mode", choices=("infer", "train", "backward"), default="train")
    kernel.add_argument("--dtype", choices=tuple(_DTYPES), default="float32")
    kernel.add_argument("--inputs", type=_count, default=32, metavar="I", help="inputs (32)")
    kernel.add_argument("--hidden", type=_count, default=128, metavar="H", help="units (128)")
    kernel.add_argument(
        "--target", choices=tuple(TARGETS), help="a processor (default: this machine's)"
    )
    parser.set_defaults(run=_run_show)


def find_cell(name: str) -> Cell:
    """A cell of the catalogue by name, or the cell NAME of a Python file as `FILE.py:NAME`.

    >>> find_cell("gru").states
    ()

    The file is run, as `python FILE.py` would.

    Errors: `CellError` when there is no such cell.
    """
    if name in CELLS:
        return CELLS[name]
    path, colon, wanted = name.rpartition(":")
    if not colon or not path.endswith(".py"):
        raise CellError(
            f"there is no cell `{name}`{did_you_mean(name, CELLS)}; `holdfast cells` lists them "
            "all. Name a cell of your own as FILE.py:NAME"
        )
    found = getattr(_load(Path(path)), wanted, None)
    if not isinstance(found, Cell):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise CellError(f"{path} has {kind} named `{wanted}`; expected a cell made with @cell")
    return found


def _load(path: Path) -> Any:
    if not path.is_file():
        raise CellError(f"there is no file {path}; check the path before the colon")
    loader = SourceFileLoader(path.stem, str(path))
    module = types.ModuleType(path.stem)
    module.__file__ = str(path)
    loader.exec_module(module)
    return module


def memories(cell: Cell) -> list[str]:
    """The states of a cell in words: those that carry others on for lags are counted.

    >>> memories(find_cell("fractional_lstm"))
    ['h', 'c', 'd', '+', '24', 'lags']
    """
    own = [name for name in ("h", *cell.states) if name not in cell.carried]
    return [*own, "+", str(len(cell.carried)), "lags"] if cell.carried else own


def catalogue(times: Mapping[str, Mapping[str, float]] | None = None) -> str:
    """One line a cell: name, states, parameters, times over those of `lstm`, and what it is.

    Arguments:
        times: of each cell, over those of `lstm`, by pass: `forward` and `forward+backward`; a dash
            stands where there is none.
    """
    heads = ("cell", "states", f"I=H={WIDTH}", "time", "f+b")
    rows: list[tuple[str, ...]] = [(*heads, "what it is, and where it comes from")]
    for name, cell in CELLS.items():
        known = (times or {}).get(name, {})
        both = (known.get(which) for which in ("forward", "forward+backward"))
        forward, backward = ("-" if time is None else f"{time:.2f}" for time in both)
        states = " ".join(memories(cell))
        what = cell.doc.splitlines()[0].removesuffix(".")
        count = f"{cell.count(WIDTH, WIDTH):,}"
        rows.append((name, states, count, forward, backward, what))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        f"{row[0]:<{wide[0]}}  {row[1]:<{wide[1]}}  {row[2]:>{wide[2]}}  {row[3]:>{wide[3]}}  "
        f"{row[4]:>{wide[4]}}  {row[5]}\n"
        for row in rows
    )


def measured() -> dict[str, Any]:
    """What was measured once, on one machine: `cells` by name with the times of each pass over
    those of `lstm`, and `date`, `cpu`, `threads` and `shape`; only empty `cells` before that.

    >>> "cells" in measured()
    True
    """
    return json.loads((Path(__file__).parent / "cells" / "speed.json").read_text(encoding="utf-8"))


def _run_cells(arguments: argparse.Namespace) -> int:
    found = measured()
    print(catalogue(found["cells"]), end="")
    if found["cells"]:
        print(
            f"\ntime, f+b: forward, and forward + backward, over that of lstm ({found['shape']}, "
            f"{found['threads']} thread(s), {found['cpu']}, {found['date'][:10]})"
        )
    print(f"\n{structures.listing(WIDTH)}", end="")
    return 0


def _run_show(arguments: argparse.Namespace) -> int:
    cell = find_cell(arguments.cell)
    wanted = [arguments.stage] if arguments.stage else STAGES[: STAGES.index("plan") + 1]
    for number, stage in enumerate(wanted):
        texts = stages(
            cell,
            arguments.mode,
            _DTYPES[arguments.dtype],
            arguments.inputs,
            arguments.hidden,
            TARGETS[arguments.target] if arguments.target else None,
            only=stage,
        )
        if not arguments.stage:
            print(f"{'' if number == 0 else chr(10)}# {stage}")
        print(texts[stage].rstrip("\n"))
    return 0


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is below 1")
    return number
