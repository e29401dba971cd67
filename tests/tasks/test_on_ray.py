"""Training on a Ray cluster: the same scores as here, also when a worker dies."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from holdfast.tasks import Forecaster
from holdfast.tasks.forecast import on_ray
from holdfast.tasks.forecast.shards import write_forecasts
from tests.helpers import assert_same
from tests.tasks.small import several

SETTINGS: dict[str, Any] = {
    "horizon": 7,
    "window": 14,
    "hidden_size": 4,
    "max_epochs": 40,
    "patience": 40,
    "epoch_steps": 10,
    "dropout": 0.0,
}


def below(root: int) -> list[int]:
    """A process and all that it started, and these started."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            parent = int(Path(f"/proc/{name}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found = [root]
    for process in found:
        found += children.get(process, [])
    return found


def addresses(processes: list[int]) -> dict[str, set[str]]:
    """The addresses on which processes listen, and those that they are connected with."""
    sockets = set()
    for process in processes:
        try:
            links = [
                os.readlink(f"/proc/{process}/fd/{n}") for n in os.listdir(f"/proc/{process}/fd")
            ]
        except OSError:
            continue
        sockets |= {link[8:-1] for link in links if link.startswith("socket:")}
    found: dict[str, set[str]] = {"listening": set(), "connected": set()}
    for table, width in (("tcp", 8), ("tcp6", 32)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            kind, place = {"0A": ("listening", 1), "01": ("connected", 2)}.get(fields[3], ("", 0))
            if kind and fields[9] in sockets:
                last = fields[place].partition(":")[0][width - 8 :]
                found[kind].add(socket.inet_ntoa(struct.pack("<I", int(last, 16))))
    return found


def kill_one(file: Path, ended: threading.Event, seen: dict[str, object]) -> None:
    """Kill one training worker of this process once an epoch is written."""
    while not file.exists():
        if ended.wait(0.01):
            return
    mine = below(os.getpid())
    seen.update(addresses(mine))
    for process in mine:
        try:
            name = Path(f"/proc/{process}/cmdline").read_text()
        except OSError:
            continue
        if name.startswith("ray::") and "TrainWorker" in name:
            os.kill(process, signal.SIGKILL)
            seen["killed"] = process
            return


def folder_of(path: Path) -> Path:
    """Six series in three files."""
    table = several(tuple("abcdef"), rows=110)
    table = table.with_columns(y=pl.col("y") / pl.col("y").mean().over("unique_id"))
    path.mkdir()
    for part in range(3):
        table[part::3].write_parquet(path / f"{part}.parquet")
    return path


# Ray warns of its own plans and leaves sockets to its end; neither is ours.
@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_killed_worker_changes_no_score(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Imported here, Ray would not yet know that it has to stay on the loopback address.
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed: the extra `ray`")
    assert "ray" not in sys.modules
    monkeypatch.setattr(on_ray, "GROUP_ROWS", 250)
    # A busy machine takes its time to start a cluster.
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "300")
    folder, file = folder_of(tmp_path / "table"), tmp_path / "progress"
    local = Forecaster(**SETTINGS).fit(folder)
    ended = threading.Event()
    seen: dict[str, object] = {}
    killer = threading.Thread(target=kill_one, args=(file, ended, seen))
    with on_ray.cluster(2):
        killer.start()
        try:
            far = on_ray.fit_on_ray(Forecaster(**SETTINGS), folder, checkpoint=file)
        finally:
            ended.set()
            killer.join()
        on_ray.predict_on_ray(far, folder, tmp_path / "far.csv")
    assert "killed" in seen
    assert seen["connected"] == {"127.0.0.1"}
    # The store where torch's processes find each other listens everywhere, and nobody else does.
    assert seen["listening"] == {"127.0.0.1", "0.0.0.0"}
    assert len(far.history_) == len(local.history_)
    here = np.array([row["valid_loss"] for row in local.history_])
    there = np.array([row["valid_loss"] for row in far.history_])
    assert np.abs(here - there).max() < 0.01 * here.min()
    write_forecasts(far, folder, tmp_path / "here.csv")
    tables = [pl.read_csv(tmp_path / name) for name in ("here.csv", "far.csv")]
    assert tables[0][:, :2].equals(tables[1][:, :2])
    one, other = (table["forecast"].to_numpy().astype(np.float32) for table in tables)
    assert_same(one, other)


def test_nothing_imports_ray_unasked() -> None:
    code = "import sys, holdfast.tasks.forecast.on_ray; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
