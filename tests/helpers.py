"""What tests share: the one comparison, awkward sizes, and weights that are all different."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import pytest
import torch
from torch import Tensor, nn

# A result may differ from its reference, element by element, by at most
#     rtol * |reference| + atol * max|reference| + eps,
# where eps is the dtype's machine epsilon. Every target rounds a long recurrence in its own order,
# so float32 has room for sums over hundreds of terms; no confusion of two gates fits into it. That
# of bfloat16 is for results of another dtype whose products had such factors.
TOLERANCE = {
    torch.float64: (1e-9, 1e-11),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (1e-2, 1e-2),
}


class Shape(NamedTuple):
    """One problem size; its text, such as ``B3-T63-I17-H100``, is the id of the test."""

    B: int
    T: int
    I: int
    H: int

    def __str__(self) -> str:
        return f"B{self.B}-T{self.T}-I{self.I}-H{self.H}"


# Fifteen sizes instead of 135, in which nearly every pair of values of two letters still meets.
SIZES = (
    Shape(1, 1, 1, 1),
    Shape(1, 1, 3, 5),
    Shape(1, 2, 17, 16),
    Shape(1, 63, 3, 64),
    Shape(1, 2, 1, 100),
    Shape(3, 2, 3, 1),
    Shape(3, 63, 1, 5),
    Shape(3, 1, 17, 64),
    Shape(3, 2, 1, 16),
    Shape(3, 63, 17, 100),
    Shape(8, 63, 17, 1),
    Shape(8, 2, 17, 5),
    Shape(8, 1, 3, 16),
    Shape(8, 2, 1, 64),
    Shape(8, 1, 3, 100),
)
SHAPES = [pytest.param(shape, id=str(shape)) for shape in SIZES]


Module = TypeVar("Module", bound=nn.Module)


def unequal_(module: Module, generator: torch.Generator) -> Module:
    """Give every parameter different random weights, so that swapped gates are seen.

    Returns `module`. Matrices are scaled by their columns (a long recurrence neither dies nor
    explodes), vectors lie in (-1/2, 1/2).
    """
    with torch.no_grad():
        for parameter in module.parameters():
            bound = 0.5 if parameter.dim() < 2 else parameter.shape[-1] ** -0.5
            values = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_((2 * values - 1) * bound)
    return module


def assert_same(
    actual: Any,
    reference: Any,
    what: str = "",
    *,
    dtype: torch.dtype | None = None,
    factors: torch.dtype | None = None,
) -> None:
    """Fail unless `actual` has the structure, shape, dtype, NaNs and values of `reference`.

    Tensors, NumPy arrays, numbers and None may be nested in tuples, lists and dicts. `dtype` is the
    dtype that `actual` must have when the reference was computed in another one; without it both
    must agree. Values agree within `TOLERANCE`, that of `factors` where products had factors of
    fewer bits; integers and booleans exactly.
    """
    where = what or "result"
    if isinstance(reference, Mapping):
        _require(
            isinstance(actual, Mapping), where, f"got {type(actual).__name__}, expected a dict"
        )
        missing = sorted(map(repr, reference.keys() ^ actual.keys()))
        _require(not missing, where, f"these keys stand on one side only: {', '.join(missing)}")
        for key in reference:
            assert_same(
                actual[key], reference[key], f"{where}[{key!r}]", dtype=dtype, factors=factors
            )
    elif isinstance(reference, (tuple, list)):
        _require(
            isinstance(actual, (tuple, list)),
            where,
            f"got {type(actual).__name__}, expected {len(reference)} items",
        )
        got, expected = len(actual), len(reference)
        _require(got == expected, where, f"got {got} items, expected {expected}")
        for index, (mine, theirs) in enumerate(zip(actual, reference, strict=True)):
            assert_same(mine, theirs, f"{where}[{index}]", dtype=dtype, factors=factors)
    elif reference is None or actual is None:
        _require(actual is reference, where, f"got {actual!r}, expected {reference!r}")
    else:
        found = (torch.as_tensor(actual), torch.as_tensor(reference))
        _compare(*found, where, dtype, factors)


def _require(truth: bool, where: str, message: str) -> None:
    if not truth:
        raise AssertionError(f"{where}: {message}")


def _compare(
    actual: Tensor,
    reference: Tensor,
    where: str,
    dtype: torch.dtype | None,
    factors: torch.dtype | None,
) -> None:
    expected = dtype or reference.dtype
    _require(actual.dtype == expected, where, f"got dtype {actual.dtype}, expected {expected}")
    got, wanted = tuple(actual.shape), tuple(reference.shape)
    _require(got == wanted, where, f"got shape {got}, expected {wanted}")
    if not (expected.is_floating_point and reference.dtype.is_floating_point):
        wrong = int((actual != reference).sum())
        _require(wrong == 0, where, f"{wrong} of {actual.numel()} values differ")
        return
    mine = actual.detach().to("cpu", torch.float64).flatten()
    theirs = reference.detach().to("cpu", torch.float64).flatten()
    for name, of in (("NaN", torch.isnan), ("infinite", torch.isinf)):
        odd = int((of(mine) != of(theirs)).sum())
        _require(odd == 0, where, f"{odd} of {mine.numel()} values are {name} on one side only")
    opposite = int((mine[theirs.isinf()] != theirs[theirs.isinf()]).sum())
    _require(opposite == 0, where, f"{opposite} infinite values have the other sign")
    _compare_finite(mine[theirs.isfinite()], theirs[theirs.isfinite()], where, factors or expected)


def _compare_finite(mine: Tensor, theirs: Tensor, where: str, dtype: torch.dtype) -> None:
    if not theirs.numel():
        return
    rtol, atol = TOLERANCE[dtype]
    distance = (mine - theirs).abs()
    scale = theirs.abs().max()
    allowed = rtol * theirs.abs() + atol * scale + torch.finfo(dtype).eps
    wrong = distance > allowed
    if wrong.any():
        worst = int((distance / allowed).argmax())
        raise AssertionError(
            f"{where}: {int(wrong.sum())} of {wrong.numel()} values differ; largest distance "
            f"{distance.max():.3g}, relative to the largest value {distance.max() / scale:.3g}; "
            f"worst at flat index {worst}: got {mine[worst]:.9g}, expected {theirs[worst]:.9g}"
        )
