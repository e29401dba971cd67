"""Forecast two parts of the M4 competition, and print scores beside the competition's references.

    HOLDFAST_DATA=../shared/data python examples/m4.py hourly weekly --out m4.jsonl

Data: 414 hourly series 48 hours ahead, 359 weekly ones 13 weeks ahead, with the split of the
competition (Makridakis, Spiliotis & Assimakopoulos 2020), not part of the project. The files hold
no times, so made-up ones take their place. Every run is a line of JSON at once, with its forecasts
beside it (`--out`), so that an interrupted series of runs goes on where it stopped.

sMAPE and MASE are means over all series and steps; OWA is the mean of both, each divided by that of
Naive2 (the competition's figures). Members are averaged by the median of their forecasts.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.data.optional import require
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast import baselines, metrics

START = np.datetime64("2020-01-01", "us")
HOUR = np.timedelta64(3_600_000_000, "us")
SHARED = {"validation": 0.01, "scaling": "log", "schedule": "cosine"}
STEPS = {"window": 72, "lags": (48, 72, 168, 336), "max_epochs": 20, "epoch_steps": 60}


@dataclass(frozen=True)
class Part:
    """A part of M4: `naive2` is sMAPE and MASE of Naive2, `models` the settings by name."""

    file: str
    horizon: int
    season: int
    step: np.timedelta64
    naive2: tuple[float, float]
    models: dict[str, dict[str, Any]]


PARTS = {
    "hourly": Part(
        "Hourly",
        48,
        24,
        HOUR,
        (18.383, 2.395),
        {
            "direct": {
                "window": 48,
                "lags": (48, 72, 168, 336),
                "max_epochs": 40,
                "epoch_steps": 100,
            },
            "recurrent": {**STEPS, "model": "recurrent"},
            "deepar": {
                **STEPS,
                "model": "deepar",
                "output": "student_t",
                "options": {"anchor": True},
            },
            "es": {
                "model": "es",
                "hidden_size": 40,
                "window": 48,
                "lags": (336,),
                "max_epochs": 15,
                "epoch_steps": 60,
            },
        },
    ),
    "weekly": Part(
        "Weekly",
        13,
        1,
        168 * HOUR,
        (9.161, 2.777),
        {
            "direct": {"window": 26, "lags": (52,), "max_epochs": 10, "epoch_steps": 100},
            "recurrent": {
                "model": "recurrent",
                "window": 26,
                "lags": (52,),
                "max_epochs": 10,
                "epoch_steps": 60,
            },
            "es": {
                "model": "es",
                "hidden_size": 40,
                "window": 52,
                "lags": (104,),
                "max_epochs": 15,
                "epoch_steps": 60,
                "options": {"rows": 13},
            },
        },
    ),
}


def read(part: Part) -> tuple[list[str], list[np.ndarray], np.ndarray]:
    """Names, values to learn from, and what came (series, horizon)."""
    folder = Path(os.environ["HOLDFAST_DATA"]) / "m4"

    def rows(which: str) -> dict[str, np.ndarray]:
        with lzma.open(folder / f"{part.file}-{which}.csv.xz", "rt", encoding="utf-8") as file:
            lines = list(csv.reader(file))[1:]
        return {name: np.array([float(v) for v in values if v]) for name, *values in lines}

    past, came = rows("train"), rows("test")
    return list(past), list(past.values()), np.stack([came[name] for name in past])


def long_table(part: Part, names: list[str], past: list[np.ndarray]) -> Any:
    """All series below each other, as a frame."""
    times = [START + np.arange(len(y)) * part.step for y in past]
    return require("polars").DataFrame(
        {
            "unique_id": np.repeat(names, [len(y) for y in past]),
            "ds": np.concatenate(times),
            "y": np.concatenate(past),
        }
    )


def scored(
    part: Part, past: list[np.ndarray], came: np.ndarray, forecast: np.ndarray
) -> dict[str, float]:
    """sMAPE, MASE and OWA."""
    scale = np.array(
        [metrics.in_sample_scale(y, np.ones(len(y), dtype=bool), part.season) for y in past]
    )
    weight = np.ones_like(came)
    smape = metrics.smape(came, forecast, weight)
    mase = metrics.mase(came, forecast, weight, scale[:, None])
    owa = 0.5 * (smape / part.naive2[0] + mase / part.naive2[1])
    return {"sMAPE": round(smape, 3), "MASE": round(mase, 4), "OWA": round(owa, 4)}


def run(part: Part, table: Any, chosen: dict[str, Any], seed: int) -> tuple[np.ndarray, float]:
    """Forecasts (series, horizon) of one training, and its seconds."""
    start = time.perf_counter()
    model = Forecaster(part.horizon, seed=seed, **SHARED, **chosen).fit(table)
    forecast = model.predict(table)["forecast"].to_numpy()
    return forecast.reshape(-1, part.horizon), time.perf_counter() - start


def main() -> None:
    """Train what has no line yet, and print a table for each part."""
    parser = argparse.ArgumentParser(description="M4, hourly and weekly")
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--models", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("m4.jsonl"))
    parser.add_argument("--tiny", action="store_true", help="ten series and one short epoch")
    arguments = parser.parse_args()
    for name in arguments.parts:
        measure(name, arguments)


def measure(name: str, arguments: argparse.Namespace) -> None:
    """One part: its runs, and their table."""
    part = PARTS[name]
    names, past, came = read(part)
    if arguments.tiny:
        names, past, came = names[:10], past[:10], came[:10]
    table = long_table(part, names, past)
    rows = {"naive": [_naive(past, part, 1)], "seasonal naive": [_naive(past, part, part.season)]}
    members: list[np.ndarray] = []
    for model, chosen in part.models.items():
        if arguments.models and model not in arguments.models:
            continue
        if arguments.tiny:
            chosen = {**chosen, "max_epochs": 1, "epoch_steps": 2}
        for seed in range(arguments.seeds):
            file = arguments.out.with_name(f"{arguments.out.stem}-{name}-{model}-{seed}.npy")
            if not file.exists():
                forecast, seconds = run(part, table, chosen, seed)
                line = {"part": name, "model": model, "seed": seed, "seconds": round(seconds)}
                line |= scored(part, past, came, forecast)
                with arguments.out.open("a", encoding="utf-8") as out:
                    out.write(json.dumps(line) + "\n")
                np.save(file, forecast)
            rows.setdefault(model, []).append(np.load(file))
        if arguments.seeds > 1:
            rows[f"{model}, {arguments.seeds} seeds averaged"] = [np.median(rows[model], axis=0)]
        members += rows[model]
    if len(members) > arguments.seeds:
        rows[f"all {len(members)} averaged"] = [np.median(members, axis=0)]
    print(f"\n## M4 {name}\n\n| method | sMAPE | MASE | OWA |\n|---|---:|---:|---:|")
    for method, forecasts in rows.items():
        scores = [scored(part, past, came, forecast) for forecast in forecasts]
        cells = " | ".join(_spread([s[key] for s in scores]) for key in scores[0])
        print(f"| {method} | {cells} |")


def _naive(past: list[np.ndarray], part: Part, season: int) -> np.ndarray:
    pairs = [(y, np.array([len(y) - 1])) for y in past]
    return np.concatenate(
        [baselines.seasonal_naive(y, at, part.horizon, season) for y, at in pairs]
    )


def _spread(values: list[float]) -> str:
    """The mean, and the range where there are several."""
    mean = f"{np.mean(values):.4g}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.4g} to {max(values):.4g})"


if __name__ == "__main__":
    main()
