"""Random numbers of a training: from its seed alone, whatever else draws beside it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def own_random_numbers() -> Iterator[None]:
    """Whatever draws from torch's global CPU generator in this block leaves it as it was."""
    with torch.random.fork_rng(devices=[]):
        yield


def seed_everything_of_ours(seed: int, part: int, rank: int = 0) -> None:
    """Seed the CPU generator for one part of the work; only inside `own_random_numbers`."""
    state = np.random.SeedSequence([seed, part, rank] if rank else [seed, part]).generate_state(
        1, np.uint64
    )
    torch.default_generator.manual_seed(int(state[0] >> np.uint64(1)))
