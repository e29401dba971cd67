"""Reconciled forecasts add up, move as little as they must, and keep what was right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from holdfast.cli import main
from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.coherent import METHODS, hierarchy, reconcile, shrunken
from tests.helpers import assert_same
from tests.tasks.small import SMALL, csv, several

GROUPS = {"total": ["north", "south"], "north": ["a", "b"], "south": ["c", "d", "e"]}
BOTTOM = ("a", "b", "c", "d", "e")
IDS = ("total", "north", "south", *BOTTOM)


@pytest.fixture
def frame() -> pl.DataFrame:
    """Forecasts of three days that do not add up, in no order."""
    random = np.random.default_rng(0)
    rows = [(id, day) for day in (1, 2, 3) for id in IDS]
    values = random.normal(10, 3, size=(len(rows), 4))
    table = pl.DataFrame(
        {
            "unique_id": [id for id, _ in rows],
            "ds": [day for _, day in rows],
            "forecast": values[:, 0],
            "forecast-lo-80": values[:, 0] - 1,
            "forecast-hi-80": values[:, 0] + 2,
            "forecast-sample-1": values[:, 1],
            "forecast-sample-2": values[:, 2],
        }
    )
    return table.sample(fraction=1.0, shuffle=True, seed=2)


@pytest.fixture
def residuals() -> pl.DataFrame:
    random = np.random.default_rng(1)
    errors = random.normal(size=(60, 8)) @ random.normal(size=(8, 8))
    return pl.DataFrame(
        {
            "unique_id": [id for _ in range(60) for id in IDS],
            "ds": [day for day in range(60) for _ in IDS],
            "residual": errors.ravel(),
        }
    )


def wide(frame: pl.DataFrame, column: str = "forecast") -> np.ndarray:
    """One column as (8, 3), in the order of the hierarchy."""
    table = frame.pivot("ds", index="unique_id", values=column, sort_columns=True)
    rows = dict(zip(table["unique_id"], table.drop("unique_id").rows(), strict=True))
    return np.array([rows[id] for id in IDS])


@pytest.mark.parametrize("method", METHODS)
def test_sums_hold(method: str, frame: pl.DataFrame, residuals: pl.DataFrame) -> None:
    out = reconcile(frame, GROUPS, method, residuals=residuals)
    assert out.columns == frame.columns
    assert out["unique_id"].to_list() == frame["unique_id"].to_list()
    S = hierarchy(GROUPS).matrix
    for column in ("forecast", "forecast-sample-1", "forecast-sample-2"):
        values = wide(out, column)
        assert np.array_equal(values, S @ values[3:])
        assert np.abs(values[1:3].sum(0) - values[0]).max() < 1e-12
        assert not np.allclose(values, wide(frame, column))
    assert_same(wide(out, "forecast-lo-80"), wide(out) - 1)
    assert_same(wide(out, "forecast-hi-80"), wide(out) + 2)


@pytest.mark.parametrize("method", METHODS)
def test_forecasts_that_add_up_stay(method: str, residuals: pl.DataFrame) -> None:
    bottom = np.random.default_rng(3).normal(size=(5, 1))
    values = hierarchy(GROUPS).matrix @ bottom
    given = pl.DataFrame({"unique_id": IDS, "ds": [1] * 8, "forecast": values[:, 0]})
    out = reconcile(given, GROUPS, method, residuals=residuals)
    assert_same(out["forecast"].to_list(), values[:, 0].tolist())


def test_least_squares_is_the_nearest_that_adds_up(
    frame: pl.DataFrame, residuals: pl.DataFrame
) -> None:
    S = hierarchy(GROUPS).matrix
    nearest = S @ np.linalg.lstsq(S, wide(frame), rcond=None)[0]
    assert_same(wide(reconcile(frame, GROUPS, "ols")), nearest)
    assert_same(wide(reconcile(frame, GROUPS))[3:], wide(frame)[3:])
    errors = np.array(residuals["residual"]).reshape(60, 8)
    for method, W in {
        "wls": np.diag((errors**2).mean(0)),
        "mint_shrink": shrunken(errors),
    }.items():
        inverse = np.linalg.inv(W)
        expected = S @ np.linalg.solve(S.T @ inverse @ S, S.T @ inverse @ wide(frame))
        found = wide(reconcile(frame, GROUPS, method, residuals=residuals))
        assert_same(found, expected, method)
    by_size = np.diag(1 / S.sum(1))
    expected = S @ np.linalg.solve(S.T @ by_size @ S, S.T @ by_size @ wide(frame))
    assert_same(wide(reconcile(frame, GROUPS, "wls")), expected)


def test_shrinkage_takes_chance_away_and_leaves_what_is_sure() -> None:
    random = np.random.default_rng(5)
    noise = random.normal(size=(12, 6))
    shrunk = shrunken(noise)
    plain = noise.T @ noise / 12
    assert_same(np.diag(shrunk).copy(), np.diag(plain).copy())
    apart = ~np.eye(6, dtype=bool)
    assert np.abs(shrunk[apart]).sum() < 0.6 * np.abs(plain[apart]).sum()
    sure = random.normal(size=(5000, 1)) + 0.1 * random.normal(size=(5000, 3))
    assert_same(np.round(shrunken(sure), 2), np.round(sure.T @ sure / 5000, 2))


def test_a_summing_table_says_the_same(frame: pl.DataFrame) -> None:
    S = hierarchy(GROUPS).matrix
    table = pd.DataFrame({"unique_id": IDS, **dict(zip(BOTTOM, S.T, strict=True))})
    assert hierarchy(table).ids == IDS
    assert_same(wide(reconcile(frame, table, "ols")), wide(reconcile(frame, GROUPS, "ols")))
    with pytest.raises(DataError, match="bottom series 'e' has no row"):
        hierarchy(table[:-1])


def test_forecasts_of_a_model_add_up_with_their_samples() -> None:
    table = several(("a", "b"), rows=160)
    total = table.group_by("ds", maintain_order=True).agg(pl.col("y").sum())
    total = total.with_columns(unique_id=pl.lit("all")).select(table.columns)
    table = pl.concat([table, total])
    settings: dict[str, Any] = {**SMALL, "max_epochs": 1, "output": "gaussian"}
    model = Forecaster(**settings).fit(table)
    residuals = model.cross_validate(table, n_windows=2).residuals()
    out = reconcile(
        model.predict_samples(table, 3), {"all": ["a", "b"]}, "mint_shrink", residuals=residuals
    )
    for column in out.columns[2:]:
        a, b, whole = np.array(out[column]).reshape(3, 7)
        assert np.array_equal(a + b, whole)
    spread = reconcile(model.predict(table, levels=(80,)), {"all": ["a", "b"]}, "ols")
    assert (spread["forecast-lo-80"] <= spread["forecast"]).all()
    assert (spread["forecast"] <= spread["forecast-hi-80"]).all()


def test_what_cannot_be_reconciled_is_refused(frame: pl.DataFrame, residuals: pl.DataFrame) -> None:
    with pytest.raises(DataError, match="method='magic'"):
        reconcile(frame, GROUPS, "magic")
    with pytest.raises(DataError, match="series 'e' is not in the groups"):
        reconcile(frame, {"total": ["north", "south"], "north": ["a", "b"], "south": ["c", "d"]})
    with pytest.raises(DataError, match="has no forecast at"):
        reconcile(frame[1:], GROUPS)
    with pytest.raises(DataError, match="needs `residuals`"):
        reconcile(frame, GROUPS, "mint_shrink")
    with pytest.raises(DataError, match=r"2 time\(s\) at which all 8 series"):
        reconcile(frame, GROUPS, "mint_shrink", residuals=residuals[:16])
    with pytest.raises(DataError, match="part of itself"):
        hierarchy({"total": ["north", "x"], "north": ["total"]})
    with pytest.raises(DataError, match="no series is a bottom one"):
        hierarchy({"total": ["north"], "north": ["total"]})


def test_the_command_line_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = several(("a", "b"), rows=120)
    total = table.group_by("ds", maintain_order=True).agg(pl.col("y").sum())
    table = pl.concat([table, total.select(pl.lit("all").alias("unique_id"), "ds", "y")])
    data = csv(table, tmp_path / "table.csv")
    fit = ["--horizon", "7", "--window", "14", "--hidden-size", "4", "--max-epochs", "1"]
    errors, model, out = (str(tmp_path / name) for name in ("errors.csv", "model", "out.csv"))
    groups = tmp_path / "groups.json"
    groups.write_text('{"all": ["a", "b"]}')
    assert main(["forecast", "fit", data, "--out", model, "--output", "gaussian", *fit]) == 0
    validate = ["forecast", "cross-validate", data, "--windows", "2", "--residuals", errors]
    assert main([*validate, "--output", "gaussian", *fit]) == 0
    # A row without a truth has no residual, which a text may say.
    first, *more = Path(errors).read_text().splitlines()
    unknown = ["a,2023-01-01,2022-12-31,1,nan"]
    Path(errors).write_text("\n".join([first, *more, *unknown]))
    predict = ["forecast", "predict", model, data, "--out", out, "--groups", str(groups)]
    how = ["--reconcile", "mint_shrink", "--residuals", errors]
    picture = str(tmp_path / "out.png")
    assert main([*predict, *how, "--levels", "80", "--samples", "2", "--plot", picture]) == 0
    found = pl.read_csv(out, try_parse_dates=True)
    for column in ("forecast", "forecast-sample-1", "forecast-sample-2"):
        a, b, whole = found[column].to_numpy().reshape(3, 7)
        assert np.array_equal(a + b, whole)
    expected = Forecaster.load(model).predict(data)
    residuals = pl.read_csv(errors, n_rows=len(more), try_parse_dates=True)
    expected = reconcile(expected, GROUPS_OF_TWO, "mint_shrink", residuals=residuals)
    assert_same(found["forecast"].to_numpy().copy(), expected["forecast"].to_numpy().copy())
    assert Path(picture).stat().st_size > 1000
    assert main(predict) == 0
    plain = Forecaster.load(model).predict(data)["forecast"].to_numpy()
    assert np.array_equal(pl.read_csv(out)["forecast"].to_numpy()[:14], plain[:14])
    capsys.readouterr()
    for spoiled, message in SPOILED.items():
        groups.write_text(spoiled)
        assert main(predict) == 2
        assert message in capsys.readouterr().err
    assert main([*predict[:4], "--reconcile", "ols"]) == 2
    assert "--reconcile needs --groups" in capsys.readouterr().err


GROUPS_OF_TWO = {"all": ["a", "b"]}
SPOILED = {
    "{": "groups.json: no JSON",
    '["a", "b"]': "expected an object of sums and their parts",
    '{"all": "ab"}': "expected an object of sums and their parts",
    '{"all": ["a"]}': "series 'b' is not in the groups",
}
