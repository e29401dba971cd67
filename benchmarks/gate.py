"""The gate: what computes something else than the definition is not measured."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

RTOL = 1e-4
"""Allowed distance relative to each value: float32, sums over hundreds of terms."""

ATOL = 1e-5
"""Allowed distance relative to the largest value of the tensor."""


class GateError(Exception):
    """A contender gave other numbers than the definition."""


def check(contender: str, results: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> None:
    """Refuse results that are not those of the definition.

    Arguments:
        results: outputs and gradients by name, float32.
        reference: the same from the definition in float64.

    Errors: `GateError`, naming the contender and the tensor.
    """
    if results.keys() != reference.keys():
        raise GateError(f"{contender} gave {sorted(results)}, expected {sorted(reference)}")
    for name, wanted in reference.items():
        scale = float(wanted.abs().max()) if wanted.numel() else 0.0
        atol = ATOL * scale + torch.finfo(torch.float32).eps
        try:
            torch.testing.assert_close(results[name], wanted.float(), rtol=RTOL, atol=atol)
        except AssertionError as error:
            reason = " ".join(str(error).split())
            raise GateError(f"{contender}: {name} is not the definition's: {reason}") from error
