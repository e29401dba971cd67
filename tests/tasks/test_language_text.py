"""Texts of language models: where they come from, their tokens, their rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from holdfast.errors import DataError, ModelError
from holdfast.tasks import LanguageModel
from holdfast.tasks.language.reading import read_part, read_parts, read_text
from holdfast.tasks.language.stream import Rows, lengths
from holdfast.tasks.language.tokens import SubwordTokens, Tokens, check_known, learn_tokens

TEXT = "The cat (a small one) sat; it purred, \u201cvery\u201d softly.\n\nIt slept.\n" * 8
SETTINGS = {
    "level": "word",
    "vocabulary_size": None,
    "min_count": 1,
    "subwords": "bpe",
    "split": "auto",
    "ends": "lines",
    "lower": False,
}


def tokens_of(text: str = TEXT, folder: bool = False, **changes: object) -> Tokens:
    return learn_tokens(text, {**SETTINGS, **changes}, folder)


def test_a_text_is_read_from_everything_that_may_hold_it(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffone\r\n\r\ntwo".encode())
    wanted = "one\n\ntwo\n"
    assert read_text(file).text == read_text(str(file)).text == wanted
    assert read_text("one\r\n\ntwo").text == wanted
    assert read_text(["one", "", "two"]).text == wanted
    assert read_text(["one\n", "two\n"]).text == "one\n\ntwo\n"
    assert read_text(["a word"]).text == "a word\n"
    assert read_text("x" * 1001).text == "x" * 1001 + "\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("no-such-file.txt", "no-such-file.txt: there is no such file; .* as a list"),
        ("one line of many words " * 30, "there is no such file; .* as a list"),
        ([], "the list of texts: there is no text in it"),
        ([" ", ""], "the list of texts: there is no text in it"),
        ("\n \n", "the text: there is no text in it"),
        (["a", 3], "text 2 of the list is a int, expected a str"),
        (b"bytes", "got a bytes, expected the path"),
        (7, "got a int, expected the path"),
    ],
)
def test_what_holds_no_text_is_refused(given: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_text(given)


def test_an_empty_file_and_another_encoding_are_refused_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.txt: there is no text in it"):
        read_text(file)
    file.write_bytes("one\nna\u00efve\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"a\.txt:2: byte 3 of the line, 0xef, is not utf-8"):
        read_text(file)
    assert read_text(file, "latin-1").text == "one\nna\u00efve\n"


def test_a_folder_needs_its_parts(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(" a b \n")
    with pytest.raises(DataError, match=r"there is no valid\.txt in this folder, expected train"):
        read_parts(tmp_path, 0.1)
    (tmp_path / "valid.txt").write_text(" b \n")
    parts = read_parts(str(tmp_path), 0.1)
    assert (parts.train.text, parts.valid.text, parts.folder) == (" a b \n", " b \n", True)
    with pytest.raises(DataError, match=r"the folder has a valid\.txt; leave out valid"):
        read_parts(tmp_path, 0.1, valid=["b"])
    with pytest.raises(DataError, match=r"there is no test\.txt"):
        read_text(tmp_path)
    (tmp_path / "test.txt").write_text("b\n")
    assert read_text(tmp_path).text == read_part(tmp_path, "test").text == "b\n"


def test_the_end_of_a_text_is_watched() -> None:
    parts = read_parts("0123456789" * 200, 0.25)
    assert parts.train.text + parts.valid.text == "0123456789" * 200 + "\n"
    assert len(parts.valid.text) == 500
    with pytest.raises(DataError, match="2 characters are too few"):
        read_parts(["a"], 0.1)


@pytest.mark.parametrize("level", ["character", "word"])
def test_tokens_of_a_text_give_it_back(level: str) -> None:
    tokens = tokens_of(level=level)
    found = tokens.encode(TEXT)
    assert tokens.decode(found.tolist()) == TEXT
    assert found.dtype == np.int64
    assert found.min() > 0
    assert found.max() == len(tokens) - 1


def test_subwords_give_a_text_back() -> None:
    tokens = tokens_of(level="subword", vocabulary_size=60)
    assert isinstance(tokens, SubwordTokens)
    found = tokens.encode(TEXT).tolist()
    assert tokens.decode(found) == TEXT
    assert found.count(tokens.end) == TEXT.count("\n")
    assert tokens.encode("cat").tolist() == tokens.encode("cat\n").tolist()[:-1]


def test_words_of_a_folder_are_what_stands_between_spaces() -> None:
    text = " the <unk> said n't . \n the \n"
    tokens = tokens_of(text, folder=True)
    found = tokens.encode(text)
    assert found.tolist().count(tokens.unknown) == 1
    assert (found == tokens.end).sum() == 2
    assert tokens.decode(found.tolist()) == "the <unk> said n't .\nthe\n"


def test_words_can_be_small_and_lines_be_joined() -> None:
    tokens = tokens_of("One two\nthree.\n\nFour\n", ends="paragraphs", lower=True)
    found = tokens.encode("One two\nthree.\n\nFour\n").tolist()
    assert tokens.decode(found) == "one two three.\nfour\n"


def test_rare_words_are_unknown() -> None:
    tokens = tokens_of("a a a b b c\n", min_count=2)
    assert tokens.encode("a b c d").tolist().count(tokens.unknown) == 2
    assert len(tokens_of("a a a b b c\n", vocabulary_size=3)) == 3


@pytest.mark.parametrize("level", ["character", "word", "subword"])
def test_what_training_never_met_is_unknown_and_named(level: str) -> None:
    tokens = tokens_of(level=level, vocabulary_size=60)
    stream = tokens.encode("cat \u20ac\n")
    assert (stream == tokens.unknown).sum() == 1
    with pytest.raises(DataError, match="the prefix: '\u20ac' was never seen in training"):
        check_known(tokens, "cat \u20ac", "the prefix")
    check_known(tokens, "cat", "the prefix")


def test_rows_follow_each_other_and_nothing_is_seen_twice() -> None:
    stream = np.arange(1, 12)
    rows = Rows.cut(stream, 3, begin=0)
    assert rows.targets.T.tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert rows.inputs.T.tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_lengths_cover_all_steps_and_come_from_seed_and_epoch() -> None:
    found = lengths(1000, 40, seed=3, epoch=2, random=True)
    assert sum(found) == 1000
    assert min(found[:-1]) >= 5
    assert len(set(found)) > 5
    assert found == lengths(1000, 40, seed=3, epoch=2, random=True)
    assert found != lengths(1000, 40, seed=3, epoch=3, random=True)


def test_a_text_too_short_for_its_rows_is_refused() -> None:
    with pytest.raises(DataError, match=r"too few for batch_size=32 rows, which need 64"):
        LanguageModel().fit("a text\nthat is short\n")


def test_a_damaged_vocabulary_is_refused(tmp_path: Path) -> None:
    model = LanguageModel(hidden_size=4, batch_size=2, steps=20, max_epochs=1).fit("ab\n" * 40)
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "vocabulary.json"
    file.write_text("{}")
    with pytest.raises(ModelError, match="not a vocabulary"):
        LanguageModel.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(ModelError, match=r"vocabulary\.json: cannot be read"):
        LanguageModel.load(tmp_path / "model")
