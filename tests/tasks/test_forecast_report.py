"""Pages, pictures, cards, terminals: what a person sees of a forecaster is true and readable."""

from __future__ import annotations

import io
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from holdfast.cli import main
from holdfast.errors import BaselineWarning
from holdfast.tasks import Evaluation, Forecaster, evaluate, plots
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.forecast import choosing, figures
from holdfast.tasks.forecast.auto import Choice, Trial
from holdfast.tasks.forecast.card import limits_of
from holdfast.tasks.forecast.components import mixture
from holdfast.tasks.forecast.models import WHEN, describe
from holdfast.tasks.forecast.nets import NETS
from holdfast.tasks.forecast.report import report
from holdfast.tasks.forecast.terminal import show_sparklines
from holdfast.tasks.forecast.verdict import warn_if_beaten
from holdfast.tasks.progress import Bar
from tests.helpers import assert_same
from tests.tasks.small import SMALL, csv, several

IDS = ("a <script>", "b", "c", "d", "e", "f", "g")
TABLE = several(IDS)
BEFORE = TABLE.filter(pl.col("ds") < TABLE["ds"][146])


@pytest.fixture(scope="module")
def model() -> Forecaster:
    """A small model of several series that says quantiles, two networks of it."""
    settings: dict[str, Any] = {**SMALL, "max_epochs": 2, "output": "quantiles", "members": 2}
    return Forecaster(**settings).fit(BEFORE)


@pytest.fixture(scope="module")
def evaluation(model: Forecaster) -> Evaluation:
    return evaluate(model, TABLE, autoets=False)


class Seen(HTMLParser):
    """The tags of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(page: str) -> Seen:
    """The page stands alone, runs nothing, and can be read without seeing the pictures."""
    seen = Seen(page)
    for _, attributes in seen.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "@import" not in page
    assert "url(" not in page
    assert not seen.of("script")
    assert seen.of("html") == [{"lang": "en"}]
    assert len(seen.of("h1")) == 1
    assert all(image.get("alt") for image in seen.of("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in seen.of("th"))
    regions = [box for box in seen.of("div") if box.get("role") == "region"]
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in regions)
    return seen


def test_the_report_of_a_fit(model: Forecaster, evaluation: Evaluation) -> None:
    panel = model.known(TABLE)
    fan = figures.fan_of_table(_frame(model), (80.0, 95.0), model.horizon)
    page = report(model, panel, evaluation=evaluation, fan=fan, warned=["it rains < soon"])
    seen = check_page(page)
    assert len(seen.of("img")) == 6
    for words in ("It rains &lt; soon.", "cover 80", "a &lt;script&gt;", "as given", "members"):
        assert words in page
    assert model.data_["sha256"] in page


def _frame(model: Forecaster) -> Any:
    return model.predict(TABLE, levels=(80, 95))


def test_the_page_says_why_a_model_was_chosen(model: Forecaster) -> None:
    before = model.chosen_
    choice = Choice({"model": "direct"}, "it won", [Trial({"model": "direct"}, 4, 0.5, 1.0)], 0.7)
    try:
        model.chosen_ = choice.as_json()
        page = report(model, model.known(TABLE))
    finally:
        model.chosen_ = before
    check_page(page)
    assert "Chosen: it won." in page
    assert ">0.5000<" in page


def test_fans_hold_what_the_frame_says(model: Forecaster, evaluation: Evaluation) -> None:
    frame = _frame(model)
    fan = figures.fan_of_table(frame, (80.0, 95.0), model.horizon)
    assert [level for level, _, _ in fan.bands] == [95.0, 80.0]
    expected = np.array(frame["forecast-lo-80"].to_list())
    assert_same(fan.bands[1][1].ravel(), expected, "80 %, lower end")
    rolled = figures.fan_of(evaluation.rolled.forecasts)
    assert len(rolled.bands) == 2
    for _, low, high in rolled.bands:
        assert (low <= high).all()
    count = len(figures.forecast_figure(model.known(TABLE), fan).axes)
    assert count == plots.MOST_PANELS


def test_the_mixture_is_the_forecast(model: Forecaster) -> None:
    found = mixture(model, model.known(TABLE))
    assert found is not None
    assert_same(found.shares.sum(axis=-1), np.ones_like(found.base, dtype=np.float32), "shares")
    first = model.nets_
    try:
        model.nets_ = first[:1]
        alone = np.array(_frame(model)["forecast"].to_list())[: model.horizon]
    finally:
        model.nets_ = first
    assert_same(found.point[0], alone, "the first network's forecast")


def test_a_baseline_that_wins_is_named() -> None:
    scores = {"Holdfast": {"MASE": 2.0}, "naive": {"MASE": 3.0}, "seasonal": {"MASE": 1.5}}
    with pytest.warns(BaselineWarning, match="seasonal has MASE 1.5 against 2 of this model"):
        warn_if_beaten(scores)
    warn_if_beaten({**scores, "seasonal": {"MASE": 2.5}})


def test_the_card_says_what_the_model_is(model: Forecaster, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    card = (tmp_path / "model" / "card.md").read_text()
    assert "first of 2 networks" in card
    assert "Intervals are the network's own" in card
    assert "quantile loss" in card
    config: dict[str, Any] = {
        "settings": {"model": "places", "output": "point", "intervals": "conformal"},
        "recipe": {"seasons": [7]},
        "schema": [{"name": "holiday", "role": "future"}],
        "held_out": {"margins": {"coverage": {"80": 0.77, "95": None}}},
    }
    said = " ".join(limits_of(config))
    for words in ("another id is refused", "77 % for 80 %", "holiday", "(7 rows)"):
        assert words in said
    config["settings"] |= {"model": "direct", "intervals": None}
    said = " ".join(limits_of(config))
    assert "Point forecasts only" in said
    assert "is new is scaled by its own rows" in said


def test_every_model_has_words() -> None:
    assert set(NETS) <= set(WHEN)
    text = describe()
    assert all(name in text for net in NETS.values() for name in net.options)
    assert max(map(len, text.splitlines())) <= 88


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_sparklines_on_a_terminal_only(model: Forecaster) -> None:
    panel = model.known(TABLE)
    forecasts = np.full((len(IDS), 7), 30.0)
    terminal, file = Terminal(), io.StringIO()
    show_sparklines(panel, forecasts, terminal)
    lines = terminal.getvalue().splitlines()
    assert len(lines) == plots.MOST_PANELS + 1
    assert lines[-1] == "and 1 more series"
    show_sparklines(panel, forecasts, file)
    assert file.getvalue() == ""


class Recorded:
    """A bar that keeps what it was told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def add_task(self, name: str, **told: Any) -> int:
        self.told = told
        return 0

    def update(self, task: int, **told: Any) -> None:
        self.told |= told


def test_the_bar_counts_steps_networks_and_trials() -> None:
    recorded = Recorded()
    bar = Bar(recorded, max_epochs=10, members=3, choosing=True)
    assert recorded.told["total"] is None
    bar.trial(Trial({"model": "direct"}, 4, 0.5, 2.0))
    bar.trial(Trial({"model": "es"}, 4, refused="too short"))
    assert "tried 2, best: model=direct (0.5000, 2 s)" in recorded.told["text"]
    bar.steps(Progress({"member": 1}, [{"epoch": 1.0}]), 5, 20)
    assert recorded.told["completed"] == 11.25
    assert recorded.told["total"] == 30
    assert recorded.told["text"].startswith("network 2 of 3, epoch 1/10")


FIT = ("--horizon", "7", "--window", "14", "--hidden-size", "6", "--max-epochs", "2")


def test_the_verbs_write_what_they_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, model = csv(several(), tmp_path / "t.csv"), str(tmp_path / "model")
    names = ("fit.html", "evaluate.html", "e.png", "f.parquet", "predict.html", "s.csv", "cv.csv")
    page, scores, plot, out, ahead, futures, every = (str(tmp_path / name) for name in names)
    fit = ("fit", table, "--out", model, *FIT, "--output", "gaussian", "--no-autoets")
    intervals = ("--levels", "80,95", "--quantiles", "0.5", "--samples", "3")
    checked = (*FIT, "--windows", "2", "--levels", "80", "--intervals", "conformal")
    runs = [
        (*fit, "--holdout", "14", "--report", page),
        ("evaluate", model, table, "--no-autoets", "--report", scores, "--plot", plot),
        ("predict", model, table, *intervals, "--out", out, "--report", ahead),
        ("samples", model, table, "--count", "4", "--out", futures),
        ("cross-validate", table, *checked, "--out", every, "--plot", plot),
        ("models",),
    ]
    for run in runs:
        assert main(["forecast", *run]) == 0, run
    printed = capsys.readouterr()
    assert "4 forecasts of 7 rows, 2 cutoffs" in printed.out
    assert all(line.startswith(("epoch", "holdfast: warning")) for line in printed.err.splitlines())
    for file in (page, scores, ahead):
        check_page(Path(file).read_text())
    frame = pl.read_parquet(out)
    bands = ["forecast-lo-80", "forecast-hi-80", "forecast-lo-95", "forecast-hi-95", "forecast-q50"]
    samples = [f"forecast-sample-{k}" for k in (1, 2, 3)]
    assert frame.columns == ["unique_id", "ds", "forecast", *bands, *samples]
    assert frame["ds"].dtype == pl.Datetime
    assert pl.read_csv(futures).shape == (14, 7)
    assert set(pl.read_csv(every)["unique_id"]) == {"a", "b"}


def test_a_choice_is_not_made_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted automatic training goes on with the model it had chosen."""
    made: list[str] = []

    def choose(*_: Any) -> Choice:
        made.append("one")
        return Choice({"model": "direct", "augment": ("jitter",)}, "because")

    class StopError(Exception):
        pass

    def stop(progress: Progress) -> None:
        if progress.epochs == 1 and progress.identity["member"] == 1:
            raise StopError

    monkeypatch.setattr(choosing, "choose", choose)
    settings: dict[str, Any] = {**SMALL, "max_epochs": 2, "model": "auto", "members": 2}
    whole = Forecaster(**settings).fit(BEFORE)
    file = tmp_path / "model.checkpoint"
    with pytest.raises(StopError):
        Forecaster(**settings).fit(BEFORE, checkpoint=file, report=stop)
    again = Forecaster(**settings).fit(BEFORE, checkpoint=file, resume=True)
    assert len(made) == 2
    assert again.chosen_ == whole.chosen_
    for ours, theirs in zip(again.nets_.parameters(), whole.nets_.parameters(), strict=True):
        assert_same(ours, theirs, "resumed")
