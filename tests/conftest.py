"""What every test gets: seeded generators, poisoned memory, a kernel cache of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.shapes import relax

relax()

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded random generator: the only source of randomness a test needs."""
    return torch.Generator().manual_seed(20_240_229)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets, from `HOLDFAST_DATA`; the test is skipped without it."""
    folder = Path(os.environ.get("HOLDFAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set HOLDFAST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels of the suite go to a folder of the session, never to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path_factory.mktemp("kernels")))
        yield


@pytest.fixture(autouse=True)
def _poisoned_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    """Uninitialized tensors hold NaN, so that an output nobody wrote is seen.

    Only PyTorch can reach every allocation (`torch.empty`, `new_empty`, `resize_`, ...); it does so
    as a part of its deterministic mode. `@pytest.mark.plain_memory` opts a test out.
    """
    if request.node.get_closest_marker("plain_memory"):
        yield
        return
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
