"""The gate: what computes something else than the definition is not measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

TOLERANCE = {torch.float32: (1e-4, 1e-5), torch.float64: (1e-9, 1e-11)}
"""Allowed distance relative to each value, and to the largest value of the tensor: sums over
hundreds of terms."""


class GateError(Exception):
    """A contender gave other numbers than the definition."""


def check(
    contender: str,
    results: Mapping[str, Tensor],
    reference: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
) -> None:
    """Refuse results that are not those of the definition.

    Arguments:
        results: outputs and gradients by name, of a dtype.
        reference: the same from the definition in float64.

    Errors: `GateError`, naming the contender and the tensor.
    """
    if results.keys() != reference.keys():
        raise GateError(f"{contender} gave {sorted(results)}, expected {sorted(reference)}")
    rtol, relative = TOLERANCE[dtype]
    for name, wanted in reference.items():
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        atol = relative * scale + torch.finfo(dtype).eps
        try:
            torch.testing.assert_close(results[name], wanted.to(dtype), rtol=rtol, atol=atol)
        except AssertionError as error:
            reason = " ".join(str(error).split())
            raise GateError(f"{contender}: {name} is not the definition's: {reason}") from error
