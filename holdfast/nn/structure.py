"""What layers with a structure of their own share: named weights, checked arguments, the backend.

A structure is more than a cell over a sequence: its memory is a map, a matrix or a tree, or it is
built from several layers. What it builds from compiled layers is compiled; the rest is PyTorch.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from holdfast.nn import checks
from holdfast.nn.recurrent import Recurrent


class Structure(nn.Module):
    """A layer with weights of its own, layers inside it, or both; it knows what runs it.

    `reason` says why there is no compiled pass; where there are compiled layers inside, they say.
    """

    reason: ClassVar[str] = ""
    _bound: float = 0.0

    def _create_parameters(
        self, shapes: Mapping[str, tuple[int, ...]], bound: float, device: Any, dtype: Any
    ) -> None:
        """Parameters by name and shape, to be drawn from U(-bound, bound)."""
        self._bound = bound
        for name, shape in shapes.items():
            value = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name, nn.Parameter(value))

    def reset_parameters(self) -> None:
        """Draw every parameter anew from U(-1/sqrt(H), 1/sqrt(H)), inner layers included."""
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -self._bound, self._bound)
        for module in self.modules():
            if isinstance(module, Recurrent):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                for parameter in module.parameters():
                    nn.init.uniform_(parameter, -self._bound, self._bound)

    def _selection(self) -> tuple[str, str]:
        inner = [module for module in self.modules() if isinstance(module, Recurrent)]
        if not inner:
            return "eager", self.reason
        found = [pair for module in inner for pair in module.backends]
        return next((pair for pair in found if pair[0] == "eager"), found[0])

    @property
    def backend(self) -> str:
        """`llvm` where every recurrence inside is compiled, `eager` where one runs on PyTorch."""
        return self._selection()[0]

    @property
    def backend_reason(self) -> str:
        """Why `backend` is the one it is."""
        return self._selection()[1]

    def extra_repr(self) -> str:
        """The sizes, and the options that differ from their defaults."""
        words = []
        for name, parameter in inspect.signature(type(self).__init__).parameters.items():
            if name in ("self", "device", "dtype") or not hasattr(self, name):
                continue
            value = getattr(self, name)
            if parameter.default is parameter.empty:
                words.append(str(value))
            elif value != parameter.default and set(_parts(value)) != {parameter.default}:
                words.append(f"{name}={value!r}")
        return ", ".join(words)

    def _admit(
        self,
        input: Any,
        wanted: Sequence[int | None],
        *,
        batch_first: bool | None = None,
    ) -> tuple[Tensor, bool]:
        """The checked input as `[T, B, *wanted]` in the dtype of the weights; was it batched?

        Arguments:
            wanted: the sizes behind time and batch, None for any.
            batch_first: whether the batch stands before the time; by default as the layer says.
        """
        name, like = self._get_name(), next(self.parameters())
        check_tensor(name, "input", input)
        batched = input.dim() == len(wanted) + 2
        if not batched and input.dim() != len(wanted) + 1:
            one, many = len(wanted) + 1, len(wanted) + 2
            raise ValueError(
                f"{name}: Expected input to be {one}D (a single row) or {many}D (a batch), got "
                f"{input.dim()}D instead"
            )
        check_place(name, "input", input, like)
        found = input.shape[input.dim() - len(wanted) :]
        if any(size not in (None, got) for size, got in zip(wanted, found, strict=True)):
            text = ", ".join("any" if size is None else str(size) for size in wanted)
            raise RuntimeError(
                f"{name}: each step of a row must have the sizes [{text}], got {list(found)}"
            )
        x = input if batched else input.unsqueeze(1)
        first = getattr(self, "batch_first", False) if batch_first is None else batch_first
        if batched and first:
            x = x.transpose(0, 1)
        if not x.shape[0]:
            raise RuntimeError(f"{name}: Expected sequence length to be larger than 0")
        return x.to(like.dtype), batched

    def _states(
        self,
        hx: Any,
        names: Sequence[str],
        shapes: Sequence[tuple[int, ...]],
        x: Tensor,
        *,
        batched: bool = True,
        at: int = 1,
    ) -> tuple[Tensor, ...]:
        """The initial states that the caller gave, checked, or zeros.

        Arguments:
            names: of the states, for errors.
            shapes: of each state with its batch dimension, which is number `at`.
        """
        if hx is None:
            return tuple(x.new_zeros(shape) for shape in shapes)
        wanted = f"{self._get_name()}: expected hx to be a tuple ({', '.join(names)}) of tensors"
        if not isinstance(hx, (tuple, list)):
            raise TypeError(f"{wanted}, got {type(hx).__name__}")
        if len(hx) != len(names):
            raise ValueError(f"{wanted}, got {len(hx)} of them")
        for state, shape in zip(hx, shapes, strict=True):
            if not isinstance(state, Tensor):
                raise TypeError(f"{wanted}, got one of {type(state).__name__}")
            dims = len(shape) - (not batched)
            if state.dim() != dims:
                kind = "a batch" if batched else "a single row"
                raise RuntimeError(f"{wanted}, for {kind} one of {dims}-D, got {state.dim()}-D")
        given = tuple(state if batched else state.unsqueeze(at) for state in hx)
        checks.check_states(given, [[shape] for shape in shapes], x, casts=casts(x))
        return tuple(state.to(x.dtype) for state in given)

    def _deliver(self, out: Tensor, batched: bool) -> Tensor:
        """`[T, B, ...]` in the order in which the input came."""
        if not batched:
            return out.squeeze(1)
        return out.transpose(0, 1) if getattr(self, "batch_first", False) else out


def _parts(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def casts(x: Tensor) -> bool:
    """Whether autocast is on for the device of `x`."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def calm(x: Tensor) -> contextlib.AbstractContextManager[Any]:
    """Operations in the dtype of the weights, which autocast leaves alone."""
    if casts(x):
        return torch.autocast(x.device.type, enabled=False)
    return contextlib.nullcontext()


def check_tensor(name: str, what: str, value: Any) -> None:
    """Refuse what is not a tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected {what} to be a Tensor, got {type(value).__name__}")


def check_place(name: str, what: str, x: Tensor, like: Tensor) -> None:
    """Refuse a dtype, unless autocast is on, and a device other than those of the weights."""
    if x.dtype != like.dtype and not casts(x):
        raise ValueError(
            f"{name}: the dtype of {what} ({x.dtype}) does not match that of the weights "
            f"({like.dtype}). Convert it: {what}.to({like.dtype}), or the layer: "
            f"layer.to({x.dtype})"
        )
    if x.device != like.device:
        raise RuntimeError(
            f"{name}: {what} is on {x.device}, the weights are on {like.device}; move one of them"
        )


def check_flags(**flags: Any) -> None:
    """Refuse what is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name} should be of type bool, got: {type(flag).__name__}")


def valid_steps(lengths: Tensor | None, steps: int) -> list[Tensor | None]:
    """For each step which rows are still valid, `[B]`; None where all are."""
    if lengths is None:
        return [None] * steps
    t = torch.arange(steps, device=lengths.device).unsqueeze(1)
    return list((t < lengths).unbind(0))


def hold(valid: Tensor | None, new: Tensor, old: Tensor) -> Tensor:
    """`new` in the rows that are valid, `old` in the others; rows are the first dimension."""
    if valid is None:
        return new
    return torch.where(valid.view(-1, *(1,) * (new.dim() - 1)), new, old)


def blank(out: Tensor, lengths: Tensor | None) -> Tensor:
    """`[T, B, ...]` with zeros beyond the end of each row."""
    if lengths is None:
        return out
    t = torch.arange(out.shape[0], device=out.device).unsqueeze(1)
    valid = (t < lengths).view(*out.shape[:2], *(1,) * (out.dim() - 2))
    return torch.where(valid, out, 0.0)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that would give the inner layers another width or a second direction."""
    for option in ("bidirectional", "proj_size", "merge"):
        if option in options:
            raise TypeError(
                f"{name}: {option} is no option of the layers inside; take holdfast.nn.LSTM"
            )
