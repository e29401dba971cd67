"""The benchmark of forecasting: how tasks are cut, how forecasts are scored, what is recorded."""

from __future__ import annotations

import dataclasses
import doctest
import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pandas
import pytest

from benchmarks import arguments, contests, contests_report, pages
from benchmarks.__main__ import main
from benchmarks.contests import Registry
from benchmarks.forecast import (
    baselines,
    catalogue,
    contest,
    footprint,
    many,
    many_step,
    naive2,
    ours,
    race,
    registry,
    rival_darts,
    rival_neuralforecast,
    scores,
    speed,
    tasks,
)
from benchmarks.forecast import task as tasking
from benchmarks.forecast.baselines import BASELINES
from benchmarks.forecast.registry import Experiment, Row, Settings
from benchmarks.forecast.scores import scored
from benchmarks.forecast.task import QUANTILES, Forecast, RefusalError, Task, checked
from benchmarks.report import RESULTS
from benchmarks.text import catalogue as texts
from benchmarks.timing import Timing
from tests.helpers import assert_same

KNOWN = {"forecast": catalogue.EXPERIMENTS, "text": texts.EXPERIMENTS}
CHECKED = (naive2, contests, contests_report, registry, tasking, arguments)


def small(**more: Any) -> Task:
    """Two series that count upward by 1 and by 10, the second one longer; four rows of test."""
    frames = [
        pandas.DataFrame(
            {
                "unique_id": name,
                "ds": np.datetime64("2024-01-01", "us") + np.arange(rows) * np.timedelta64(1, "h"),
                "y": step * np.arange(rows, dtype=np.float64),
            }
        )
        for name, rows, step in (("a", 12, 1), ("b", 14, 10))
    ]
    given = {"horizon": 2, "test": 4, "valid": 2, "season": 2, "frequency": "h", "step": 2}
    return Task("small", pandas.concat(frames, ignore_index=True), **{**given, **more})


def read(name: str, data_dir: Path) -> Task:
    source = tasks.SOURCES[name]
    return source.read(data_dir / source.data)


def score(name: str, task: Task) -> dict[str, float]:
    return scored(checked(BASELINES[name](task), task), task)


@pytest.mark.parametrize("module", CHECKED, ids=lambda module: module.__name__)
def test_examples_run(module: ModuleType) -> None:
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def test_a_task_is_cut_without_a_look_ahead() -> None:
    task = small()
    assert [track.origins.tolist() for track in task.tracks] == [[7, 9], [9, 11]]
    expected = np.array([[8, 9], [10, 11], [100, 110], [120, 130]], dtype=np.float64)
    assert_same(task.truth, expected)
    assert task.owners.tolist() == [0, 0, 1, 1]
    past = task.past
    assert past.groupby("unique_id")["y"].max().tolist() == [7, 90]
    assert_same(task.deviations, np.array([np.arange(6).std(), 10 * np.arange(8).std()]))
    frame = task.frame.copy()
    frame.loc[frame.index[[8, 9, 10, 11]], "y"] = 1e6
    spiked = dataclasses.replace(task, frame=frame)
    assert_same(baselines.BASELINES["naive"](spiked).point[0], np.full(2, 7.0))
    assert spiked.past["y"].max() == 90


def test_a_task_that_cannot_be_cut_says_why() -> None:
    with pytest.raises(ValueError, match="series 'a' has 12 rows; 12 are for the test"):
        _ = small(test=12).tracks
    with pytest.raises(ValueError, match="5 rows of test, less a forecast of 2, are no whole"):
        _ = small(test=5).tracks


def test_gaps_are_filled_from_the_past_and_not_scored() -> None:
    task = small()
    frame = task.frame.copy()
    frame.loc[frame.index[[0, 5, 9]], "y"] = np.nan
    task = dataclasses.replace(task, frame=frame)
    assert task.whole.tracks[0].y.tolist() == [1, 1, 2, 3, 4, 3, 6, 7, 8, 7, 10, 11]
    assert np.isnan(task.truth).sum() == 1
    assert small().whole.frame is not None
    whole = small()
    assert whole.whole is whole
    point = task.truth.copy()
    point[0, 1] = 1e9
    assert scored(Forecast(point), task) == {"MAE": 0.0, "RMSE": 0.0}


def test_scores_are_what_their_names_say() -> None:
    metrics = ("MSE", "RMSE", "MAE", "sMAPE", "MASE", "CRPS", "coverage 80", "coverage 95")
    task = small(metrics=metrics, leads=(2,))
    point = task.truth + np.array([[1.0, 3.0]])
    alone = scored(Forecast(point), task)
    assert set(alone) == {"MSE", "RMSE", "MAE", "sMAPE", "MASE", "MAE at 2"}
    found = np.array([alone[name] for name in ("MSE", "RMSE", "MAE", "MAE at 2")])
    assert_same(found, np.array([5.0, 5**0.5, 2.0, 3.0]))
    size = np.abs(task.truth) + np.abs(point)
    assert_same(np.array(alone["sMAPE"]), np.array(200 * (np.array([[1, 3]]) / size).mean()))
    # A seasonal difference of two rows is 2 in the one series and 20 in the other.
    assert_same(np.array(alone["MASE"]), np.array((2 / 2 + 2 / 20) / 2))
    spread = {q: point + (q - 0.5) for q in QUANTILES}
    known = scored(Forecast(point, spread), task)
    truth = task.truth[..., None]
    error = truth - np.stack([spread[q] for q in tasking.DECILES], axis=-1)
    levels = np.array(tasking.DECILES)
    pinball = np.maximum(levels * error, (levels - 1) * error)
    assert_same(np.array(known["CRPS"]), np.array(2 * pinball.mean()))
    assert known["coverage 80"] == known["coverage 95"] == 0.0
    wide = {q: point + 20 * (q - 0.5) for q in QUANTILES}
    assert scored(Forecast(point, wide), task)["coverage 80"] == 100.0
    half = {q: point + 3 * (q - 0.5) for q in QUANTILES}
    assert scored(Forecast(point, half), task)["coverage 80"] == 50.0
    units = scored(Forecast(point), small(metrics=("MAE",), in_deviations=True))
    assert_same(np.array(units["MAE"]), np.array((2 / task.deviations).mean()))


def test_what_is_no_forecast_is_refused() -> None:
    task = small()
    with pytest.raises(RefusalError, match=r"point: got the shape \(3, 2\), expected \(4, 2\)"):
        checked(Forecast(np.zeros((3, 2))), task)
    bad = np.zeros((4, 2))
    bad[1, 1] = np.nan
    with pytest.raises(RefusalError, match=r"0\.1: 1 of 8 values are not finite"):
        checked(Forecast(np.zeros((4, 2)), {0.1: bad}), task)
    row = contest.run("x", lambda *_: Forecast(bad), task, range(2), Settings())
    assert row == Row("x", note="point: 1 of 8 values are not finite")


def test_naive2_takes_a_season_where_there_is_one() -> None:
    random = np.random.default_rng(0)
    shape = np.array([1.0, 2.0, 4.0, 1.0])
    y = np.tile(shape, 10)
    assert naive2.has_season(y, 4)
    assert not naive2.has_season(random.normal(10, 1, 40), 4)
    assert not naive2.has_season(y[:11], 4)
    assert not naive2.has_season(np.ones(40), 4)
    assert_same(naive2.naive2(5 * y[:39], 6, 4), 5 * shape[[3, 0, 1, 2, 3, 0]])
    flat = random.normal(10, 1, 40)
    assert_same(naive2.naive2(flat, 2, 4), np.full(2, flat[-1]))


@pytest.mark.parametrize(
    ("name", "baseline", "expected"),
    [
        ("m4-hourly", "seasonal naive", {"sMAPE": 13.912, "MASE": 1.193}),
        ("m4-hourly", "Naive2", {"sMAPE": 18.383, "MASE": 2.395, "OWA": 1.0}),
        ("m4-weekly", "naive", {"sMAPE": 9.161, "MASE": 2.777, "OWA": 1.0}),
        ("m4-weekly", "Naive2", {"sMAPE": 9.161, "MASE": 2.777, "OWA": 1.0}),
        ("etth1-96", "naive", {"MSE": 1.294, "MAE": 0.713}),
        ("etth1-96", "seasonal naive", {"MSE": 0.512, "MAE": 0.433}),
        ("etth2-96", "naive", {"MSE": 0.432, "MAE": 0.422}),
        ("etth2-96", "seasonal naive", {"MSE": 0.391, "MAE": 0.380}),
        ("metro", "seasonal naive", {"MAE": 260.735}),
        ("airpassengers", "seasonal naive", {"MAE": 47.833}),
    ],
)
def test_baselines_score_what_is_known_of_them(
    name: str, baseline: str, expected: dict[str, float], data_dir: Path
) -> None:
    """What the competition and others report of these rules: the cut and the scores are theirs."""
    found = score(baseline, read(name, data_dir))
    rounded = {column: round(found[column], 3) for column in expected}
    assert rounded == expected


def test_beijing_persists_as_others_found(data_dir: Path) -> None:
    task = read("beijing-pm25", data_dir)
    assert len(task.tracks) == 12
    assert len(task.truth) == 12 * 280
    every = dataclasses.replace(task, step=1)
    last = np.concatenate([track.y[track.origins] for track in every.tracks])
    errors = np.nanmean(np.abs(every.truth - last[:, None]), axis=0)
    # Known with the gaps filled in the truth; what was measured is up to one percent harder.
    assert errors[[0, 5, 23]] == pytest.approx([10.0, 31.9, 57.2], rel=0.012)


def test_the_index_is_cut_as_in_the_paper(data_dir: Path) -> None:
    task = read("dji", data_dir)
    (track,) = task.tracks
    assert (len(track.y), len(track.origins)) == (5029, 1028)
    assert score("naive", task)["RMSE"] == pytest.approx(0.3163, abs=1e-4)
    assert score("zero", task)["RMSE"] == pytest.approx(0.2752, abs=1e-4)


class Told:
    """A forecaster that says back what it was told, and persists."""

    def __init__(self, horizon: int, **settings: Any) -> None:
        self.horizon, self.settings = horizon, settings
        self.best_epoch_, self.history_ = 1, [{}]

    def fit(self, table: Any) -> Told:
        assert table["y"].max() == 90
        return self

    def roll(self, table: Any, last: int, step: int, quantiles: Any) -> Any:
        assert (last, step) == (4, 2)
        point = np.arange(8.0).reshape(4, 2)
        levels = [point + q for q in quantiles]
        spread = np.stack(levels, axis=-1) if levels else np.empty((4, 2, 0))
        return SimpleNamespace(forecasts=SimpleNamespace(point=point, quantiles=spread))


def test_ours_is_told_what_the_task_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "Forecaster", Told)
    task = small(metrics=("MAE", "CRPS"))
    forecast = checked(ours.run(task, 3, Settings()), task)
    assert_same(forecast.quantiles[0.9][1], np.array([2.9, 3.9]))
    assert forecast.settings == "output quantiles; epoch 1 of 1 kept"
    given = ours.recipe(small(metrics=("MSE",), window=30, covariates=("temp",)))
    assert given == {"loss": "mse", "window": 30, "lags": (), "past": ("temp",)}
    assert ours.run(small(), 3, Settings()).quantiles == {}


@pytest.mark.slow
def test_ours_hands_back_every_window_with_quantiles() -> None:
    frame = race.waves(2, 400)
    cut = {"test": 48, "valid": 24, "horizon": 24, "step": 12, "season": 24}
    task = dataclasses.replace(small(metrics=("MAE", "CRPS", "coverage 95")), frame=frame, **cut)
    forecast = checked(ours.run(task, 0, Settings(quick=True)), task)
    assert set(forecast.quantiles) == set(QUANTILES)
    assert set(scored(forecast, task)) == {"MAE", "CRPS", "coverage 95"}


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two experiments of their own, and a folder for what they leave."""

    def first(settings: Settings) -> list[Row]:
        values = tuple(float(seed + 1) for seed in settings.range(3))
        return [Row("ours", {"MAE": values}, "a | note"), Row("peer", note="not installed")]

    def second(settings: Settings) -> list[Row]:
        return [Row("ours", {"seconds": (0.5,), "peers": (float(len(settings.peers)),)})]

    known = Registry("forecast")
    monkeypatch.setattr(registry, "EXPERIMENTS", known)
    monkeypatch.setattr(catalogue, "EXPERIMENTS", known)
    registry.add(Experiment("first", "The first", "scores", first, "others: 2"))
    registry.add(Experiment("second", "The second", "speed", second))
    monkeypatch.setattr("benchmarks.__main__.RECORDS", tmp_path)
    return tmp_path


def test_a_run_is_recorded_and_shown(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["forecast", "first", "--record"]) == 0
    assert main(["forecast", "--seeds", "2", "--record", "--peers", "none"]) == 0
    lines = (two / "forecast_scores.jsonl").read_text(encoding="utf-8").splitlines()
    last = json.loads(lines[-1])
    assert len(lines) == 2
    assert last["rows"][0] == {
        "contender": "ours",
        "figures": {"MAE": [1.0, 2.0]},
        "note": "a | note",
    }
    assert {"machine", "versions", "rivals", "threads", "options", "published"} <= set(last)
    page = two / "page.md"
    begin, end = pages.marks("text")
    parts = f"{pages.BEGIN}\n\nold\n\n{pages.END}\n\n{begin}\n\nold\n\n{end}"
    page.write_text(f"before\n\n{parts}\n\nafter\n", encoding="utf-8")
    command = ["pages", "results", "--results", str(two), "--page", str(page)]
    assert main(command) == main(command) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"before\n\n{pages.BEGIN}\n\n### The first\n")
    assert text.endswith(f"\n\n{begin}\n\n{pages.NOTHING}\n{end}\n\nafter\n")
    assert "`python -m benchmarks forecast first --seeds 2 --peers none`" in text
    assert "| ours | 1.5 (1 .. 2) |" in text
    assert "Published: others: 2." in text
    assert "- peer: not installed" in text
    speeds = pages.PARTS["forecast"](two)
    assert "### The second" in speeds
    assert "| ours | 0.5 | 0 |" in speeds
    assert "The first" not in speeds
    assert '"experiment":"second"' in capsys.readouterr().out


@pytest.mark.usefixtures("two")
def test_names_are_checked(capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["third"], ["first", "--peers", "x"]):
        with pytest.raises(SystemExit):
            main(["forecast", *wrong])
    text = capsys.readouterr().err
    assert "no forecast 'third'; there are first, second" in text
    assert "no peer 'x'; there are neuralforecast, darts" in text
    assert main(["forecast", "--list"]) == 0
    assert capsys.readouterr().out.split()[:3] == ["first", "The", "first"]
    with pytest.raises(ValueError, match="there is a forecast 'first' already"):
        registry.add(Experiment("first", "", "scores", lambda settings: []))
    with pytest.raises(ValueError, match="no forecast 'x'; there are first, second"):
        list(registry.chosen(["x"]))


def test_a_missing_peer_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> Any:
        raise ImportError(module)

    for module in (rival_neuralforecast, rival_darts, race):
        monkeypatch.setattr(module, "require", missing)
    for library, models in contest.RIVALS.items():
        for name, contender in models.items():
            row = contest.run(name, contender, small(), range(1), Settings())
            assert row == Row(name, note="not installed"), library
    for library in registry.PEERS:
        for make in race.MAKERS[library].values():
            with pytest.raises(RefusalError, match="not installed"):
                make(small().frame, speed.FIT)


def test_missing_data_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path))
    (row,) = catalogue.EXPERIMENTS["metro"].run(Settings())
    assert row.note.startswith("not run: there is no metro_traffic")


def test_ratios_are_taken_round_by_round() -> None:
    timings = {"a": Timing({0: 1.0, 1: 2.0}, 1), "b": Timing({1: 3.0, 2: 1.0}, 1)}
    rows = race.rows_of(timings, {"b": "a note"}, "a")
    assert rows["a"] == Row("a", {"seconds": (1.0, 2.0)})
    assert rows["b"] == Row("b", {"seconds": (3.0, 1.0), "by ours": (1.5,)}, "a note")


@pytest.mark.slow
def test_in_training_windows_are_shared_as_asked() -> None:
    frame = race.waves(1, 400)
    size = dataclasses.replace(speed.FIT, units=4, layers=1, batch=48, steps=1)
    for origins, batch in ((1, 48), (race.ORIGINS, 2)):
        model = race.holdfast(frame, size, origins)()
        assert model.batch_size == batch
        tail = int(np.ceil(model.validation * 400)) - size.horizon + 1
        assert tail == origins


@pytest.mark.slow
def test_many_series_are_measured_in_a_process_of_their_own() -> None:
    found = many_step.measure("holdfast direct", 3, 200)
    assert set(found) == {"fit", "predict", "table", "peak"}
    assert 0 < found["table"] <= found["peak"]


@pytest.mark.slow
def test_a_process_that_fails_is_a_row() -> None:
    row = many._measured("nobody at all", 3, 200)
    assert row == Row("nobody at all", note="not measured: KeyError: 'nobody'")


def test_imports_are_timed_where_the_library_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(footprint, "OURS", ("import json",))
    monkeypatch.setitem(footprint.STATEMENTS, "darts", "from no_such_library import x")
    rows = list(footprint.imports(Settings(quick=True, peers=("darts",))))
    assert rows[0].contender == "import json"
    assert len(rows[0].figures["seconds"]) == 1
    assert rows[1] == Row("from no_such_library import x", note="not installed")


def test_packages_are_those_beside_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolved(requirements: list[str]) -> set[str]:
        return {"torch", "sympy"} | ({"holdfast", "numpy"} if len(requirements) > 1 else set())

    monkeypatch.setattr(footprint, "_resolved", resolved)
    first, *_ = footprint.packages(Settings(peers=()))
    assert first == Row("holdfast", {"packages": (1.0,)}, "numpy")


@pytest.mark.parametrize("kind", ["scores", "speed"])
@pytest.mark.parametrize("verb", ["forecast", "text"])
def test_recorded_runs_are_real_ones(verb: str, kind: str) -> None:
    file = contests_report.file(verb, kind)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    for run in map(json.loads, lines):
        assert run["benchmark"] == verb
        assert not run["options"]["quick"]
        assert KNOWN[verb][run["experiment"]].kind == kind


def test_the_page_is_what_was_recorded() -> None:
    expected = pages.contests("forecast", "scores")(RESULTS)
    assert pages.written(pages.RESULTS_PAGE) == expected, "run: python -m benchmarks pages results"
    texts = pages.contests("text", "scores")(RESULTS)
    written = pages.written(pages.RESULTS_PAGE, *pages.marks("text"))
    assert written == texts, "run: python -m benchmarks pages results"


def test_every_score_has_a_name() -> None:
    for source in tasks.SOURCES.values():
        assert source.name in catalogue.EXPERIMENTS
    assert set(scores.NEED_QUANTILES) <= set(scores.SCORES)
    assert set(tasks.SPREAD) | set(tasks.M4) <= set(scores.SCORES)
