"""A stream gives what the batch gives, row by row."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from holdfast.errors import DataError
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.stream import Stream, whole_forecast
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, edit, several


@pytest.fixture(scope="module")
def fitted() -> Forecaster:
    return Forecaster(**SMALL, missing="fill").fit(several())


def values(frame: pl.DataFrame, id: str = "b") -> np.ndarray:
    return frame.filter(pl.col("unique_id") == id)["forecast"].to_numpy()


def feed(stream: Stream, table: pl.DataFrame, first: int, last: int) -> None:
    for id, part in table.group_by("unique_id", maintain_order=True):
        for row in part[first:last].iter_rows(named=True):
            stream.add(row["y"], str(id[0]), time=row["ds"])


@pytest.mark.parametrize("rows", [141, 155, 320])
def test_a_window_stream_is_predict_bit_for_bit(fitted: Forecaster, rows: int) -> None:
    table = edit(several(rows=rows), 130, "y", None)
    stream = fitted.stream(table.group_by("unique_id", maintain_order=True).head(100))
    feed(stream, table, 100, rows)
    together = fitted.predict(table)
    for id in ("a", "b"):
        alone = fitted.predict(table.filter(pl.col("unique_id") == id))
        assert np.array_equal(stream.forecast(id), values(alone, id))
        # A batch of two rounds its products in another order.
        one, other = (v.astype(np.float32) for v in (stream.forecast(id), values(together, id)))
        assert_same(one / 100, other / 100)


@pytest.mark.parametrize("every", [1, 7, 500])
def test_a_carried_stream_is_one_pass_over_all_rows(fitted: Forecaster, every: int) -> None:
    table = several(rows=230)
    stream = fitted.stream(memory="carried")
    for id, part in table.group_by("unique_id", maintain_order=True):
        for count, row in enumerate(part.iter_rows(named=True), 1):
            stream.add(row["y"], str(id[0]), time=row["ds"])
            if count % every == 0:
                stream.forecast(str(id[0]))
    whole = whole_forecast(fitted, table)
    for id in ("a", "b"):
        assert np.array_equal(stream.forecast(id), whole[id])
    assert not np.array_equal(stream.forecast("b"), values(fitted.predict(table)))


def test_a_new_id_begins_with_its_first_row(fitted: Forecaster) -> None:
    table = daily(60, seed=4).with_columns(unique_id=pl.lit("new"))
    stream = fitted.stream()
    feed(stream, table, 0, 60)
    assert stream.ids == ("new",)
    assert np.isfinite(stream.forecast("new")).all()


def test_what_does_not_fit_is_refused(fitted: Forecaster) -> None:
    stream = fitted.stream(several())
    with pytest.raises(DataError, match=r"got a row of 2030-01-01, expected 2024-06-09"):
        stream.add(1.0, "b", time=np.datetime64("2030-01-01"))
    with pytest.raises(DataError, match="say the `time`"):
        stream.add(1.0, "c")
    with pytest.raises(DataError, match="has no rows yet"):
        stream.forecast("d")
    with pytest.raises(DataError, match="'rain' is unknown"):
        stream.add(1.0, "b", past={"rain": 3})
    with pytest.raises(DataError, match=r"memory='elephant'"):
        fitted.stream(memory="elephant")


def test_covariates_come_with_their_rows() -> None:
    noise = np.random.default_rng(3).normal(size=167)
    table = daily(160).with_columns(temp=pl.Series(noise[:160]), promo=pl.Series(noise[:160] > 0))
    model = Forecaster(**SMALL, past=["temp"], future=["promo"]).fit(table[:140])
    stream = model.stream(table[:140])
    for row in table[140:].iter_rows(named=True):
        stream.add(row["y"], past={"temp": row["temp"]}, future={"promo": row["promo"]})
    days = [table["ds"][-1] + np.timedelta64(d, "D").item() for d in range(1, 8)]
    ahead = pl.DataFrame({"ds": days, "promo": (noise[160:] > 0).astype(float)})
    expected = model.predict(table, future=ahead)["forecast"].to_numpy()
    assert np.array_equal(stream.forecast(future={"promo": noise[160:] > 0}), expected)
