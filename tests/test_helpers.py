"""The suite's own tools: a comparison that can fail, sizes that meet, memory that is poisoned."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jaxtyping
import pytest
import torch
from torch import nn

from tests import conftest
from tests.helpers import SHAPES, SIZES, TOLERANCE, assert_same, unequal_

NAN = float("nan")
INF = float("inf")


def _of(*values: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("actual", "reference", "message"),
    [
        pytest.param(_of(1, 2), _of(1, 2.001), "1 of 2 values differ", id="value"),
        pytest.param(_of(1, 2), _of(2, 1), "2 of 2 values differ", id="swapped"),
        pytest.param(_of(0, 0), _of(1e-7, 2e-7), "values differ", id="small-reference"),
        pytest.param(_of(1e-12), _of(0), "values differ", id="zero-reference"),
        pytest.param(_of(1), _of(1, 1), r"got shape \(1,\), expected \(2,\)", id="shape"),
        pytest.param(_of(1), torch.tensor(1.0).double(), "got shape", id="broadcast"),
        pytest.param(_of(1), _of(1, dtype=torch.float32), "got dtype torch.float64", id="dtype"),
        pytest.param(_of(1, NAN), _of(1, 2), "1 of 2 values are NaN", id="nan"),
        pytest.param(_of(1, 2), _of(1, NAN), "1 of 2 values are NaN", id="nan-in-reference"),
        pytest.param(_of(INF, 1), _of(1, 1), "infinite on one side", id="infinite"),
        pytest.param(_of(INF), _of(-INF), "the other sign", id="sign-of-infinity"),
        pytest.param(torch.tensor([1, 2]), torch.tensor([1, 3]), "1 of 2 values", id="integers"),
        pytest.param((_of(1),), (_of(1), _of(2)), "got 1 items, expected 2", id="items"),
        pytest.param((_of(1), _of(2)), (_of(1), _of(3)), r"result\[1\]: 1 of 1", id="nested"),
        pytest.param(_of(1), (_of(1),), "got Tensor, expected 1 items", id="not-a-tuple"),
        pytest.param({"h": _of(1)}, {"h": _of(2)}, r"result\['h'\]", id="in-a-dict"),
        pytest.param({"h": _of(1)}, {"c": _of(1)}, "'c', 'h'", id="keys"),
        pytest.param(_of(1), {"h": _of(1)}, "expected a dict", id="not-a-dict"),
        pytest.param(None, _of(1), "got None", id="none"),
    ],
)
def test_assert_same_fails_when_it_must(actual: Any, reference: Any, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        assert_same(actual, reference)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_assert_same_accepts_rounding_and_no_more(dtype: torch.dtype) -> None:
    reference = torch.linspace(-3, 3, 101, dtype=dtype)
    assert_same(reference + 4 * torch.finfo(dtype).eps, reference)
    rtol, atol = TOLERANCE[dtype]
    with pytest.raises(AssertionError, match="101 of 101 values differ"):
        assert_same(reference + 3 * (2 * rtol + 2 * atol), reference)


def test_assert_same_compares_with_a_finer_reference() -> None:
    reference = torch.linspace(-3, 3, 101, dtype=torch.float64)
    assert_same(reference.float(), reference, dtype=torch.float32)
    with pytest.raises(AssertionError, match=r"hidden: got dtype torch\.float64"):
        assert_same(reference, reference, "hidden", dtype=torch.float32)


def test_assert_same_accepts_what_is_the_same() -> None:
    same = {"out": (_of(1, NAN, INF, -INF), [torch.tensor([True]), None, 3.0]), "none": _of()}
    assert_same(same, same)


def test_every_size_meets_nearly_every_other() -> None:
    assert len(set(SIZES)) == len(SIZES)
    axes = [sorted({shape[axis] for shape in SIZES}) for axis in range(4)]
    assert axes == [[1, 3, 8], [1, 2, 63], [1, 3, 17], [1, 5, 16, 64, 100]]
    pairs = met = 0
    for one, two in itertools.combinations(range(4), 2):
        pairs += len(axes[one]) * len(axes[two])
        met += len({(shape[one], shape[two]) for shape in SIZES})
    assert met >= 0.9 * pairs
    assert SHAPES[-1].id == "B8-T1-I3-H100"


def test_unequal_weights_are_unequal_and_seeded(generator: torch.Generator) -> None:
    state = generator.get_state()
    module = unequal_(nn.LSTM(3, 5), generator)
    weights = torch.cat([parameter.flatten() for parameter in module.parameters()])
    assert weights.unique().numel() == weights.numel()
    assert weights.abs().max() < 1
    again = unequal_(nn.LSTM(3, 5), generator.set_state(state))
    assert_same(dict(again.named_parameters()), dict(module.named_parameters()))


def test_uninitialized_memory_is_poisoned() -> None:
    for values in (torch.empty(64), torch.ones(2).new_empty(64), torch.empty_like(torch.ones(64))):
        assert values.isnan().all()


@pytest.mark.plain_memory
def test_poison_has_an_opt_out() -> None:
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def signatures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module with shapes in its signatures, imported as the suite imports the package."""
    tmp_path.joinpath("signatures.py").write_text(
        "from __future__ import annotations\n"
        "from typing import NoReturn\n"
        "import torch\n"
        "from holdfast._types import Hidden, Sequence\n"
        "def last(x: Sequence) -> Hidden:\n"
        "    return x[-1]\n"
        "def refuse(x: int) -> NoReturn:\n"
        "    raise ValueError(x)\n"
        "@torch.library.custom_op('holdfast_tests::twice', mutates_args=())\n"
        "def twice(x: torch.Tensor) -> torch.Tensor:\n"
        "    return 2 * x\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with jaxtyping.install_import_hook("signatures", "beartype.beartype"):
        yield importlib.import_module("signatures")
    del sys.modules["signatures"]


def test_shapes_in_signatures_are_checked(signatures: Any) -> None:
    x = torch.ones(4, 3, 2)
    assert_same(signatures.last(x), x[-1])
    with pytest.raises(jaxtyping.TypeCheckError, match="last"):
        signatures.last(x[0])
    assert_same(signatures.twice(x), x + x)
    assert_same(torch.compile(signatures.last, fullgraph=True, backend="eager")(x), x[-1])


def test_kernels_are_cached_in_a_private_folder_of_the_session() -> None:
    folder = Path(os.environ["HOLDFAST_CACHE_DIR"])
    assert folder.is_dir()
    assert not folder.stat().st_mode & 0o077
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    assert f"popen-{worker}" not in folder.parts, "what others compiled is compiled again"


@pytest.mark.parametrize(
    ("workers", "set_by_hand", "threads"),
    [(2, None, "2"), (8, None, "1"), (2, "3", "3"), (1, None, None), (0, None, None)],
)
def test_processes_beside_each_other_share_the_cores(
    workers: int, set_by_hand: str | None, threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if set_by_hand:
        monkeypatch.setenv("OMP_NUM_THREADS", set_by_hand)
    options: Any = SimpleNamespace(getoption=lambda *_, **__: ["popen"] * workers)
    conftest.pytest_configure(options)
    assert os.environ.get("OMP_NUM_THREADS") == threads
