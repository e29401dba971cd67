"""Layers with options trained by several processes: the gradients of the joined batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from tests.helpers import assert_same
from tests.use.layers import drawn
from tests.use.optioned import I, made

WORLD, ROWS = 2, 3
LENGTHS = torch.tensor([4, 0, 3, 2, 4, 1])
SEEDS = torch.arange(10, 10 + WORLD * ROWS)
CASES = ("masks", "norm", "two")


def _case(case: str) -> tuple[Any, Tensor]:
    """The same layer and joined batch in every process."""
    generator = torch.Generator().manual_seed(5)
    layer = made(case, generator)
    return layer, drawn((4, WORLD * ROWS, I), generator)


def _loss(layer: nn.Module, x: Tensor, rows: slice) -> Tensor:
    out = layer(x[:, rows], lengths=LENGTHS[rows], seed=SEEDS[rows])[0]
    return out.square().sum()


def _work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=WORLD)
    try:
        found = {}
        for case in CASES:
            layer, x = _case(case)
            parallel = DistributedDataParallel(layer, find_unused_parameters=False)
            for _ in range(2):  # the second time in the buckets that the first time found
                parallel.zero_grad()
                rows = slice(rank * ROWS, (rank + 1) * ROWS)
                _loss(parallel, x, rows).backward()
            found[case] = {name: value.grad for name, value in layer.named_parameters()}
        torch.save(found, f"{folder}/{rank}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_the_joined_batch(tmp_path: Path) -> None:
    spawn(_work, (str(tmp_path),), nprocs=WORLD)
    for rank in range(WORLD):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for case in CASES:
            layer, x = _case(case)
            (_loss(layer, x, slice(None)) / WORLD).backward()
            expected = {name: value.grad for name, value in layer.named_parameters()}
            assert_same(found[case], expected, f"{case}, process {rank}")
