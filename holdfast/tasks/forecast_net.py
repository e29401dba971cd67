"""The network of the forecaster: a recurrent layer reads the past, a small head writes all H steps.

The head is direct (no step feeds on another) and anchored: every forecast is a learned mixture of
values that are known at the origin (the last value, and the values whole seasons before the target)
plus a learned correction. All of them are taken relative to the last value, so a series that
wanders off is followed. An untrained network is already a seasonal average.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

PLAIN_CELLS = ("lstm", "gru", "rnn")


def make_recurrent(cell: str, input_size: int, hidden_size: int, **options: Any) -> nn.Module:
    """The compiled layer for a cell of the catalogue, batch first.

    >>> make_recurrent("lstm", 4, 8)(torch.zeros(2, 5, 4))[0].shape
    torch.Size([2, 5, 8])
    """
    from holdfast import nn as layers

    if cell in PLAIN_CELLS:
        layer = getattr(layers, cell.upper())
        return layer(input_size, hidden_size, batch_first=True, **options)
    return layers.Recurrent(cell, input_size, hidden_size, batch_first=True, **options)


class ForecastNet(nn.Module):
    """Forecast H steps from each of the last S rows of a window.

    >>> net = ForecastNet(input_size=3, known_size=7, candidates=2, horizon=4, hidden_size=8)
    >>> net(torch.zeros(5, 10, 3), torch.zeros(5, 6, 4, 7), torch.zeros(5, 6, 1)).shape
    torch.Size([5, 6, 4])

    `candidates` is how many leading columns of `known` are mixed, `favored` which of them (all,
    when empty) the mixture starts from.
    """

    def __init__(
        self,
        input_size: int,
        known_size: int,
        candidates: int,
        horizon: int,
        hidden_size: int = 64,
        num_layers: int = 1,
        dropout: float = 0.1,
        cell: str = "lstm",
        favored: tuple[int, ...] = (),
    ) -> None:
        super().__init__()
        self.candidates = candidates
        self.sizes = (input_size, known_size - candidates)
        between = dropout if num_layers > 1 else 0.0
        self.recurrent = make_recurrent(
            cell, input_size, hidden_size, num_layers=num_layers, dropout=between
        )
        self.context = nn.Linear(hidden_size, hidden_size)
        self.known = nn.Linear(known_size, hidden_size)
        self.step = nn.Parameter(0.1 * torch.randn(horizon, hidden_size))
        self.hidden = nn.Linear(hidden_size, hidden_size)
        self.out = nn.Linear(hidden_size, 1 + candidates)
        self.dropout = nn.Dropout(dropout)
        self._start_simple(cell, hidden_size, favored)

    def _start_simple(self, cell: str, hidden_size: int, favored: tuple[int, ...]) -> None:
        """Forget-gate bias 1 for an LSTM; the head begins as the plain average of its favorites."""
        with torch.no_grad():
            if cell == "lstm":
                for name, parameter in self.recurrent.named_parameters():
                    if name.startswith("bias"):
                        parameter.zero_()
                    if name.startswith("bias_ih"):
                        parameter[hidden_size : 2 * hidden_size] = 1.0
            self.out.weight.zero_()
            self.out.bias.zero_()
            for index in favored:
                self.out.bias[1 + index] = 1.0

    def forward(self, x: Tensor, known: Tensor, level: Tensor) -> Tensor:
        """Scaled forecasts (B, S, H) from x (B, T, F), known (B, S, H, D) and level (B, S, 1)."""
        states, _ = self.recurrent(x)
        states = self.dropout(states[:, -known.shape[1] :])
        mixed = self.context(states)[:, :, None] + self.known(known) + self.step
        out = self.out(torch.relu(self.hidden(torch.relu(mixed))))
        weights = torch.softmax(out[..., 1:], dim=-1)
        return level + out[..., 0] + (weights * known[..., : self.candidates]).sum(dim=-1)


class ObservedError(nn.Module):
    """Mean absolute error over the targets that were observed; weights are 1 or 0.

    >>> target, weight = torch.tensor([1.0, 9.0]), torch.tensor([1.0, 0.0])
    >>> ObservedError()(torch.zeros(2), (target, weight)).item()
    1.0
    """

    def forward(self, forecast: Tensor, truth: tuple[Tensor, Tensor] | list[Tensor]) -> Tensor:
        """A scalar; 0 where nothing was observed."""
        target, weight = truth
        return ((forecast - target).abs() * weight).sum() / weight.sum().clamp(min=1.0)
