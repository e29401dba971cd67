"""LSTMs over maps: every product is a convolution, so the memory is a map as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import Structure, blank, calm, check_flags, hold, valid_steps

MODES = ("zeros", "circular", "reflect", "replicate")


class _ConvLSTM(Structure):
    """The convolutional LSTM in `dims` dimensions; `ConvLSTM2d` tells its arguments."""

    reason = "the products of a step are convolutions, which the cell language does not have"
    dims: ClassVar[int] = 0

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = "same",
        dilation: int | Sequence[int] = 1,
        padding_mode: str = "zeros",
        peepholes: bool = False,
        spatial_size: int | Sequence[int] | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "hidden_channels": hidden_channels}
        for name, size in (sizes | {"num_layers": num_layers}).items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first, peepholes=peepholes)
        if padding_mode not in MODES:
            raise ValueError(f"padding_mode should be one of {MODES}, got: {padding_mode!r}")
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.kernel_size = self._each("kernel_size", kernel_size, 1)
        self.num_layers = num_layers
        self.bias = bias
        self.batch_first = batch_first
        self.stride = self._each("stride", stride, 1)
        self.dilation = self._each("dilation", dilation, 1)
        self.padding_mode = padding_mode
        self._same = self._keep_size()
        self.padding = "same" if padding == "same" else self._each("padding", padding, 0)
        self.peepholes = peepholes
        self.spatial_size = (
            None if spatial_size is None else self._each("spatial_size", spatial_size, 1)
        )
        self._create(device, dtype)
        self.reset_parameters()

    def _each(self, name: str, value: Any, least: int) -> tuple[int, ...]:
        """One whole number for each dimension."""
        numbers = tuple(value) if isinstance(value, (tuple, list)) else (value,) * self.dims
        whole = all(isinstance(one, int) and not isinstance(one, bool) for one in numbers)
        if len(numbers) != self.dims or not whole or min(numbers) < least:
            raise ValueError(
                f"{name} should be a whole number from {least} on, or one for each of the "
                f"{self.dims} dimensions, got: {value!r}"
            )
        return numbers

    def _keep_size(self) -> tuple[int, ...]:
        """The padding with which a convolution keeps the size of the map."""
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(
                "kernel_size should be odd in every dimension, so that the recurrent convolution "
                f"keeps the size of the map, got: {self.kernel_size}"
            )
        pairs = zip(self.kernel_size, self.dilation, strict=True)
        return tuple(step * (size - 1) // 2 for size, step in pairs)

    def _create(self, device: Any, dtype: Any) -> None:
        shapes: dict[str, tuple[int, ...]] = {}
        units = self.hidden_channels
        for layer in range(self.num_layers):
            channels = units if layer else self.in_channels
            shapes[f"weight_ih_l{layer}"] = (4 * units, channels, *self.kernel_size)
            shapes[f"weight_hh_l{layer}"] = (4 * units, units, *self.kernel_size)
            if self.bias:
                shapes[f"bias_l{layer}"] = (4 * units,)
            if self.peepholes:
                if self.spatial_size is None:
                    raise ValueError(
                        "peepholes are maps of weights, so they need spatial_size=, the size of "
                        "the input's maps"
                    )
                maps = (units, *self._maps(self.spatial_size))
                shapes |= {f"p_{gate}_l{layer}": maps for gate in "ifo"}
        bound = 1.0 / math.sqrt(units * math.prod(self.kernel_size))
        self._create_parameters(shapes, bound, device, dtype)

    def _maps(self, spatial: Sequence[int]) -> tuple[int, ...]:
        """The size of the memory's maps, from that of the input's."""
        padding = self._same if isinstance(self.padding, str) else self.padding
        sizes = []
        for number, size in enumerate(spatial):
            reach = self.dilation[number] * (self.kernel_size[number] - 1)
            left = size + 2 * padding[number] - reach - 1
            if left < 0:
                raise RuntimeError(
                    f"{self._get_name()}: maps of size {tuple(spatial)} are smaller than the "
                    f"kernel {self.kernel_size} with dilation {self.dilation} and padding "
                    f"{self.padding}"
                )
            sizes.append(left // self.stride[number] + 1)
        return tuple(sizes)

    def forward(
        self,
        input: Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The maps of the last layer at every step, and the last states `(h, c)` of every layer.

        Arguments:
            input: `[T, B, I, *S]`, `[B, T, I, *S]` with `batch_first`, `[T, I, *S]` for one row.
            hx: initial states, `[L, B, C, *S]` each (`[L, C, *S]` for one row), by default zeros; S
                is the size of the maps after the first convolution.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        spatial = self.spatial_size if self.peepholes and self.spatial_size else (None,) * self.dims
        x, batched = self._admit(input, (self.in_channels, *spatial))
        steps, batch = x.shape[:2]
        maps = (batch, self.hidden_channels, *self._maps(x.shape[3:]))
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        shape = (self.num_layers, *maps)
        h, c = self._states(hx, ("h", "c"), (shape, shape), x, batched=batched)
        with calm(x):
            x = blank(x, counts)
            last = []
            for layer in range(self.num_layers):
                x, *states = self._run_layer(layer, x, h[layer], c[layer], counts)
                last.append(states)
            new = [torch.stack(state) for state in zip(*last, strict=True)]
        if not batched:
            new = [state.squeeze(1) for state in new]
        return self._deliver(blank(x, counts), batched), (new[0], new[1])

    def _run_layer(
        self, layer: int, x: Tensor, h: Tensor, c: Tensor, lengths: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        weights = {name: getattr(self, f"{name}_l{layer}") for name in ("weight_ih", "weight_hh")}
        bias = getattr(self, f"bias_l{layer}") if self.bias else None
        p_i, p_f, p_o = (
            getattr(self, f"p_{gate}_l{layer}") if self.peepholes else None for gate in "ifo"
        )
        # The input's convolutions of all steps in one call; the loop is left with the recurrent.
        entered = self._enter(layer, x.flatten(0, 1), weights["weight_ih"], bias)
        out = []
        valid = valid_steps(lengths, x.shape[0])
        for step, at in zip(entered.unflatten(0, x.shape[:2]).unbind(0), valid, strict=True):
            i, f, g, o = (step + self._convolve(h, weights["weight_hh"])).chunk(4, 1)
            memory = torch.sigmoid(_see(f, p_f, c)) * c + torch.sigmoid(_see(i, p_i, c)) * g.tanh()
            seen = torch.sigmoid(_see(o, p_o, memory)) * memory.tanh()
            h, c = hold(at, seen, h), hold(at, memory, c)
            out.append(h)
        return torch.stack(out), h, c

    def _enter(self, layer: int, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if layer or isinstance(self.padding, str):
            stride = (1,) * self.dims if layer else self.stride
            return self._convolve(x, weight, bias, stride)
        return self._convolve(x, weight, bias, self.stride, self.padding)

    def _convolve(
        self,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: tuple[int, ...] | None = None,
        padding: Any = None,
    ) -> Tensor:
        """A convolution that keeps the size of the map, unless `stride` or `padding` are given."""
        convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[self.dims - 1]
        around = self._same if padding is None else padding
        if self.padding_mode != "zeros" and any(around):
            pads = [size for size in reversed(around) for _ in range(2)]
            x, around = functional.pad(x, pads, self.padding_mode), (0,) * self.dims
        return convolve(x, weight, bias, stride or (1,) * self.dims, around, self.dilation)


def _see(gate: Tensor, peephole: Tensor | None, memory: Tensor) -> Tensor:
    return gate if peephole is None else gate + peephole * memory


class ConvLSTM2d(_ConvLSTM):
    """Read sequences of images: an LSTM whose products are convolutions and whose memory is a map.

    >>> import torch
    >>> layer = ConvLSTM2d(in_channels=3, hidden_channels=5, kernel_size=3, num_layers=2)
    >>> out, (h, c) = layer(torch.randn(7, 4, 3, 8, 9))  # [T, B, I, *S]
    >>> tuple(out.shape), tuple(c.shape)
    ((7, 4, 5, 8, 9), (2, 4, 5, 8, 9))
    >>> layer.backend
    'eager'

    With * for a convolution and p for peepholes, each a map of weights, where wanted:
    i = sigmoid(W_i * x + R_i * h_prev + p_i c_prev + b_i);  f likewise
    c = f c_prev + i tanh(W_g * x + R_g * h_prev + b_g)
    o = sigmoid(W_o * x + R_o * h_prev + p_o c + b_o);  h = o tanh(c)

    Parameters: 4 C (I + C) K + 4 C
    in the first layer, for K taps of a kernel; 3 C S more with peepholes, for S places of a map.
    They begin in U(-1/sqrt(C K), 1/sqrt(C K)).

    Runs on PyTorch: the cell language has products with matrices, not convolutions. The
    convolutions of the input are one call for all steps.

    Arguments:
        in_channels: I, channels of the input.
        hidden_channels: C, channels of the memory in every layer.
        kernel_size: taps of all kernels, odd, one number or one for each dimension.
        num_layers: layers, each reading the maps of the one before.
        bias: False leaves out b.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`; states are not.
        stride, padding: of the convolution that reads the input; all others keep the size of the
            map. The default padding, "same", with stride 1 does so too.
        dilation: distance between the taps of all kernels.
        padding_mode: "zeros", "circular", "reflect" or "replicate", at the border of a map.
        peepholes: the gates see the memory; then `spatial_size`, the size of the input's maps, is
            part of the layer.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Shi et al. 2015, equation 3.
    """

    dims = 2


class ConvLSTM1d(_ConvLSTM):
    """Read sequences of lines, such as spectra: `ConvLSTM2d` in one dimension.

    >>> import torch
    >>> out, (h, c) = ConvLSTM1d(3, 5, kernel_size=3)(torch.randn(7, 4, 3, 8))  # [T, B, I, S]
    >>> tuple(out.shape), tuple(c.shape)
    ((7, 4, 5, 8), (1, 4, 5, 8))

    Parameters: 4 C (I + C) K + 4 C

    Arguments, errors and source: those of `ConvLSTM2d`.
    """

    dims = 1


class ConvLSTM3d(_ConvLSTM):
    """Read sequences of volumes: `ConvLSTM2d` in three dimensions.

    >>> import torch
    >>> out, (h, c) = ConvLSTM3d(1, 2, kernel_size=3)(torch.randn(5, 1, 4, 5, 6))  # [T, I, *S]
    >>> tuple(out.shape), tuple(c.shape)
    ((5, 2, 4, 5, 6), (1, 2, 4, 5, 6))

    Parameters: 4 C (I + C) K + 4 C

    Arguments, errors and source: those of `ConvLSTM2d`.
    """

    dims = 3
