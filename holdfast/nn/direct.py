"""The short way of a layer's call where nothing is unusual.

A call whose arguments are an input and initial states, outside of tracers, modes and autocast, runs
as one prepared program, or, where gradients are to flow back, as prepared training passes.
Everything else goes the general way, which is the definition: whatever is not surely the ordinary
case is left to it, errors included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from holdfast.errors import UnpreparedError
from holdfast.nn import operators
from holdfast.nn.kept import Weights
from holdfast.nn.program import Packed, Part, Program, parts
from holdfast.nn.train_direct import TrainWay

if TYPE_CHECKING:
    from holdfast.nn.recurrent import Recurrent

_MOST = 64
"""Shapes of the input for which programs are kept."""
_SMALL = 4096
"""Elements up to which a tensor is kept to make others like it, the fastest way to get one."""
_KINDS = (Tensor, Parameter)
_strided = torch.strided
_place = Tensor.data_ptr


class Direct:
    """What a layer has prepared; copies and pickles of it are empty."""

    def __init__(self) -> None:
        self._prepared: list[_Prepared | None] = [None, None]

    def __deepcopy__(self, memo: dict[int, Any]) -> Direct:
        return Direct()

    def __reduce__(self) -> tuple[type[Direct], tuple[()]]:
        return Direct, ()

    def __call__(self, layer: Recurrent, x: Any, hx: Any) -> tuple[Any, ...] | None:
        """The result of a call, or None where it must go the general way."""
        if type(x) not in _KINDS or _watched():
            return None
        prepared = self._prepared[layer.training]
        if prepared is None or not prepared.stands(layer):
            prepared = self._prepared[layer.training] = _Prepared(layer)
        if x.dtype is not prepared.dtype or not _dense(x):
            return None
        if torch.is_grad_enabled():
            return prepared.train(layer, x, hx)
        way = prepared.way(layer, x, hx is not None)
        return None if way is None else way.run(x, hx)


def _watched() -> bool:
    """Whether a mode, a transform, a tracer or a caller of `instead` must see every operation."""
    c = torch._C
    return (
        c._len_torch_dispatch_stack() != 0
        or c._len_torch_function_stack() != 0
        or c._are_functorch_transforms_active()
        or c._get_tracing_state() is not None
        or torch.is_autocast_enabled("cpu")
        or forward_ad._current_level >= 0
        or operators._instead.get() is not None
    )


def _dense(x: Tensor) -> bool:
    """Whether a tensor is plain memory of the CPU."""
    return x.is_cpu and x.layout is _strided and not (x.is_nested or x.is_neg())


class _Prepared:
    """A layer with the parameters that it has now, in evaluation or in training, and its ways."""

    def __init__(self, layer: Recurrent) -> None:
        self._select = operators.select
        registered = layer._parameters.values()
        self._ids = list(map(id, registered))
        self._held = list(registered)
        self._tensors: list[Tensor] = []
        self._stack: list[Part] = []
        self._ways: dict[tuple[Any, ...], _Way | None] = {}
        self._train_ways: dict[tuple[Any, ...], TrainWay | None] = {}
        self.dtype = None
        if all(type(one) is Parameter and one.is_contiguous() for one in self._held):
            self._tensors = [one for one in self._held if one is not None]
        if self._usable(layer):
            self._weights = Weights(self._tensors)
            self._matrices = [one for one in self._tensors if one.dim() > 1]
            self.dtype = self._tensors[0].dtype

    def _usable(self, layer: Recurrent) -> bool:
        """Whether the compiled target runs every layer, with parameters that are registered."""
        names = {name for found in layer._described.cells for name in found.values()}
        if not self._tensors or not names <= layer._parameters.keys():
            return False
        if len({one.dtype for one in self._tensors}) > 1:
            return False
        try:
            self._stack = parts(layer, layer.training)
        except UnpreparedError:
            return False
        for part in self._stack:
            # What ties make of the parameters is made once, and these may change.
            if part.cell.ties:
                return False
            x = self._tensors[0].detach().new_zeros(1, 1, part.features)
            if self._select(part.cell, x, part.parameters)[0] != "llvm":
                return False
        return True

    def stands(self, layer: Recurrent) -> bool:
        """Whether the layer has the same parameters, at the same places, and targets are chosen in
        the same way."""
        if self._select is not operators.select:
            return False
        if list(map(id, layer._parameters.values())) != self._ids:
            return False
        if self.dtype is None:
            return True
        tensors = self._tensors
        return (
            tuple(map(_place, tensors)) == self._weights.places
            and tensors[0].dtype is self.dtype
            and all(map(Tensor.is_contiguous, self._matrices))
        )

    def way(self, layer: Recurrent, x: Tensor, given: bool) -> _Way | None:
        """What runs inputs of that shape; None where nothing can."""
        key = (x.shape, given, layer.batch_first, torch.get_num_threads())
        try:
            return self._ways[key]
        except KeyError:
            pass
        if len(self._ways) >= _MOST:
            self._ways.clear()
        found = self._ways[key] = _way(layer, self._stack, self._weights, x, given)
        return found

    def train(self, layer: Recurrent, x: Tensor, hx: Any) -> tuple[Any, ...] | None:
        """The result of a call that gradients flow back through; None where it must go the general
        way."""
        given, turned = hx is not None, layer.batch_first
        key = (x.shape, given, turned, torch.get_num_threads())
        try:
            way = self._train_ways[key]
        except KeyError:
            if len(self._train_ways) >= _MOST:
                self._train_ways.clear()
            way = self._train_ways[key] = _train_way(layer, self._stack, x, given)
        if way is None:
            return None
        first = _first(way.shapes, x, hx) if given else ()
        return None if first is None else way.run(x, first, turned)


def _way(
    layer: Recurrent, stack: list[Part], weights: Weights, x: Tensor, given: bool
) -> _Way | None:
    """What runs inputs with the shape of x; None where nothing can."""
    batched = x.dim() == 3
    if x.dim() not in (2, 3) or x.shape[-1] != layer.input_size:
        return None
    if any(layer._described.starts) and not given:
        return None
    turned = batched and layer.batch_first
    steps, batch = (x.shape[turned], x.shape[not turned]) if batched else (x.shape[0], 1)
    if not steps or not batch or (turned and steps > 1 and batch > 1):
        return None
    sizes = layer._sizes
    try:
        program = Program(stack, sizes.directions, steps, batch, given, weights)
    except UnpreparedError:
        return None
    if program.threads > 1 and len(stack) > 1:
        return None
    out = (*x.shape[:-1], sizes.out(layer.num_layers - 1))
    shapes = [shape[0] for shape in sizes.states(len(layer.cell.states), batch)]
    shapes = [shape if batched else (shape[0], shape[2]) for shape in shapes]
    return _Way(program, out, shapes, x)


def _train_way(layer: Recurrent, stack: list[Part], x: Tensor, given: bool) -> TrainWay | None:
    """What runs inputs with the shape of x under autograd; None where nothing can."""
    if x.dim() != 3 or x.shape[-1] != layer.input_size or not x.numel():
        return None
    if any(layer._described.starts) and not given:
        return None
    batch, steps = x.shape[:2] if layer.batch_first else (x.shape[1], x.shape[0])
    try:
        return TrainWay(layer, stack, steps, batch, given)
    except UnpreparedError:
        return None


def _first(shapes: Sequence[torch.Size], x: Tensor, hx: Any) -> list[Tensor] | None:
    """Initial states as the caller gave them; None where they are not plain."""
    states = (hx,) if len(shapes) == 1 else hx
    if type(states) not in (tuple, list) or len(states) != len(shapes):
        return None
    for state, shape in zip(states, shapes, strict=True):
        if type(state) not in _KINDS or state.dtype is not x.dtype:
            return None
        if state.shape != shape or not _dense(state):
            return None
    return list(states)


class _Way:
    """A program for one shape of the input.

    Arguments:
        out, last: shapes of the output and of each state. like: a tensor of the right dtype.
    """

    def __init__(
        self,
        program: Program,
        out: tuple[int, ...],
        last: Sequence[tuple[int, ...]],
        like: Tensor,
    ) -> None:
        self._program = program
        self._packed: Packed | None = None
        self._out = _Maker(out, like)
        self._last = [_Maker(shape, like) for shape in last]
        self._shapes = [torch.Size(shape) for shape in last]
        self._scratch = -(-program.scratch // like.element_size())

    def run(self, x: Tensor, hx: Any) -> tuple[Any, ...] | None:
        """Output and last states; None where the initial states are not plain."""
        first = None if hx is None else _first(self._shapes, x, hx)
        if hx is not None and first is None:
            return None
        x = x.contiguous()
        out = self._out.make()
        last = [one.make() for one in self._last]
        bases = [x.data_ptr(), out.data_ptr(), *map(_place, last)]
        if first is not None:
            first = [state.contiguous() for state in first]
            bases += map(_place, first)
        if self._scratch:
            scratch = x.new_empty(self._scratch)
            bases.append(scratch.data_ptr())
        packed = self._packed
        if packed is None or not self._program(packed, *bases):
            packed = self._packed = self._program.pack()
            if not self._program(packed, *bases):
                return None
        return out, last[0] if len(last) == 1 else tuple(last)


class _Maker:
    """Makes tensors of one shape, with the dtype of `like` and anything in them."""

    def __init__(self, shape: tuple[int, ...], like: Tensor) -> None:
        self._shape = shape
        self._whole = torch.Size(shape).numel() <= _SMALL
        self._like = like.detach().new_empty(shape if self._whole else ())

    def make(self) -> Tensor:
        """A new one."""
        return torch.empty_like(self._like) if self._whole else self._like.new_empty(self._shape)
