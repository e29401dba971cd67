"""Folders of Parquet files give what one table gives, and need less memory; shares of batches."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from holdfast.data import Columns, read_panel
from holdfast.data import folder as folders
from holdfast.data.folder import read_folder
from holdfast.data.on_disk import disk_array
from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.shards import write_forecasts
from holdfast.tasks.team import Team
from tests.helpers import assert_same
from tests.tasks.small import several

COLUMNS = Columns(past=("kind",), static=("note",), categorical=("kind",), text=("note",))
SETTINGS: dict[str, Any] = {
    "horizon": 7,
    "window": 14,
    "hidden_size": 4,
    "max_epochs": 2,
    "epoch_steps": 8,
    "past": ("kind",),
    "static": ("note",),
    "categorical": ("kind",),
    "text": ("note",),
}


def table() -> pl.DataFrame:
    """Five series in the order of their ids; not every label is in every one of them."""
    whole = several(tuple("abcde"), 80)
    kinds = [f"{one}{row % 2}" for row, one in enumerate(whole["unique_id"])]
    return whole.with_columns(kind=pl.Series(kinds), note="shop of " + pl.col("unique_id"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table in three files, rows in no order, ids in all of them."""
    path = tmp_path_factory.mktemp("folder")
    mixed = table().sample(fraction=1.0, shuffle=True, seed=1)
    for part in range(3):
        mixed[part::3].write_parquet(path / f"{part}.parquet")
    (path / "_SUCCESS").touch()
    return path


def test_a_folder_is_the_table(folder: Path) -> None:
    seen: list[folders.Reading] = []
    expected = read_panel(table(), COLUMNS)
    panel = read_folder(folder, COLUMNS, rows=100, report=seen.append)
    assert (panel.digest, panel.schema) == (expected.digest, expected.schema)
    assert [one.rows for one in seen] == [160, 240, 320, 400]
    assert seen[-1].series == seen[-1].all_series == 5


def test_a_folder_for_each_id(tmp_path: Path) -> None:
    for (id,), part in table().group_by("unique_id"):
        (tmp_path / f"unique_id={id}").mkdir()
        part.drop("unique_id").write_parquet(tmp_path / f"unique_id={id}" / "part.pq")
    assert read_folder(tmp_path, COLUMNS).digest == read_panel(table(), COLUMNS).digest


def test_the_file_and_its_row_are_named(tmp_path: Path) -> None:
    whole = table()
    whole[:100].write_parquet(tmp_path / "one.parquet")
    bad = (
        whole[100:]
        .with_row_index()
        .with_columns(y=pl.when(pl.col("index") == 6).then(None).otherwise("y"))
    )
    bad.drop("index").write_parquet(tmp_path / "two.parquet")
    with pytest.raises(DataError, match=r"two\.parquet: row 7 \(series 'b'\): column 'y' is empty"):
        read_folder(tmp_path, COLUMNS)
    whole[:1].write_parquet(tmp_path / "two.parquet")
    with pytest.raises(DataError, match=r"two\.parquet: row 1 .* as row 1 of .*one\.parquet"):
        read_folder(tmp_path, COLUMNS)
    (tmp_path / "two.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"two\.parquet: not a readable Parquet table"):
        read_folder(tmp_path, COLUMNS)
    whole[:9].with_columns(unique_id=pl.lit(None, pl.String)).write_parquet(
        tmp_path / "two.parquet"
    )
    with pytest.raises(DataError, match=r"two\.parquet: row 1: column 'unique_id' has no id"):
        read_folder(tmp_path, COLUMNS)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="no Parquet file"):
        read_folder(empty)


def test_training_and_forecasts_are_those_of_the_table(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "GROUP_ROWS", 100)
    here, there = Forecaster(**SETTINGS).fit(table()), Forecaster(**SETTINGS).fit(folder)
    assert here.history_ == there.history_
    for name, tensor in here.net_.state_dict().items():
        assert torch.equal(tensor, there.net_.state_dict()[name]), name
    expected = here.predict(table())
    for out, read in (("f.csv", pl.read_csv), ("f.parquet", pl.read_parquet)):
        assert write_forecasts(there, folder, tmp_path / out) == 35
        found = read(tmp_path / out)
        assert found["unique_id"].equals(expected["unique_id"])
        numbers = [one["forecast"].to_numpy().astype(np.float32) for one in (found, expected)]
        assert_same(numbers[0], numbers[1])
    assert sorted(os.listdir(tmp_path)) == ["f.csv", "f.parquet"]
    assert there.predict(folder).columns == expected.columns


def test_arrays_on_disk_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = disk_array((3, 2), np.float32)
    array[1] = 5
    assert array.sum() == 10
    assert disk_array((4, 0), np.int32).shape == (4, 0)
    assert not list(tmp_path.iterdir())


def test_shares_make_the_batch_and_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = np.arange(24).reshape(12, 2)
    for joint in (1, 3):
        shares = [Team(rank, 2).share(blocks, joint) for rank in range(2)]
        rows = sorted(map(tuple, np.concatenate(shares).tolist()))
        assert rows == sorted(map(tuple, blocks.tolist()))
    assert (shares[1].reshape(-1, 3, 2)[0] == blocks[3:6]).all()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 3, generator=generator)
    weight = torch.rand(10, generator=generator)
    net = torch.nn.Linear(3, 1)

    def gradients(rows: slice) -> float:
        net.zero_grad()
        part = weight[rows]
        ((net(x[rows])[:, 0].square() * part).sum() / part.sum()).backward()
        return float(part.sum())

    sent: list[torch.Tensor] = []
    for rows in (slice(0, 3), slice(3, 10)):
        own = gradients(rows)
        monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: sent.append(flat.clone()))
        Team(0, 2).gather(net, own)
    whole = gradients(slice(0, 10))
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    assert whole == pytest.approx(float(weight.sum()))
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: flat.copy_(sum(sent)))
    Team(0, 2).gather(net, 1.0)
    for parameter, grad in zip(net.parameters(), expected, strict=True):
        assert parameter.grad is not None
        assert_same(parameter.grad, grad)


CAPPED = """
import resource, sys
import numpy as np, torch
from holdfast.data.tables import load_frame
from holdfast.tasks import Forecaster
import holdfast.data.folder as folders
import polars, sklearn, narwhals
from holdfast.tasks.forecast.shards import write_forecasts
from tests.tasks.small import several
torch.set_num_threads(1)
settings = dict(horizon=7, window=14, hidden_size=4, max_epochs=1, epoch_steps=20, batch_size=8)
Forecaster(**settings).fit(several()).predict(several())
own = next(int(s.split()[1]) for s in open("/proc/self/status") if s.startswith("VmData"))
room = int(sys.argv[2]) << 20
# What a process may write to memory beyond what it has; files that are mapped do not count.
resource.setrlimit(resource.RLIMIT_DATA, ((own << 10) + room, -1))
past = tuple(f"x{k}" for k in range(8))
if sys.argv[3] == "whole":
    from holdfast.data import Columns, read_panel
    table = polars.read_parquet(sys.argv[1] + "/*.parquet")
    read_panel(table, Columns(past=past))
else:
    folders.GROUP_ROWS = 50_000
    model = Forecaster(past=past, **settings).fit(sys.argv[1])
    print(write_forecasts(model, sys.argv[1], sys.argv[1] + ".csv"))
"""


@pytest.mark.slow
def test_a_folder_larger_than_the_memory_trains(tmp_path: Path) -> None:
    """1.6 million rows of ten numbers, 128 MB as they are, within 110 MB, where a table fails."""
    folder = tmp_path / "large"
    folder.mkdir()
    rng = np.random.default_rng(0)
    times = np.datetime64("2020-01-01", "us") + np.arange(400) * np.timedelta64(1, "D")
    for file in range(20):
        ids = np.repeat([f"s{file:02}{n:04}" for n in range(200)], 400)
        numbers = {f"x{k}": rng.normal(size=len(ids)) for k in range(8)}
        y = 10 + rng.normal(size=len(ids))
        frame = pl.DataFrame({"unique_id": ids, "ds": np.tile(times, 200), "y": y, **numbers})
        frame.write_parquet(folder / f"{file:02}.parquet", row_group_size=20_000)
    environment = {**os.environ, "POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}

    def run(how: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CAPPED, str(folder), "110", how]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    found = run("folder")
    assert found.returncode == 0, found.stderr[-2000:]
    assert int(found.stdout) == 4000 * 7
    assert run("whole").returncode != 0
