"""What stands beside the target: numbers, labels, texts, gaps, and what is refused."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from holdfast.data import Columns, read_panel
from holdfast.data.columns import write_columns
from holdfast.data.filling import carry_on
from holdfast.data.scaling import fit_scales
from holdfast.data.words import bag, bags
from holdfast.errors import DataError, ShortHistoryWarning
from holdfast.tasks import Forecaster
from holdfast.tasks.forecast.nets.base import Words
from tests.helpers import assert_same
from tests.tasks.small import SMALL, daily, edit, several

NAN = float("nan")


def panel_of(values: list[Any] | pl.Series, missing: str = "fill", **columns: Any) -> Any:
    """A panel of one daily series with the column ``x`` beside it."""
    table = daily(len(values)).with_columns(pl.Series("x", values))
    return read_panel(table, Columns(**{"past": ("x",), **columns}), missing=missing)


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        ([True, False, True], [1, 0, 1]),
        ([Decimal("1.5"), None, Decimal("-2")], [1.5, NAN, -2]),
        ([date(1970, 1, 2), date(1970, 1, 1), None], [1, 0, NAN]),
        (["1.5", "", " 3 "], [1.5, NAN, 3]),
    ],
)
def test_what_is_read_as_numbers(values: list[Any], numbers: list[float]) -> None:
    assert_same(panel_of(values).series[0].past[:, 0].copy(), np.array(numbers, dtype=float))


@pytest.mark.parametrize(
    ("values", "labels", "codes"),
    [
        (["b", None, "a"], ("", "a", "b"), [2, 0, 1]),
        (pl.Series(["b", "a", "b"], dtype=pl.Categorical), ("a", "b"), [1, 0, 1]),
        ([1.0, NAN, 2.0], ("", "1", "2"), [1, 0, 2]),
        ([1, 2, 1], ("1", "2"), [0, 1, 0]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
    ],
)
def test_what_is_read_as_labels(values: Any, labels: tuple[str, ...], codes: list[int]) -> None:
    panel = panel_of(values, categorical=("x",))
    assert panel.schema.of("past")[0].labels == labels
    assert panel.series[0].past[:, 0].tolist() == codes


def test_pandas_and_arrow_give_the_same_panel() -> None:
    table = several().with_columns(kind=pl.Series(["u", "v"] * 160), open=pl.Series([True] * 320))
    columns = Columns(past=("kind", "open"), categorical=("kind",))
    expected = read_panel(table, columns)
    frame = pd.DataFrame(table.to_dict(as_series=False)).astype({"kind": "category"})
    arrow = read_panel(table.to_arrow(), columns)
    assert read_panel(frame, columns).digest == arrow.digest == expected.digest
    model = Forecaster(**{**SMALL, "max_epochs": 1}).fit(table.to_arrow())
    assert isinstance(model.predict(table.to_arrow()), pa.Table)


def test_static_values_from_their_own_table_or_from_equal_rows() -> None:
    columns = Columns(static=("size", "town"), categorical=("town",))
    apart = pl.DataFrame({"unique_id": ["a", "b"], "size": [1.0, 2.0], "town": ["x", "y"]})
    table = several()
    joined = table.join(apart, on="unique_id", how="left", maintain_order="left")
    one, other = read_panel(table, columns, static=apart), read_panel(joined, columns)
    assert one.digest == other.digest
    assert one.series[0].static.tolist() == [2.0, 1.0]
    with pytest.raises(
        DataError, match=r"row 6 \(series 'b'\): column 'size' is static but .* row 1"
    ):
        read_panel(edit(joined, 5, "size", 9.0), columns)
    with pytest.raises(DataError, match="no row for series 'a'"):
        read_panel(table, columns, static=apart[1:])
    with pytest.raises(DataError, match=r"row 3 \(series 'a'\): a second row"):
        read_panel(table, columns, static=pl.concat([apart, apart[:1]]))
    with pytest.raises(DataError, match=r"row 1 \(series 'a'\): column 'size' is empty"):
        read_panel(table, columns, static=edit(apart, 0, "size", None))


def test_the_future_from_its_own_table_or_from_rows_without_a_target() -> None:
    whole = daily(60).with_columns(pl.Series("price", np.arange(60.0)))
    past, ahead = whole[:50], whole[50:].drop("y")
    columns = Columns(future=("price",))
    apart = read_panel(past, columns, future=ahead)
    empty = whole.with_columns(y=pl.when(pl.col("price") < 50).then("y"))
    assert read_panel(empty, columns).digest == apart.digest
    assert apart.series[0].future[:, 0].tolist() == list(range(60))
    with pytest.raises(DataError, match=r"row 4: column 'price' is empty .* must be known"):
        read_panel(past, columns, future=edit(ahead, 3, "price", None))
    with pytest.raises(DataError, match=r"row 55: column 'price' is empty .* must be known"):
        read_panel(edit(empty, 54, "price", None), columns, missing="fill")
    with pytest.raises(DataError, match=r"row 3: the future has to follow 2024-02-19 .* expected"):
        read_panel(past, columns, future=ahead.filter(pl.col("price") != 52))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"past": ("x",), "future": ("x",)},
            "'x' is named twice, as one of `past` and in `future`",
        ),
        ({"past": ("y",)}, "'y' is named twice, as the target and in `past`"),
        ({"past": ("x", "x")}, "'x' is named twice"),
        ({"categorical": ("x",)}, "'x' is named in `categorical` or `text`, but in none"),
        ({"past": ("x",), "categorical": ("x",), "text": ("x",)}, "name it in one"),
    ],
)
def test_columns_that_are_named_wrongly(columns: dict[str, Any], message: str) -> None:
    named: dict[str, Any] = columns
    with pytest.raises(DataError, match=message):
        read_panel(daily(), Columns(**columns))
    with pytest.raises(DataError, match=message):
        Forecaster(**named).fit(daily())


def test_errors_name_row_column_and_series() -> None:
    table = several().with_columns(x=pl.lit("1"))
    with pytest.raises(DataError, match=r"row 171 \(series 'a'\): column 'x' holds 'red'.*`categ"):
        read_panel(edit(table, 170, "x", "red"), Columns(past=("x",)))
    with pytest.raises(DataError, match=r"row 171 \(series 'a'\): column 'x' is empty"):
        read_panel(edit(table, 170, "x", ""), Columns(past=("x",)))
    with pytest.raises(DataError, match=r"row 171 \(series 'a'\): column 'x' is infinite"):
        read_panel(edit(table, 170, "x", "inf"), Columns(past=("x",)))


def test_gaps_take_the_last_value_and_raise_a_flag() -> None:
    values = [None, 1.0, None, None, 4.0, 2.0, None, 3.0]
    panel = panel_of(values)
    assert panel.schema.of("past")[0].gaps
    assert panel.schema.numbers("past") == 2
    scaling = fit_scales(panel, {"": 8})
    scale = scaling.of(panel.series[0], panel)
    columns = write_columns(panel, scaling, panel.schema, [scale], H=2)
    mean, std = scaling.columns["past"][0][0], scaling.columns["past"][1][0]
    filled = np.array([mean, 1, 1, 1, 4, 2, 2, 3, 3, 3])
    assert_same(columns["past"][:, 0].copy(), ((filled - mean) / std).astype(np.float32))
    assert columns["past"][:, 1].tolist() == [1, 0, 1, 1, 0, 0, 1, 0, 0, 0]


def test_nothing_is_carried_from_one_series_to_the_next() -> None:
    values = np.array([[1.0], [NAN], [NAN], [5.0]])
    assert carry_on(values, np.array([0, 2])).ravel().tolist() == [1, 1, 0, 5]


def test_a_series_begins_with_its_first_value() -> None:
    table = edit(edit(daily(40), 0, "y", None), 1, "y", None)
    series = read_panel(table, missing="fill").series[0]
    assert len(series) == 38
    assert series.observed.all()


def test_bags_of_words_know_parts_of_words() -> None:
    assert bag("Heavy rain") == bag("heavy RAIN")
    assert set(bag("rain")) & set(bag("rainy"))
    table = bags(["rain", "no"])
    assert table[0].tolist() == [0] * table.shape[1]
    words = Words(size=3)
    with torch.no_grad():
        words.bag.weight[1:] = torch.randn(4095, 3, generator=torch.Generator().manual_seed(0))
    out = words(torch.tensor([[0, 1], [2, 1]]), torch.from_numpy(table))
    assert out.shape == (2, 2, 3)
    assert_same(out[0, 0], torch.zeros(3))
    assert_same(out[1, 0], words.bag.weight[torch.tensor(bag("no"))].mean(0))


@pytest.fixture(scope="module")
def labelled() -> tuple[pl.DataFrame, Forecaster]:
    """A table with a label and a text, which say how high the target is, and a model of it."""
    parts = [several((f"s{n}",), 120).with_columns(y=pl.col("y") + 5 * n) for n in range(3)]
    table = pl.concat(parts).with_columns(
        kind=pl.Series(["a", "b", "c"] * 120), note=pl.col("unique_id") + " big shop"
    )
    names: dict[str, Any] = {
        "past": ("kind",),
        "static": ("note",),
        "categorical": ("kind",),
        "text": ("note",),
    }
    return table, Forecaster(**{**SMALL, "epoch_steps": 20}, **names).fit(table)


def test_new_labels_texts_and_series_are_forecast(labelled: Any) -> None:
    table, model = labelled
    new = table[:60].with_columns(
        unique_id=pl.lit("new"), kind=pl.lit("zzz"), note=pl.lit("a big shop by the sea")
    )
    assert np.isfinite(model.predict(new)["forecast"].to_numpy()).all()
    for rows in (1, 2, 9):
        with pytest.warns(ShortHistoryWarning, match=rf"'new' \({rows}\)"):
            forecast = model.predict(new.tail(rows))
        assert np.isfinite(forecast["forecast"].to_numpy()).all()


def test_a_model_keeps_labels_and_no_texts(labelled: Any, tmp_path: Any) -> None:
    table, model = labelled
    model.save(tmp_path / "model")
    assert "big shop" not in (tmp_path / "model" / "config.json").read_text()
    loaded = Forecaster.load(tmp_path / "model")
    assert loaded.predict(table).equals(model.predict(table))
    # The labels of a table with fewer of them mean the same.
    one = table.filter(pl.col("unique_id") == "s1")
    alone = model.predict(one)["forecast"].to_numpy()
    among = model.predict(table).filter(pl.col("unique_id") == "s1")["forecast"].to_numpy()
    assert_same(alone.astype(np.float32), among.astype(np.float32))


def test_series_too_short_to_train_are_named() -> None:
    table = pl.concat([several(), several(("tiny",), 8)])
    with pytest.warns(ShortHistoryWarning, match=r"1 of 3 series .* left out: 'tiny'"):
        model = Forecaster(**{**SMALL, "max_epochs": 1}).fit(table)
    assert model.left_out_ == ("tiny",)
    assert set(model.ends_) == {"a", "b"}
    with pytest.warns(ShortHistoryWarning, match=r"'tiny' \(8\)"):
        assert len(model.predict(table)) == 21


def test_short_series_lie_on_the_grid_of_the_others() -> None:
    gap = several(("gap",), 5)[::2]
    panel = read_panel(pl.concat([several(), gap]), missing="fill")
    assert [len(one) for one in panel.series] == [160, 160, 5]
    with pytest.raises(DataError, match=r"row 322 \(series 'gap'\): a gap: 1 time"):
        read_panel(pl.concat([several(), gap]))
