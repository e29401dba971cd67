"""Forecast all seven columns of two transformers 96 to 720 hours ahead, and print the errors.

    HOLDFAST_DATA=../shared/data python examples/ett_multivariate.py --set ETTh1 --horizon 96

Data: ETTh1 and ETTh2, hourly (Zhou et al. 2021, CC BY-ND 4.0), not part of the project. The usual
protocol: a window of 96 hours, 12 months to train, 4 to stop early, 4 to test; all windows of the
test part, none dropped; errors in units of each column's standard deviation over the training part.
Each run is one line of JSON, added to `--out` as soon as it is done.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from holdfast.tasks import Forecaster

TRAIN, PART, WINDOW, SEASON = 8640, 2880, 96, 24
HORIZONS = (96, 192, 336, 720)
SETTINGS: dict[str, Any] = {
    "model": "segment",
    "loss": "mae",
    "window": WINDOW,
    "lags": (),
    "hidden_size": 128,
    "dropout": 0.5,
    "schedule": "cosine",
}
OWN: dict[str, dict[str, Any]] = {
    "ETTh1": {"learning_rate": 2e-3, "batch_size": 128, "epoch_steps": 250, "max_epochs": 3},
    "ETTh2": {"learning_rate": 1e-3, "batch_size": 256, "epoch_steps": 200, "max_epochs": 4},
}
NORMALIZE = {"ETTh1": "mean", "ETTh2": "last"}
AHEAD = {96: 24, 192: 24, 336: 48, 720: 72}
"""Rows that a step of the decoder writes, by horizon."""


def read(path: Path) -> pd.DataFrame:
    """The seven columns as a long table of seven series: 20 months."""
    wide = pd.read_csv(path).iloc[: TRAIN + 2 * PART]
    long = wide.melt("date", var_name="unique_id", value_name="y")
    return long.rename(columns={"date": "ds"}).assign(ds=lambda t: pd.to_datetime(t["ds"]))


def errors(forecast: np.ndarray, truth: np.ndarray, std: np.ndarray) -> dict[str, float]:
    """MSE and MAE (W, H) in units of `std` (W,)."""
    difference = (forecast - truth) / std[:, None]
    return {"MSE": float(np.square(difference).mean()), "MAE": float(np.abs(difference).mean())}


def naive(table: pd.DataFrame, horizon: int, season: int) -> dict[str, float]:
    """The errors of the value a season before; a season of 1 repeats the last value."""
    found = []
    for _, part in table.groupby("unique_id", sort=False):
        y = part["y"].to_numpy()
        z = y / y[:TRAIN].std()
        origins = np.arange(TRAIN + PART - 1, len(y) - horizon)[:, None]
        steps = np.arange(horizon)
        found.append((z[origins + 1 + steps], z[origins + 1 - season + steps % season]))
    truth, forecast = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return errors(forecast, truth, np.ones(len(truth)))


def run(table: pd.DataFrame, name: str, horizon: int, seed: int, **more: Any) -> dict[str, Any]:
    """Train on 12 months, stop by 4, score all windows of the last 4."""
    options = {
        "segment": 24,
        "ahead": AHEAD[horizon],
        "normalize": NORMALIZE[name],
        "calendar": False,
    }
    chosen = {**SETTINGS, **OWN[name], "options": options, **more}
    model = Forecaster(horizon, validation=PART / (TRAIN + PART), seed=seed, **chosen)
    start = time.process_time()
    model.fit(table.groupby("unique_id", sort=False).head(TRAIN + PART))
    seconds = time.process_time() - start
    rolled = model.roll(table, last=PART, step=1)
    ids = [series.id for series in rolled.panel.series]
    deviations = [model.scaling_.targets[id].std for id in ids]
    std = np.repeat(deviations, [len(at) for at in rolled.origins])
    return {
        "set": name,
        "horizon": horizon,
        "seed": seed,
        **{
            key: round(value, 4)
            for key, value in errors(rolled.forecast, rolled.truth, std).items()
        },
        "windows": len(rolled.origins[0]),
        "valid": round(model.history_[model.best_epoch_ - 1]["valid_loss"], 4),
        "epoch": model.best_epoch_,
        "epochs": len(model.history_),
        "seconds": round(seconds, 1),
        "batch_size": chosen["batch_size"],
        "learning_rate": chosen["learning_rate"],
        **options,
    }


def done(file: Path | None) -> set[tuple[str, int, int]]:
    """Set, horizon and seed of the runs that a file has already."""
    if file is None or not file.exists():
        return set()
    found = map(json.loads, file.read_text().splitlines())
    return {(line["set"], line["horizon"], line["seed"]) for line in found}


def main() -> None:
    """Print the errors of naive forecasts, then print and write a line for each run."""
    parser = argparse.ArgumentParser(description="ETTh1 and ETTh2, all columns, from 96 hours")
    parser.add_argument("--set", nargs="+", default=["ETTh1", "ETTh2"], dest="names")
    parser.add_argument("--horizon", nargs="+", type=int, default=list(HORIZONS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="a file of JSON lines; runs it has are not rerun")
    parser.add_argument("--tiny", action="store_true", help="two steps of training, to see it run")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("HOLDFAST_DATA", "../shared/data")) / "ett"
    tables = {name: read(folder / f"{name}.csv.xz") for name in arguments.names}
    for name, horizon in itertools.product(tables, arguments.horizon):
        for label, season in (("last value", 1), ("yesterday", SEASON)):
            found = naive(tables[name], horizon, season)
            print(f"{name} {horizon} {label}: MSE {found['MSE']:.4f}, MAE {found['MAE']:.4f}")
    more: dict[str, Any] = (
        {"max_epochs": 1, "epoch_steps": 2, "hidden_size": 8} if arguments.tiny else {}
    )
    before = done(arguments.out)
    cases = itertools.product(range(arguments.seeds), arguments.horizon)
    for (seed, horizon), name in itertools.product(cases, tables):
        if (name, horizon, seed) in before:
            continue
        line = json.dumps(run(tables[name], name, horizon, seed, **more))
        print(line, flush=True)
        if arguments.out is not None:
            with arguments.out.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
