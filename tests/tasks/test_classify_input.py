"""What the classifier is given: tables and memory, texts and numbers; what it refuses, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from holdfast.data.examples import Fields, read_examples, read_labels
from holdfast.errors import DataError, RareLabelWarning
from holdfast.tasks import SequenceClassifier
from holdfast.tasks.classify.encoding import Scale
from holdfast.tasks.classify.labels import Labels, given_labels, split_held_out
from holdfast.tasks.classify.tokens import Tokens
from tests.helpers import assert_same
from tests.tasks.test_classify import SMALL, assert_near, reviews, waves

LONG = Fields(label="what", id="run", time="t", values=("a", "b"))


def long_table() -> pl.DataFrame:
    """Three examples of two channels, whose rows are out of order."""
    return pl.DataFrame(
        {
            "run": ["y", "x", "y", "x", "z"],
            "t": [2, 1, 1, 2, 1],
            "a": [4.0, 1.0, 3.0, 2.0, 5.0],
            "b": [40, 10, 30, 20, 50],
            "what": ["up", "down", "up", "down", "up"],
            "text": ["two", "one", "two", "one", "three"],
        }
    )


def test_long_tables_become_sequences_by_id_in_order_of_time() -> None:
    examples = read_examples(long_table(), LONG)
    assert examples.ids == ("x", "y", "z")
    assert [one.tolist() for one in examples.series or ()] == [
        [[1, 10], [2, 20]],
        [[3, 30], [4, 40]],
        [[5, 50]],
    ]
    assert examples.texts == ["one", "two", "three"]
    assert read_labels(long_table(), LONG) == {"what": ["down", "up", "up"]}


@pytest.mark.parametrize("kind", ["pandas", "csv", "parquet"])
def test_every_kind_of_table_holds_the_same_examples(kind: str, tmp_path: Path) -> None:
    table: Any = long_table()
    expected = read_examples(table, LONG)
    if kind == "pandas":
        table = pd.DataFrame(table.to_dict(as_series=False))
    else:
        path = tmp_path / f"t.{kind}"
        table.write_csv(path) if kind == "csv" else table.write_parquet(path)
        table = path
    found = read_examples(table, LONG)
    assert (found.ids, found.texts) == (expected.ids, expected.texts)
    assert_same(found.series, expected.series)


def test_labels_can_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    examples = read_examples(long_table(), LONG)
    labels = pl.DataFrame({"run": ["z", "x", "y"], "what": ["c", "a", "b"]})
    assert given_labels(long_table(), labels, examples, LONG).values == ["a", "b", "c"]
    labels.write_csv(tmp_path / "labels.csv")
    path = str(tmp_path / "labels.csv")
    assert given_labels(long_table(), path, examples, LONG).values == ["a", "b", "c"]
    with pytest.raises(DataError, match="there is no label for id 'y'"):
        given_labels(long_table(), labels[:2], examples, LONG)
    with pytest.raises(DataError, match="row 4: id 'z' stands there twice"):
        given_labels(long_table(), pl.concat([labels, labels[:1]]), examples, LONG)


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("what", 2, "down", r"row 1 \(series 'y'\): column 'what' holds 'up', but 'down'"),
        ("what", 4, None, r"row 5 \(series 'z'\): column 'what' is missing"),
        ("t", 0, 1, r"the time 1.0 stands there twice"),
        ("run", 4, None, r"row 5: column 'run' has no id"),
    ],
)
def test_what_is_wrong_in_a_long_table_is_named(
    column: str, row: int, value: Any, message: str
) -> None:
    values = long_table()[column].to_list()
    values[row] = value
    table = long_table().with_columns(pl.Series(column, values))
    with pytest.raises(DataError, match=message):
        (read_labels if column == "what" else read_examples)(table, LONG)


def test_columns_that_are_not_there_are_named() -> None:
    with pytest.raises(DataError, match="there is no column 'c'"):
        read_examples(long_table(), Fields(id="run", values=("c",)))
    with pytest.raises(DataError, match="did you mean text"):
        read_examples(long_table(), Fields(text="txt"))
    with pytest.raises(DataError, match="name id_column"):
        read_examples(long_table(), Fields(values=("a",)))
    with pytest.raises(DataError, match="name the column of texts"):
        read_examples(long_table(), Fields(text=None))


def test_texts_of_a_table_are_read_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text('text,label,id\n"good, really",1,a\n"",0,b\n')
    examples = read_examples(path, Fields(id="id"))
    assert examples.texts == ["good, really", ""]
    assert examples.place(1) == f"{path}: id 'b'"
    assert given_labels(path, None, examples, Fields(id="id")).values == ["1", "0"]


def test_columns_of_labels_hold_zero_and_one() -> None:
    table = pl.DataFrame({"text": ["a", "b"], "x": [1, 0], "y": [True, False]})
    fields = Fields(label=("x", "y"))
    given = given_labels(table, None, read_examples(table, fields), fields)
    assert given.values == [(1, 1), (0, 0)]
    assert Labels.learn(given).classes == ("x", "y")
    frame = pd.DataFrame({"x": [1, 0], "y": [0, 1]})
    assert given_labels(["a", "b"], frame, read_examples(["a", "b"]), Fields()).names == ("x", "y")
    wrong = table.with_columns(x=pl.Series([2, 0]))
    with pytest.raises(DataError, match="example 1: label 'x' is '2'"):
        given_labels(wrong, None, read_examples(wrong, fields), fields)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], "there is no example"),
        (5, "got int; expected texts"),
        (["good", 3], "example 2: got int, expected a text"),
        ([[1.0], "good"], "example 2: not an array of numbers"),
        (np.zeros(4), r"shape \(4,\)"),
        (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        ([np.zeros((3, 2)), np.zeros((3, 1))], "example 2: got 1 channels, expected 2"),
        ([("good", [1.0]), "bad"], "example 2: expected a pair"),
    ],
)
def test_examples_that_are_none_are_refused(X: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_examples(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (["+"] * 11, "got 12 examples and 11 labels"),
        (["+"] * 12, "all examples have the label '\\+'"),
        (["+", None] * 6, "example 2: the label is missing"),
        ([0.0, float("nan")] * 6, "example 2: the label is missing"),
        (["+", 1] * 6, "labels are of one type, got int and str"),
        ([["a"], "b"] * 6, "example 2: got a label, expected a list"),
        ([[]] * 12, "no example has a label"),
        ([{}, 1] * 6, "got a label of the type dict"),
        (None, "got no labels"),
    ],
)
def test_labels_that_are_none_are_refused(y: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SequenceClassifier(**SMALL).fit(reviews(2)[0], y)


def test_labels_never_seen_are_named_where_they_matter() -> None:
    labels = Labels(("good", "bad"), "one")
    examples = read_examples(["a", "b"])
    given = given_labels(None, ["bad", "goood"], examples, Fields())
    message = "example 2: the label 'goood' was never seen in training .did you mean good"
    with pytest.raises(DataError, match=message):
        labels.encode(given)
    with pytest.raises(DataError, match="got one label each, expected lists of labels"):
        Labels(("good", "bad"), "lists").encode(given)
    texts, said = reviews(2)
    with pytest.raises(DataError, match="example 1: the label '\\?' was never seen"):
        SequenceClassifier(**SMALL).fit(texts, said, held_out=(["x"], ["?"]))


def test_a_class_with_one_example_is_trained_on_and_warned_of() -> None:
    texts, said = reviews(2)
    with pytest.warns(RareLabelWarning, match="1 of 3 classes have fewer than two.*'odd'"):
        model: Any = SequenceClassifier(**SMALL).fit([*texts, "strange thing"], [*said, "odd"])
    assert model.classes_.tolist() == ["+", "-", "odd"]
    assert dict(model.data_["counts"])["odd"] == 1
    with pytest.raises(DataError, match="got one example"):
        SequenceClassifier(**SMALL).fit(["a"], [["x", "y"]])


def test_the_same_share_of_every_class_is_held_out() -> None:
    labels = Labels(("a", "b", "c"), "one")
    given = given_labels(None, ["a"] * 40 + ["b"] * 10 + ["c"], _texts(51), Fields())
    train, out = split_held_out(labels.encode(given), 0.2, seed=1)
    assert sorted([*train, *out]) == list(range(51))
    assert [sum(out < 40), sum((out >= 40) & (out < 50)), sum(out == 50)] == [8, 2, 0]
    again = split_held_out(labels.encode(given), 0.2, seed=1)[1]
    assert np.array_equal(out, again)
    assert not np.array_equal(out, split_held_out(labels.encode(given), 0.2, seed=2)[1])


def _texts(count: int) -> Any:
    return read_examples(["a"] * count)


def test_missing_numbers_are_refused_with_the_place_or_masked() -> None:
    x, labels = waves()
    x[5][2, 1] = np.nan
    with pytest.raises(DataError, match=r"example 6: step 3 of 'x1' is nan; .*missing=\"mask\""):
        SequenceClassifier(**SMALL, validation=0.01).fit(x, labels, held_out=(x[:2], labels[:2]))
    model: Any = SequenceClassifier(**SMALL, missing="mask").fit(x, labels)
    assert np.isfinite(model.predict_proba(x)).all()
    x[0][0, 0] = np.inf
    with pytest.raises(DataError, match="example 1: step 1 of 'x0' is inf"):
        model.predict(x)


def test_a_masked_value_is_the_mean_beside_an_indicator() -> None:
    scale = Scale.fit([np.array([[1.0, 5.0], [np.nan, 5.0], [3.0, 5.0]])], masked=True)
    assert (scale.mean, scale.spread, scale.width) == ((2.0, 5.0), (1.0, 1.0), 4)
    found = scale.apply(np.array([[4.0, np.nan]]))
    assert found.tolist() == [[2.0, 0.0, 0.0, 1.0]]


def test_sequences_without_a_step_and_of_other_channels_are_refused() -> None:
    x, labels = waves()
    model: Any = SequenceClassifier(**SMALL).fit(x, labels)
    with pytest.raises(DataError, match="example 2: there is no step"):
        model.predict([x[0], np.zeros((0, 2))])
    with pytest.raises(DataError, match="got 1 channels, expected 2: x0, x1"):
        model.predict(np.zeros((2, 3, 1)))
    with pytest.raises(DataError, match="got examples with texts, and the model was trained with"):
        model.predict(["a text"])


def test_an_empty_text_gets_an_answer_also_in_training() -> None:
    texts, said = reviews(2)
    model: Any = SequenceClassifier(**SMALL, pooling=("last", "mean", "max", "attention"))
    model.fit([*texts, "", "  "], [*said, "+", "-"])
    found = model.predict_proba(["", "   ", "good"])
    assert np.isfinite(found).all()
    assert_near(found[0], found[1])


def test_a_text_of_fifty_thousand_tokens_is_read_or_cut() -> None:
    texts, said = reviews(2)
    long = "good film " * 25_000
    settings = {**SMALL, "max_epochs": 1}
    model: Any = SequenceClassifier(**settings).fit([*texts, long], [*said, "+"])
    assert model.data_["tokens"]["longest"] == 50_000
    assert np.isfinite(model.predict_proba([long])).all()
    cut = SequenceClassifier(**settings, max_tokens=10).fit([*texts, long], [*said, "+"])
    assert cut.data_["tokens"]["longest"] == 10
    assert_near(cut.predict_proba([long]), cut.predict_proba(["good film " * 5]))


def test_another_encoding_is_named_or_given(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "\n".join(f"caf\xe9 {n},{'ab'[n % 2]}" for n in range(8))
    path.write_bytes(f"text,label\n{rows}\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"t\.csv:2: byte 4 of the line, 0xe9, is not utf-8"):
        SequenceClassifier(**SMALL).fit(path)
    model: Any = SequenceClassifier(**{**SMALL, "max_epochs": 1}, encoding="latin-1").fit(path)
    assert "caf\xe9" in model.encoding_.tokens.vocabulary
    assert model.data_["name"] == "t.csv"


@pytest.mark.parametrize("kind", ["words", "characters"])
def test_tokens_stand_in_their_text(kind: str) -> None:
    text = "It's \u0130stanbul,  GOOD!\n"
    tokens = Tokens.learn([text], kind)
    pieces = tokens.pieces(text)
    assert len(pieces) == len(tokens.encode(text))
    joined = "".join(gap + token for gap, token in pieces)
    assert text.startswith(joined)
    assert 1 not in tokens.encode("good it's")
    assert Tokens.learn([text], kind, lower=False).encode("good")[0] == 1 or kind != "words"


def test_subwords_are_their_text() -> None:
    tokens = Tokens.learn(["Low lower lowest"] * 9, "subwords", size=20)
    pieces = tokens.pieces("low LOWEST")
    assert "".join(token for _, token in pieces) == " low lowest"
    assert len(pieces) == len(tokens.encode("low LOWEST"))
    with pytest.raises(DataError, match="they do not go with"):
        SequenceClassifier(**SMALL, tokens="subwords", vocabulary_size=40, vectors="v").fit(
            *reviews()
        )
