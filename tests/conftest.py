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


def pytest_configure(config: pytest.Config) -> None:
    """Processes that test beside each other, and what they start, share the cores between them."""
    workers = len(config.getoption("tx", default=None) or ())
    if workers > 1:
        threads = max(1, torch.get_num_threads() // workers)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded random generator: the only source of randomness a test needs."""
    return torch.Generator().manual_seed(20_240_229)


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, however many the process has, and as many as before afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets, from `HOLDFAST_DATA`; the test is skipped without it."""
    folder = Path(os.environ.get("HOLDFAST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no data sets in {folder}; set HOLDFAST_DATA to the folder that holds them")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled kernels of the suite go to a folder of the session, never to the user's cache.

    Processes of one session have one folder: what one of them compiled, the others read.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    folder.mkdir(mode=0o700, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOLDFAST_CACHE_DIR", str(folder))
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
