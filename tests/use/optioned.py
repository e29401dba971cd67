"""What the tests of transforms share: layers with many options, and calls with everything."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn import LSTM
from tests.helpers import unequal_
from tests.use.layers import drawn

T, B, I, H = 4, 3, 2, 4
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "masks": {
        "input_dropout": 0.25,
        "output_dropout": 0.25,
        "recurrent_dropout": 0.25,
        "zoneout": 0.25,
    },
    "candidate": {
        "recurrent_dropout": 0.25,
        "recurrent_dropout_on": "candidate",
        "weight_dropout": 0.25,
    },
    "norm": {"layer_norm": True, "learned_start": True, "clip": 1.5, "state_clip": 1.0},
    "two": {
        "num_layers": 2,
        "bidirectional": True,
        "merge": "sum",
        "residual": True,
        "zoneout": 0.25,
    },
    "highway": {"num_layers": 2, "highway": True, "layer_norm": True},
    "heads": {"recurrence": 2, "zoneout": {"c": 0.25}},
    "diagonal": {"recurrence": "diagonal", "recurrent_dropout": 0.25},
    "projection": {"proj_size": 2, "zoneout": {"c": 0.25}},
    "sizes": {"hidden_size": [4, 6], "bidirectional": True, "output_dropout": 0.25},
}
"""Options by the name of the test's case; together they hold nearly every one."""
LENGTHS = torch.tensor([4, 0, 3])
RESETS = torch.tensor([[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]], dtype=torch.bool)
CALL: dict[str, Any] = {"lengths": LENGTHS, "resets": RESETS, "seed": 3}
"""Everything that a call can be given, with the same masks each time."""


def every(*left_out: str) -> Any:
    """A test for each case but some."""
    return pytest.mark.parametrize("case", [name for name in OPTIONS if name not in left_out])


def made(
    case: str,
    generator: torch.Generator,
    dtype: torch.dtype = torch.float64,
    **more: Any,
) -> Any:
    """A layer of I inputs with the options of a case and unequal weights."""
    options = {"hidden_size": H, **OPTIONS[case], **more}
    return unequal_(LSTM(I, dtype=dtype, **options), generator)


def inputs(
    generator: torch.Generator, dtype: torch.dtype = torch.float64, T: int = T, B: int = B
) -> Tensor:
    """An input `[T, B, I]`."""
    return drawn((T, B, I), generator, dtype)
