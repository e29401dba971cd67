"""The way from what an encoder has read to the first states of a decoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from holdfast.nn.encoder import Encoded
from holdfast.nn.recurrent import Recurrent

KINDS = ("linear", "copy", "mean", "zero")


class Bridge(nn.Module):
    """The first states of a decoder's layer, made from an encoder's last ones.

    >>> import torch
    >>> from holdfast.nn.encoder import Encoder
    >>> encoder, layer = Encoder(3, 5, num_layers=2), Recurrent("lstm", 3, 4)
    >>> h, c = Bridge("linear", layer, encoder.memory_size, encoder.layer)(
    ...     encoder(torch.randn(2, 7, 3))
    ... )
    >>> tuple(h.shape), tuple(c.shape)
    ((1, 2, 4), (1, 2, 4))

    Arguments:
        kind: "linear": h = tanh(W h_last + b) for each layer, from both directions of the encoder's
            layer of the same number, counted from the top; the other states likewise, without tanh.
            "copy": the encoder's states themselves, both directions joined (Sutskever et al. 2014).
            "mean": the same as linear, from the mean of the features of all positions (Xu et al.
            2015), for encoders that have no states. "zero": zeros, or the layer's learned start.
        layer: of the decoder.
        memory_size: D, features of each position of the source.
        read: the encoder's layer, or None where it has none.

    Errors: `ValueError` for an unknown kind, or states that do not fit.
    Source: Bahdanau, Cho & Bengio 2015, appendix A.2.2.
    """

    def __init__(
        self,
        kind: str,
        layer: Recurrent,
        memory_size: int,
        read: Recurrent | None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"bridge should be one of {', '.join(KINDS)}, got: {kind!r}")
        self.kind = kind
        self.names = ("h", *layer.cell.states)
        self.layers = layer.num_layers
        self.directions = 1 if read is None else read._directions
        self.sources: list[list[tuple[int, int]]] = []
        if kind in ("linear", "copy"):
            if read is None:
                raise ValueError(
                    f"the bridge {kind!r} needs an encoder with states, and this one has none; "
                    "take 'mean' or 'zero'"
                )
            self._match(layer, read)
        units = layer._sizes.hidden[0]
        widths = {"h": layer._sizes.width(0)} | dict.fromkeys(layer.cell.states, units)
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.maps = nn.ModuleDict()
        for place, name in enumerate(self.names if kind in ("linear", "mean") else ()):
            for row in range(self.layers):
                features = memory_size
                if kind == "linear" and read is not None:
                    features = _joined(read, self.theirs[self.sources[place][row][0]])
                self.maps[f"{name}_l{row}"] = nn.Linear(features, widths[name], **options)

    def _match(self, layer: Recurrent, read: Recurrent) -> None:
        """Which state and layer of the encoder each of the decoder's begins from."""
        self.theirs = theirs = ("h", *read.cell.states)
        if self.kind == "copy":
            mine = (self.names, self.layers, layer.hidden_size, layer._sizes.width(0))
            wanted = (theirs, read.num_layers, _joined(read, "c"), _joined(read, "h"))
            if mine != wanted:
                raise ValueError(
                    "the bridge 'copy' needs as many layers, units and states on both sides, got "
                    f"{read.num_layers} layers of {_joined(read, 'h')} units in the encoder "
                    f"(directions joined) with the states {', '.join(theirs)}, and {self.layers} "
                    f"of {layer.hidden_size} in the decoder with {', '.join(self.names)}; take "
                    "'linear'"
                )
        above = read.num_layers - self.layers
        for name in self.names:
            state = theirs.index(name) if name in theirs else 0
            rows = [min(max(row + above, 0), read.num_layers - 1) for row in range(self.layers)]
            self.sources.append([(state, row) for row in rows])

    def forward(self, encoded: Encoded) -> tuple[Tensor, ...] | None:
        """The decoder's first states, `[L, B, H]` each, or None for those it begins with itself."""
        if self.kind == "zero":
            return None
        if self.kind == "mean":
            mean = _mean(encoded)
            first = [[mean] * self.layers for _ in self.names]
        else:
            assert encoded.states is not None
            joined = [self._join(state) for state in encoded.states]
            first = [[joined[state][row] for state, row in rows] for rows in self.sources]
        if self.kind != "copy":
            first = [
                [self.maps[f"{name}_l{row}"](x) for row, x in enumerate(rows)]
                for name, rows in zip(self.names, first, strict=True)
            ]
        h, *rest = (torch.stack(rows) for rows in first)
        return (h if self.kind == "copy" else torch.tanh(h), *rest)

    def _join(self, state: Tensor) -> Tensor:
        """`[L * D, B, H]` as `[L, B, D * H]`."""
        return state.unflatten(0, (-1, self.directions)).transpose(1, 2).flatten(2)


def _joined(read: Recurrent, name: str) -> int:
    """Features of a state of the encoder with its directions joined."""
    width = read._sizes.width(0) if name == "h" else read._sizes.hidden[0]
    return width * read._directions


def _mean(encoded: Encoded) -> Tensor:
    """The mean of the valid positions, `[B, D]`."""
    if encoded.lengths is None:
        return encoded.values.mean(1)
    valid = torch.arange(encoded.values.shape[1], device=encoded.lengths.device)
    valid = (valid < encoded.lengths[:, None]).unsqueeze(2)
    total = torch.where(valid, encoded.values, 0.0).sum(1)
    return total / encoded.lengths.unsqueeze(1).to(total.dtype)
