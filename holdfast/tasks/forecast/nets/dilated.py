"""Recurrent layers that look several steps back, in groups with a shortcut around each."""

from __future__ import annotations

from torch import Tensor, nn

from holdfast.tasks.forecast.nets.base import make_recurrent, open_forget_gates


class DilatedStack(nn.Module):
    """Groups of recurrent layers; a layer with dilation d has the state of d steps ago.

    >>> import torch
    >>> DilatedStack("lstm", 3, 8, groups=((1, 2), (4,)))(torch.zeros(2, 11, 3)).shape
    torch.Size([2, 11, 8])

    What enters a group is added to what leaves it, but for the first one, whose input has another
    size. A dilated layer is the plain one over every d-th step, so no kernel of its own is needed.

    Source: Chang et al. 2017, Dilated Recurrent Neural Networks; in groups with shortcuts as in
    Smyl 2020.
    """

    def __init__(
        self, cell: str, input_size: int, hidden_size: int, groups: tuple[tuple[int, ...], ...]
    ) -> None:
        super().__init__()
        self.groups = groups
        self.layers = nn.ModuleList()
        for _ in [d for group in groups for d in group]:
            size = hidden_size if len(self.layers) else input_size
            self.layers.append(make_recurrent(cell, size, hidden_size))
            if cell == "lstm":
                open_forget_gates(self.layers[-1], hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, T, hidden_size) for inputs (B, T, input_size)."""
        layers = iter(self.layers)
        for place, group in enumerate(self.groups):
            entered = x
            for dilation in group:
                x = dilated(next(layers), x, dilation)
            x = x + entered if place else x
        return x


def dilated(layer: nn.Module, x: Tensor, dilation: int) -> Tensor:
    """Outputs (B, T, H) of a layer whose step t follows step t - `dilation`."""
    if dilation == 1:
        return layer(x)[0]
    B, T, I = x.shape
    # Steps that are missing at the end change nothing before them.
    short = -T % dilation
    x = nn.functional.pad(x, (0, 0, 0, short)).view(B, -1, dilation, I)
    rows = x.transpose(1, 2).reshape(B * dilation, -1, I)
    out = layer(rows)[0].view(B, dilation, -1, layer.hidden_size)  # type: ignore[arg-type]
    return out.transpose(1, 2).reshape(B, T + short, -1)[:, :T]
