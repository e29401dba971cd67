"""Our layer beside PyTorch's on one training step: alternating runs, medians, whoever wins."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import nn

from holdfast.tasks.forecast.nets.base import make_recurrent

ROUNDS = 15


@dataclass(frozen=True)
class Speed:
    """Median milliseconds of one forward and backward pass of each layer at a shape."""

    ours: float
    torch: float
    shape: tuple[int, int, int, int]
    threads: int
    backend: str

    def describe(self) -> str:
        """One plain sentence."""
        B, T, I, H = self.shape
        ratio = self.torch / self.ours
        verdict = (
            f"{ratio:.2f} times as fast" if ratio >= 1 else f"slower, {ratio:.2f} of its speed"
        )
        return (
            f"LSTM training step (forward + backward, B={B}, T={T}, I={I}, H={H}, {self.threads} "
            f"thread(s)): holdfast.nn.LSTM [{self.backend}] {self.ours:.1f} ms, torch.nn.LSTM "
            f"{self.torch:.1f} ms: ours is {verdict}"
        )


def compare_layers(B: int, T: int, I: int, H: int, rounds: int = ROUNDS) -> Speed:
    """Time both layers on the same numbers, in turn, after a warm-up of each.

    Both have the same weights and read x (B, T, I); gradients of input and weights are computed.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(B, T, I, generator=generator)
    with torch.random.fork_rng(devices=[]):
        ours = make_recurrent("lstm", I, H)
        theirs = nn.LSTM(I, H, batch_first=True)
    ours.load_state_dict(theirs.state_dict())
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    for index in range(rounds + 2):
        for name, layer in (("ours", ours), ("theirs", theirs)):
            layer.zero_grad()
            inputs = x.clone().requires_grad_()
            start = time.perf_counter()
            layer(inputs)[0].sum().backward()
            if index >= 2:
                times[name].append(1000 * (time.perf_counter() - start))
    return Speed(
        ours=statistics.median(times["ours"]),
        torch=statistics.median(times["theirs"]),
        shape=(B, T, I, H),
        threads=torch.get_num_threads(),
        backend=str(getattr(ours, "backend", "unknown")),
    )
