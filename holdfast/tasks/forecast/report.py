"""The report of any forecaster: what it is, how good it is, what it says, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from holdfast.data.panel import Panel
from holdfast.errors import DataError
from holdfast.tasks import page
from holdfast.tasks.forecast import figures
from holdfast.tasks.forecast.components import components_figure
from holdfast.tasks.forecast.estimator import Forecaster
from holdfast.tasks.forecast.evaluate import OURS, Evaluation, show_score
from holdfast.tasks.forecast.verdict import judge

MASE_NOTE = (
    "Values that were not measured do not count. MASE divides by the in-sample error of the value "
    "one season before; sMAPE and MAPE are in percent; cover is the share of values within the "
    "interval of so many percent, width its mean width. The best value of each column is shaded."
)


def report(
    model: Forecaster,
    panel: Panel,
    *,
    evaluation: Evaluation | None = None,
    fan: figures.Fan | None = None,
    warned: Sequence[str] = (),
) -> str:
    """The page of a fitted model, with scores and forecasts after the end of `panel` if given.

    `warned` are warnings that were given on the way. The page needs no other file, no network and
    no script.
    """
    target = panel.columns.target
    lead = (
        f"{model.horizon} rows ahead, {panel.frequency} apart, of {_count(panel, 'series')}; "
        f"model {_model_name(model)}."
    )
    parts = [
        page.cards(_first_facts(model, panel, evaluation)),
        page.warnings_section(_warnings(model, evaluation, warned)),
    ]
    if fan is not None:
        said = f"measured values of {target} and the forecast after them"
        figure = figures.forecast_figure(panel, fan)
        parts.append(page.section("Forecast", page.picture(figure, said, end=True)))
    if evaluation is not None:
        parts += _scored(model, evaluation)
    learned = page.picture(
        figures.learning_figure(model),
        f"loss by epoch; the weights of epoch {model.best_epoch_} are kept",
        wide=False,
    )
    learning = page.section("Learning curve", learned)
    if evaluation is not None:
        steps = page.picture(
            figures.horizon_figure(evaluation),
            "mean absolute error of every method by rows ahead",
            wide=False,
        )
        parts.append(page.beside(page.section("Error by rows ahead", steps), learning))
    else:
        parts.append(learning)
    parts += [_components(model, panel), _why(model), _data(model), _settings(model)]
    return page.page(f"Forecast of {target}", lead, parts)


def scores_html(evaluation: Evaluation) -> str:
    """The score table with the best value of each column shaded."""
    names = evaluation.names
    methods = list(evaluation.scores)
    rows = [[m, *(show_score(evaluation.scores[m][n]) for n in names)] for m in methods]
    best = []
    for column, name in enumerate(names, 1):
        values = np.array([_loss(name, evaluation.scores[method][name]) for method in methods])
        if np.isfinite(values).any() and not name.startswith("width"):
            least = np.nanmin(values)
            best += [(int(row), column) for row in np.flatnonzero(values == least)]
    return page.table("Scores by method", ("method", *names), rows, best, methods.index(OURS))


def settings_facts(model: Forecaster) -> dict[str, Any]:
    """Windows and settings by name."""
    recipe = model.recipe_
    return {
        "window, seasons, lags": f"{recipe.window}; {recipe.seasons}; {recipe.lags}",
        **{name: repr(value) for name, value in model.get_params().items()},
    }


def _first_facts(
    model: Forecaster, panel: Panel, evaluation: Evaluation | None
) -> list[tuple[str, str]]:
    found = []
    if evaluation is not None:
        ours = evaluation.scores[OURS]
        found.append((show_score(ours["MAE"]), f"mean absolute error of {panel.columns.target}"))
        verdict = judge(evaluation.scores)
        if verdict is not None and verdict.theirs > 0:
            gain = 100 * (1 - verdict.ours / verdict.theirs)
            side = "below" if gain >= 0 else "above"
            said = f"{verdict.score} {side} that of {verdict.baseline}"
            found.append((f"{abs(gain):.1f} %", said))
        for level in (80, 95):
            covered = ours.get(f"cover {level}", np.nan)
            if np.isfinite(covered):
                found.append((f"{100 * covered:.1f} %", f"of values in the {level} % interval"))
        count = len(evaluation.rolled.forecast)
        found.append((f"{count:,}", f"scored forecasts of {model.horizon} rows, none trained on"))
    else:
        found.append((_count(panel, "series"), f"{len(panel):,} rows, {panel.frequency} apart"))
    members = f", {model.members} networks" if model.members > 1 else ""
    found.append((str(len(model.history_)), f"epochs, best {model.best_epoch_}{members}"))
    return found


def _scored(model: Forecaster, evaluation: Evaluation) -> list[str]:
    count = len(evaluation.rolled.forecast)
    beside = figures.best_baseline(evaluation)
    said = f"forecasts, measured values and {beside}" if beside else "forecasts, measured values"
    return [
        page.section(
            "Forecasts beside what came",
            page.picture(figures.backtest_figure(evaluation), said),
            page.note(f"The first of {count:,} forecasts, each made from the rows before it."),
        ),
        page.section(
            "Scores",
            scores_html(evaluation),
            *(page.note(f"{words}.") for words in evaluation.notes),
            page.note(MASE_NOTE),
        ),
        page.section(
            "Residuals",
            page.picture(
                figures.residual_figure(evaluation), "measured less forecast, by time and as counts"
            ),
        ),
    ]


def _components(model: Forecaster, panel: Panel) -> str:
    try:
        figure = components_figure(model, panel)
    except DataError:
        # Parts of a forecast after the end need covariates that are not always known there.
        return ""
    if figure is None:
        return ""
    which = f" of {panel.series[0].id}" if panel.series[0].id else ""
    said = f"what the forecast{which} is made of"
    more = " The first of several networks is shown." if model.members > 1 else ""
    return page.section(
        "Components", page.picture(figure, said), page.note(f"{said.capitalize()}.{more}")
    )


def _why(model: Forecaster) -> str:
    chosen = model.chosen_
    if not chosen["changes"]:
        return page.section("Model", page.paragraph(f"Model {_model_name(model)}, as given."))
    return page.section(
        "Model, and why this one",
        page.paragraph(f"Chosen: {chosen['reason']}."),
        page.markdown_table("What was tried, the best first", chosen["table"]),
    )


def _data(model: Forecaster) -> str:
    data = model.data_
    rows: dict[str, Any] = {
        "table": data["name"],
        "trained on": f"{data['series']:,} series, {data['rows']:,} rows",
        "from, to": f"{data['first']} to {data['last']}",
        "frequency": data["frequency"],
        "not measured": f"{data['missing']:,} rows: filled from the past, kept out of loss and "
        "scores",
        "SHA-256 of the training data": data["sha256"],
    }
    if data.get("left_out"):
        rows["left out (too short)"] = ", ".join(data["left_out"][:20])
    covariates = [f"{c.name} ({c.role}, {c.kind})" for c in model.schema_.covariates]
    if covariates:
        rows["covariates"] = ", ".join(covariates)
    return page.section("Data", page.facts(rows))


def _settings(model: Forecaster) -> str:
    return page.section("Settings", page.facts(settings_facts(model)))


def _warnings(model: Forecaster, evaluation: Evaluation | None, warned: Sequence[str]) -> list[str]:
    found = list(warned)
    verdict = judge(evaluation.scores) if evaluation is not None else None
    if verdict is not None and verdict.beaten:
        found.append(verdict.sentence())
    missing, rows = model.data_["missing"], model.data_["rows"]
    if missing > 0.1 * rows:
        share = 100 * missing / rows
        found.append(f"{share:.0f} % of the rows have no target; they were filled from the past")
    sentences = [words.rstrip(".") + "." for words in found]
    return list(dict.fromkeys(words[0].upper() + words[1:] for words in sentences))


def _model_name(model: Forecaster) -> str:
    name = model.chosen_["changes"].get("model", model.model)
    cell = model.chosen_["changes"].get("cell", model.cell)
    return f"{name} ({cell})"


def _loss(name: str, value: float) -> float:
    """A score so that less is better."""
    if name == "R2":
        return -value
    if name.startswith("cover "):
        return abs(value - float(name.removeprefix("cover ")) / 100)
    return value


def _count(panel: Panel, what: str) -> str:
    return f"{len(panel.series):,} {what}"
