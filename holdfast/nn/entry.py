"""What a layer is called with, checked and in the dtype of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.nn import checks
from holdfast.nn.sizes import each

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent


def given(layer: Recurrent, hx: Any, batched: bool) -> tuple[Any, ...] | None:
    """The initial states that the caller gave, a tensor or a tuple of tensors a state."""
    if hx is None:
        return None
    layers = 0 if layer._sizes.equal else layer.num_layers
    initial = checks.as_states(layer._get_name(), hx, layer.cell.states, layers)
    checks.check_state_dims(initial, batched=batched)
    return initial if batched else each(initial, lambda state: state.unsqueeze(1))


def admit(
    layer: Recurrent, x: Tensor, initial: tuple[Any, ...] | None, batch: int, packed: bool
) -> tuple[Tensor, tuple[Any, ...] | None, bool]:
    """Checked input and initial states in the dtype of the weights; is autocast on?"""
    weight = getattr(layer, next(iter(layer._described.shapes)))
    kind = x.device.type
    casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    checks.check_input(x, layer.input_size, weight, packed=packed, casts=casts)
    x = x.to(weight.dtype)
    if initial is None:
        return x, None, casts
    shapes = layer._sizes.states(len(layer.cell.states), batch)
    checks.check_states(initial, shapes, x, casts=casts)
    return x, each(initial, lambda state: state.to(x.dtype)), casts


def narrow(x: Tensor) -> str:
    """How weights are stored for products under autocast, as `passes.Call.narrow`."""
    kind = x.device.type
    return PAIRS if kind == "cpu" and torch.get_autocast_dtype(kind) is torch.bfloat16 else ""
