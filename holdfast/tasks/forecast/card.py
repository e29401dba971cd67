"""The card of a model: what it was trained on, how, how good it is, and what it is not for."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np
import torch

from holdfast import __version__
from holdfast.tasks.forecast.short import listed


def model_card(config: dict[str, Any], scores: str = "") -> str:
    """The text of ``card.md`` for the configuration of a forecaster."""
    data, recipe = config["data"], config["recipe"]
    history, best = config["history"], config["best_epoch"]
    settings = "\n".join(
        f"| `{name}` | `{value!r}` |" for name, value in config["settings"].items()
    )
    chosen = history[best - 1]
    history_rows = recipe["window"] + max(recipe["lags"], default=1)
    return f"""# A Holdfast forecaster

Forecasts the next {recipe["horizon"]} values of a series, {data["frequency"]} apart.

## Data

| | |
|---|---|
| table | {data["name"]} |
| series, rows | {data["series"]}, {data["rows"]} |
| series too short to train, left out | {_left_out(data["left_out"])} |
| from, to | {data["first"]}, {data["last"]} |
| frequency | {data["frequency"]} |
| rows without a target (filled from the past, not learned) | {data["missing"]} |
| SHA-256 of ids, times and values | `{data["sha256"]}` |

## Settings

{_chosen(config)}| setting | value |
|---|---|
{settings}

Windows of {recipe["window"]} rows; seasons {_listed(recipe["seasons"])};
lags {_listed(recipe["lags"])}; a forecast needs the last {history_rows} rows of its series.

## Scores

Trained for {len(history)} epochs; the weights are those of epoch {best}, whose mean absolute error
on the held-out tail was {chosen["valid_loss"]:.4f} standard deviations of the series (this tail
chose the epoch, so it flatters).

{scores or "No rows beyond training were scored; `holdfast forecast evaluate` does it."}

## Intended use and limits

- For series with the same frequency and meaning; one that training did not know is scaled by its
  own rows.
- Point forecasts only: nothing here says how uncertain they are.
- Rhythms longer than the longest season, holidays and new kinds of events are unknown to the model.
- Levels far from those in training are followed only through the last values.
- Not for decisions about persons, and not without supervision where errors do harm.

Made with Holdfast {__version__}, torch {torch.__version__}, numpy {np.__version__},
Python {platform.python_version()}.
"""


def _chosen(config: dict[str, Any]) -> str:
    """Why an automatic model is what it is, and what was tried."""
    chosen = config["chosen"]
    if not chosen["changes"]:
        return ""
    return f"Chosen: {chosen['reason']}.\n\n{chosen['table']}\n\n"


def _left_out(ids: list[str]) -> str:
    """How many, and which of them first."""
    return f"{len(ids)}: {listed(tuple(ids))}" if ids else "none"


def _listed(values: Any) -> str:
    return ", ".join(map(str, values)) or "none"
