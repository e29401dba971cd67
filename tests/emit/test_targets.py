"""Code for other processors assembles, and code of their shapes gives the right numbers here.

The named targets are emitted and assembled on any machine. Their vector widths and numbers of
registers are also run: LLVM splits vectors that are wider than the processor's.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler import build
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit import llvm as emit
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.compiler.emit.llvm_outer import ORDERS, emit_outer, outer_tile
from holdfast.compiler.emit.target import TARGETS, host
from holdfast.errors import BuildError
from tests.emit.fresh import fresh
from tests.emit.problems import Problem, problem
from tests.emit.user_cells import CORE
from tests.helpers import Shape, assert_same

KINDS = (torch.float32, torch.float64)
UNITS = (5, 64)
STRIDE = 23
"""One in so many combinations runs by default."""

MACHINES = {"avx2": 62, "avx512": 62, "neon": 183}
"""The number of each processor's family in the head of an ELF object."""

PRODUCTS = {
    "avx2": r"vfmadd\d+p[sd]\s.*%ymm\d+",
    "avx512": r"vfmadd\d+p[sd]\s.*%zmm\d+",
    "neon": r"fmla\s+v\d+\.(4s|2d)",
}
"""A fused multiply-add on a whole register of each target."""

STRANGE = {
    "avx2": r"%zmm|%[xyz]mm(1[6-9]|[23]\d)",
    "avx512": r"%[xyz]mm3[2-9]",
    "neon": r"%[xyz]mm",
}
"""Registers that each target lacks."""


def _combinations() -> list[Any]:
    every = [
        (target, cell, mode, dtype, H)
        for target in TARGETS
        for cell in CORE
        for mode in emit.MODES
        for dtype in KINDS
        for H in UNITS
    ]
    combined = []
    for number, (target, cell, mode, dtype, H) in enumerate(every):
        name = f"{target}-{cell}-{mode}-{str(dtype).removeprefix('torch.')}-H{H}"
        marks = () if number % STRIDE == 0 else (pytest.mark.slow,)
        combined.append(pytest.param(target, cell, mode, dtype, H, id=name, marks=marks))
    return combined


def _assemble(text: str, target: str, *, assembly: bool = False) -> bytes:
    try:
        return build.assemble(text, TARGETS[target], assembly=assembly)
    except BuildError as error:
        if "cannot emit for" not in str(error):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize(("target", "cell", "mode", "dtype", "H"), _combinations())
def test_every_kernel_assembles(
    target: str, cell: str, mode: str, dtype: torch.dtype, H: int
) -> None:
    plan = build.planned(CELLS[cell])
    text = emit.emit(plan, mode, emit.FORMATS[dtype], Sizes(3, H), TARGETS[target])
    code = _assemble(text, target)
    assert code.startswith(b"\x7fELF")
    assert int.from_bytes(code[18:20], "little") == MACHINES[target]
    assert b"\0whole\0" in code
    assert b"\0part\0" in code


@pytest.mark.parametrize("dtype", KINDS, ids=["float32", "float64"])
@pytest.mark.parametrize("mode", ["infer", "backward"])
@pytest.mark.parametrize("target", TARGETS)
def test_products_use_the_registers_of_the_target(
    target: str, mode: str, dtype: torch.dtype
) -> None:
    plan = build.planned(CELLS["lstm"])
    text = emit.emit(plan, mode, emit.FORMATS[dtype], Sizes(3, 64), TARGETS[target])
    assembly = _assemble(text, target, assembly=True).decode()
    # At least one for each sum, row and vector of a tile.
    tile = emit.kernel_tile(plan, mode, emit.FORMATS[dtype], Sizes(3, 64), TARGETS[target])
    found = re.findall(PRODUCTS[target], assembly)
    assert len(found) >= tile.rows * tile.vectors
    strange = re.search(STRANGE[target], assembly)
    assert strange is None, f"{target} has no register {strange and strange[0]}"


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("target", TARGETS)
def test_products_after_the_loop_use_the_registers_of_the_target(
    target: str, order: str, dtype: torch.dtype
) -> None:
    text = emit_outer(order, emit.FORMATS[dtype], TARGETS[target])
    assembly = _assemble(text, target, assembly=True).decode()
    tile = outer_tile(emit.FORMATS[dtype], TARGETS[target])
    assert len(re.findall(PRODUCTS[target], assembly)) >= tile.rows * tile.vectors
    strange = re.search(STRANGE[target], assembly)
    assert strange is None, f"{target} has no register {strange and strange[0]}"


@pytest.mark.parametrize("target", TARGETS)
def test_stages_of_another_target(target: str) -> None:
    stages = build.stages(CELLS["rnn"], "infer", hidden_size=64, target=TARGETS[target])
    assert tuple(stages) == build.STAGES
    assert TARGETS[target].triple in stages["llvm"]
    lanes = TARGETS[target].vector_bytes // 4
    assert f"<{lanes} x float>" in stages["llvm"].replace("< ", "<")
    assert re.search(PRODUCTS[target], stages["asm"])


def test_an_unknown_processor_family_is_refused() -> None:
    unknown = replace(TARGETS["avx2"], triple="abacus-unknown-linux-gnu")
    with pytest.raises(BuildError, match="abacus"):
        build.assemble("", unknown)


def test_wrong_text_is_refused() -> None:
    with pytest.raises(BuildError, match="LLVM refuses"):
        build.assemble("define void @f( {", host())


WIDTHS = [
    pytest.param(16, 16, id="sse"),
    pytest.param(16, 32, id="neon"),
    pytest.param(32, 16, id="avx2"),
    pytest.param(64, 32, id="avx512"),
]


def _double(given: Problem) -> Problem:
    def copy(tensor: Tensor) -> Tensor:
        return tensor.detach().double().requires_grad_()

    parameters = {name: copy(value) for name, value in given.parameters.items()}
    states = tuple(map(copy, given.states))
    return given._replace(x=copy(given.x), parameters=parameters, h=copy(given.h), states=states)


def _compare(given: Problem, generator: torch.Generator, lengths: Tensor | None) -> None:
    twin = _double(given)
    outputs = given.run("llvm", lengths=lengths)
    reference = twin.run("eager", lengths=lengths)
    dtype = given.x.dtype
    assert_same(outputs, reference, "training", dtype=dtype)
    incoming = [torch.rand(one.shape, generator=generator).to(dtype) - 0.3 for one in outputs]
    wanted = twin.gradients(reference, [one.double() for one in incoming])
    assert_same(given.gradients(outputs, incoming), wanted, "gradients", dtype=dtype)
    with torch.no_grad():
        assert_same(given.run("llvm", lengths=lengths), reference, "inference", dtype=dtype)


SMALL, WIDE = Shape(7, 4, 3, 21), Shape(13, 3, 5, 32)
OFTEN = (("lstm", SMALL), ("gru", WIDE))
"""The cells and sizes that run by default."""


def _runs() -> list[Any]:
    return [
        pytest.param(
            cell, size, id=f"{name}-{size}", marks=() if (name, size) in OFTEN else pytest.mark.slow
        )
        for name, cell in ((name, CELLS[name]) for name in CORE)
        for size in (SMALL, WIDE)
    ]


@pytest.mark.parametrize(("vector_bytes", "registers"), WIDTHS)
@pytest.mark.parametrize(("cell", "size"), _runs())
def test_kernels_of_other_shapes_run_here(
    cell: Cell,
    size: Shape,
    vector_bytes: int,
    registers: int,
    generator: torch.Generator,
    tmp_path: Path,
) -> None:
    target = replace(host(), vector_bytes=vector_bytes, registers=registers)
    lengths = torch.randint(0, size.T + 1, (size.B,), generator=generator)
    lengths[2] = size.T
    dtype = torch.float32 if size is SMALL else torch.float64
    with fresh(tmp_path, target):
        given = problem(cell, size, generator, dtype)
        _compare(given, generator, None)
        _compare(given, generator, lengths)
        kernel = build.kernel(cell, "infer", dtype, Sizes(size.I, size.H))
    assert kernel.tile.lanes == vector_bytes // dtype.itemsize
