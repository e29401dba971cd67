"""The card of a model: what it was trained on, how, how good it is, and what it is not for."""

from __future__ import annotations

from typing import Any

from holdfast.tasks.card import made_with, table_of
from holdfast.tasks.forecast.short import listed


def model_card(config: dict[str, Any], scores: str = "") -> str:
    """The text of ``card.md`` for the configuration of a forecaster."""
    data, recipe = config["data"], config["recipe"]
    values = {f"`{name}`": f"`{value!r}`" for name, value in config["settings"].items()}
    limits = "\n".join(f"- {sentence}" for sentence in limits_of(config))
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
{_more_data(config)}| SHA-256 of ids, times and values | `{data["sha256"]}` |

## Settings

{_chosen(config)}{table_of(values, "setting", "value")}

Windows of {recipe["window"]} rows; seasons {_listed(recipe["seasons"])};
lags {_listed(recipe["lags"])}; a forecast sees the last {history_rows} rows of its series.

## Scores

{_training(config)}

{scores or "No rows beyond training were scored; `holdfast forecast evaluate` does it."}

## Intended use and limits

{limits}

{made_with()}
"""


def limits_of(config: dict[str, Any]) -> list[str]:
    """What a forecaster is for and where it ends, by what it is."""
    settings, recipe = config["settings"], config["recipe"]
    future = [c["name"] for c in config["schema"] if c["role"] == "future"]
    found = [_ids(settings), _certainty(settings, config)]
    if future:
        found.append(
            f"What is ahead must be given for every forecast: {', '.join(future)}; a wrong value "
            "there makes a wrong forecast."
        )
    seasons = f" ({max(recipe['seasons'])} rows)" if recipe["seasons"] else ""
    holidays = "" if future else ", holidays"
    found += [
        f"Rhythms longer than the longest season{seasons}{holidays} and new kinds of events are "
        "unknown to the model.",
        "Levels far from those in training are followed only through the last values.",
        "Not for decisions about persons, and not without supervision where errors do harm.",
    ]
    return found


def _ids(settings: dict[str, Any]) -> str:
    if settings["model"] == "places":
        return "For the series of training together, at the same times; another id is refused."
    return (
        "For series with the same frequency and meaning as those of training. A series that is new "
        "is scaled by its own rows and forecast by what the others taught."
    )


def _certainty(settings: dict[str, Any], config: dict[str, Any]) -> str:
    """What the model says of how sure it is."""
    output = settings["output"]
    if settings.get("intervals") == "conformal":
        return (
            "Intervals are as wide as errors on held-out rows say (conformal); they hold as far as "
            "the future is like those rows." + _measured(config)
        )
    if output == "point":
        return "Point forecasts only: nothing here says how uncertain they are."
    if output == "quantiles":
        kind = "quantiles were learned"
        if settings["quantiles"]:
            kind += f" at {_listed(settings['quantiles'])}"
    else:
        kind = f"the distribution is {output.replace('_', ' ')}"
    return (
        f"Intervals are the network's own ({kind}); nothing promises that they cover what they say "
        "before that was measured on rows of later."
    )


def _measured(config: dict[str, Any]) -> str:
    """The coverage of conformal intervals that was measured in training, where there is one."""
    margins = (config.get("held_out") or {}).get("margins") or {}
    shares = [
        f"{100 * share:.0f} % for {level} %"
        for level, share in margins.get("coverage", {}).items()
        if share is not None and level in ("80", "95")
    ]
    return f" Measured on the later half of them: {', '.join(shares)}." if shares else ""


def _training(config: dict[str, Any]) -> str:
    """How long it was trained, and what early stopping saw."""
    history, best = config["history"], config["best_epoch"]
    loss = history[best - 1]["valid_loss"]
    members = len(config["members"]) + 1
    text = (
        f"Trained for {len(history)} epochs; the weights are those of epoch {best}, whose "
        f"{_loss_name(config['settings'])} on the held-out tail was {loss:.4f} (this tail "
        "chose the epoch, so it flatters)."
    )
    if members > 1:
        text += f" It is the first of {members} networks, whose forecasts are averaged."
    return text


def _loss_name(settings: dict[str, Any]) -> str:
    if settings["output"] == "point":
        names = {"mae": "absolute error", "mse": "squared error", "huber": "Huber loss"}
        return f"mean {names[settings['loss']]} of scaled values"
    return "quantile loss" if settings["output"] == "quantiles" else "negative log likelihood"


def _more_data(config: dict[str, Any]) -> str:
    """Covariates by role, as rows of a table."""
    rows = []
    for role in ("past", "future", "static"):
        names = [f"{c['name']} ({c['kind']})" for c in config["schema"] if c["role"] == role]
        if names:
            rows.append(f"| {role} covariates | {', '.join(names)} |")
    return "".join(f"{row}\n" for row in rows)


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
