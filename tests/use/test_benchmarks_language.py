"""The benchmark of language models: the same loop for both, parts by position, kept models."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest

from benchmarks.contests import Amount
from benchmarks.text import language, language_time
from benchmarks.text.word_language_model import Size, loops
from holdfast.tasks import LanguageModel
from holdfast.tasks.language.net import LanguageNet
from holdfast.tasks.language.settings import shape_of

TINY = language.Contender("tiny", "char-small", {"hidden_size": 4, "max_epochs": 1}, "a note")


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    text = "".join(f"sentence {number} of a book.\n" for number in range(400))
    file = tmp_path / language.FILE
    file.parent.mkdir()
    file.write_bytes(lzma.compress(text.encode()))
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path))
    monkeypatch.delenv(language.MODELS, raising=False)
    return text


def test_both_contenders_take_the_same_steps() -> None:
    size = Size(words=29, features=6, units=6, layers=2, steps=13, rows=3, dropout=0.0)
    ours, theirs, *narrow = ([loop() for _ in range(4)] for loop in loops(size).values())
    assert ours == pytest.approx(theirs, rel=1e-5)
    for losses in narrow:
        assert losses == pytest.approx(theirs, rel=1e-2)
    assert ours[-1] < ours[0]


def test_words_fall_in_frequency_as_in_texts() -> None:
    loop: Any = loops(Size(words=1000, features=2, units=2, layers=1, steps=300, rows=20))
    drawn = loop["holdfast"].target.ravel().bincount(minlength=1000)
    assert int(drawn[:10].sum()) > int(drawn[10:100].sum()) > int(drawn[500:590].sum())


def test_a_text_is_cut_by_position(book: str) -> None:
    parts = language.war_and_peace()
    assert parts is not None
    assert "".join(parts) == book
    assert [round(10 * len(part) / len(book)) for part in parts] == [8, 1, 1]


def test_a_contender_is_trained_scored_and_kept(
    book: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(language.MODELS, str(tmp_path))
    (first,) = language._contest((TINY,), Amount(), 1)
    assert first.figures["epochs"] == (1.0,)
    assert "minutes" in first.figures
    assert (tmp_path / "war_and_peace-tiny-0" / "card.md").is_file()
    monkeypatch.setattr(LanguageModel, "fit", None)  # it is there, and not trained again
    (again,) = language._contest((TINY,), Amount(), 1)
    assert again == first


def test_data_that_is_not_there_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOLDFAST_DATA", str(tmp_path))
    rows = [*language.characters(Amount()), *language.deep(Amount())]
    assert [row.note.partition(":")[0] for row in rows] == ["not run", "not run"]


def test_a_step_is_timed_where_the_losses_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "SIZES", {"one": Size()})
    (row,) = language.speed(Amount(quick=True))
    assert [name for name in row.figures if name.startswith("times")] == [
        "times",
        "times, bfloat16",
    ]
    assert len(row.figures) == 6
    monkeypatch.setattr(language, "GATES", (0.0, 0.0))
    with pytest.raises(ValueError, match="the losses differ"):
        list(language.speed(Amount(quick=True)))


def test_losses_are_reached_from_the_same_weights(
    book: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = (5 * book, book[:3000], "")
    monkeypatch.setattr(language_time, "war_and_peace", lambda quick: parts)
    rows = list(language_time.reach(Amount(quick=True)))
    assert [row.contender for row in rows] == list(language_time.courses(_problem()))
    assert {row.figures["steps"] for row in rows} == {(4.0,)}
    (ours,), (theirs,), *narrow = (row.figures["nats reached"] for row in rows)
    assert ours == pytest.approx(theirs, rel=1e-4)
    for (loss,) in narrow:
        assert loss == pytest.approx(theirs, rel=1e-2)


def _problem() -> language_time.Problem:
    found = language_time.problem(quick=True)
    assert found is not None
    return found


@pytest.mark.parametrize("contender", language.WORDS, ids=lambda one: one.name)
def test_word_models_are_equally_large(contender: language.Contender) -> None:
    model = LanguageModel.preset(contender.preset, **contender.changes)
    net = LanguageNet(shape_of(model.get_params(), 10_000))
    count = sum(p.numel() for p in net.parameters())
    assert abs(count / 3.1e6 - 1) < 0.02
