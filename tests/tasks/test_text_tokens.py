"""Words, characters, subwords, vocabularies and vectors: rules, files, and what is not known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data import optional
from holdfast.data.text import (
    Subwords,
    Vocabulary,
    read_vectors,
    split_characters,
    split_words,
)
from holdfast.errors import DataError, MissingExtraError, ModelError

TEXTS = ["low lower lowest", "new newer newest", "wide wider widest"] * 20


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n", []),
        ("a", ["a"]),
        ("Don't stop.", ["Don't", "stop", "."]),
        ("'tis -- no-one's", ["'", "tis", "-", "-", "no-one's"]),
        ("3.50, 1,000 and 12:30.", ["3.50", ",", "1,000", "and", "12:30", "."]),
        ("a.b c:d", ["a", ".", "b", "c", ":", "d"]),
        ("l\u2019eau cre\u0301me", ["l\u2019eau", "cre\u0301me"]),
        ("\u0939\u093f\u0928\u094d\u0926\u0940!", ["\u0939\u093f\u0928\u094d\u0926\u0940", "!"]),
        ("snake_case \u00a35", ["snake_case", "\u00a3", "5"]),
        ("a\u00a0b", ["a", "b"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@settings(max_examples=50)
@given(st.text())
def test_no_character_is_lost(text: str) -> None:
    assert "".join(split_words(text)) == "".join(text.split())
    assert "".join(split_characters(text)) == text


def test_a_word_of_50000_tokens() -> None:
    assert len(split_words("word " * 50_000)) == 50_000
    assert len(split_words("-" * 50_000)) == 50_000


def test_a_vocabulary_in_order() -> None:
    sentences = [["b", "a", "c"], ["a", "b"], ["d", "a"]]
    assert Vocabulary.build(sentences).words == ("<pad>", "<unk>", "a", "b", "c", "d")
    assert Vocabulary.build(sentences, min_count=2).words == ("<pad>", "<unk>", "a", "b")
    assert Vocabulary.build(sentences, max_size=3).words == ("<pad>", "<unk>", "a")
    assert Vocabulary.build(reversed(sentences)) == Vocabulary.build(sentences)


def test_words_that_are_not_known() -> None:
    words = Vocabulary.build([["a", "b", "<pad>"]])
    assert words.encode(["a", "z", "<pad>", "<unk>", ""]) == [2, 1, 1, 1, 1]
    assert words.encode([]) == []
    assert "a" in words
    assert "<pad>" not in words
    assert words.id("<pad>") == 0
    tags = Vocabulary.build([["B-NP", "O"]], specials=(), unknown=None)
    with pytest.raises(DataError, match=r"t\.txt:3: 'B-NPP' was never seen .* 'B-NP', 'O'"):
        tags.encode(["O", "B-NPP"], where="t.txt:3")
    with pytest.raises(DataError, match="got the number 9, expected 0 to 1"):
        tags.decode([0, 9])
    with pytest.raises(DataError, match="no entry 'X'"):
        tags.id("X")


def test_vocabularies_that_cannot_be() -> None:
    with pytest.raises(DataError, match="no word occurs 3 times"):
        Vocabulary.build([["a", "a"]], min_count=3)
    with pytest.raises(DataError, match="min_count should be at least 1, got 0"):
        Vocabulary.build([["a"]], min_count=0)
    with pytest.raises(DataError, match="more than the 2 specials, got 2"):
        Vocabulary.build([["a"]], max_size=2)
    with pytest.raises(DataError, match="'a' twice"):
        Vocabulary(("a", "a"))
    with pytest.raises(DataError, match="'<unk>' is not among"):
        Vocabulary(("a",), unknown="<unk>")


@given(st.lists(st.text(st.characters(), min_size=1), min_size=1))
def test_a_vocabulary_comes_back(words: list[str]) -> None:
    made = Vocabulary.build([words])
    again = Vocabulary.from_json(made.to_json())
    assert again == made
    assert again.encode(words) == made.encode(words)


def test_files_of_vocabularies(tmp_path: Path) -> None:
    path = tmp_path / "words.json"
    made = Vocabulary.build([["na\u00efve", "\ud800"]])
    made.save(path)
    assert Vocabulary.load(path) == made
    for content in ("{}", "[1]", "no", '{"words": [1], "specials": 0, "unknown": null}'):
        path.write_text(content)
        with pytest.raises(ModelError, match=r"words\.json: not a vocabulary"):
            Vocabulary.load(path)
    with pytest.raises(ModelError, match="cannot be read"):
        Vocabulary.load(tmp_path / "none.json")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords(tmp_path: Path, kind: str) -> None:
    subwords = Subwords.train(TEXTS, size=30, kind=kind)
    assert len(subwords) <= 30
    text = "newest lower  low"
    ids = subwords.encode(text)
    assert subwords.decode(ids) == text
    assert subwords.encode_all([text, ""]) == [ids, []]
    assert [subwords.id(token) for token in subwords.tokens(text)] == ids
    assert subwords.spelled(ids) == subwords.tokens(text)
    subwords.save(tmp_path / "subwords.json")
    again = Subwords.load(tmp_path / "subwords.json")
    assert again.encode(text) == ids
    assert again.encode("<pad>") == subwords.encode("<pad>")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_are_the_same_every_time(kind: str) -> None:
    made = {Subwords.train(TEXTS, size=24, kind=kind).to_json() for _ in range(4)}
    assert len(made) == 1


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_specials_in_a_text_are_text(kind: str) -> None:
    subwords = Subwords.train([*TEXTS, "< > p a d"], size=60, kind=kind)
    assert subwords.id("<pad>") == 0
    assert 0 not in subwords.encode("low <pad> low<pad>")
    assert subwords.decode(subwords.encode("a <pad>")) == "a <pad>"
    assert subwords.encode("\u03a9")[-1] == subwords.id("<unk>")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_subwords_that_cannot_be(kind: str) -> None:
    for texts in ([], ["", " "]):
        with pytest.raises(DataError, match="no character in the texts"):
            Subwords.train(texts, kind=kind)
    with pytest.raises(DataError, match=r"characters of the texts|cannot be learned"):
        Subwords.train(TEXTS, size=5, kind=kind)
    with pytest.raises(DataError, match="specials should hold '<unk>'"):
        Subwords.train(TEXTS, kind=kind, specials=["<pad>"])
    with pytest.raises(DataError, match=r"at least two characters, got '\|'"):
        Subwords.train(TEXTS, kind=kind, specials=["<unk>", "|"])


def test_subwords_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="kind should be one of bpe, unigram, got 'wordpiece'"):
        Subwords.train(TEXTS, kind="wordpiece")
    subwords = Subwords.train(TEXTS, size=30)
    with pytest.raises(DataError, match="got the number 99"):
        subwords.decode([99])
    with pytest.raises(DataError, match="no subword 'xyz'"):
        subwords.id("xyz")
    with pytest.raises(ModelError, match="not a tokenizer's JSON"):
        Subwords.from_json("{}")
    with pytest.raises(ModelError, match="cannot be read"):
        Subwords.load(tmp_path / "none.json")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="tokenizers")

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r"holdfast\[text\]"):
        Subwords.train(TEXTS)


@settings(max_examples=25)
@given(st.text(st.sampled_from("lowernstid "), max_size=20))
def test_subwords_give_the_text_back(text: str) -> None:
    subwords = Subwords.train(TEXTS, size=40)
    assert subwords.decode(subwords.encode(text)) == text.removeprefix(" ")


def test_a_matrix_of_vectors(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("the 1 2\ncat 3 4\n<unk> 7 7\n")
    words = Vocabulary.build([["The", "cat", "cat", "cat", "The", "bird"]])
    matrix, known = read_vectors(path, words.words).matrix(words)
    assert known.tolist() == [False, False, True, True, False]
    assert matrix[2:4].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert not matrix[0].any()
    assert bool(matrix[[1, 4]].isfinite().all())
    again, _ = read_vectors(path).matrix(words)
    other, _ = read_vectors(path).matrix(words, seed=1)
    exact, there = read_vectors(path).matrix(words, lower=False)
    assert torch.equal(again[2:4], matrix[2:4])
    assert not torch.equal(other[4], again[4])
    assert there.tolist() == [False, False, True, False, False]
    assert exact.shape == (5, 2)
    empty, none = read_vectors(path, words=["zebra"]).matrix(words)
    assert empty.shape == (5, 2)
    assert not none.any()
