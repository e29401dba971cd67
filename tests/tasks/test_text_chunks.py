"""Chunks: schemes into each other, conlleval's rules, strict rules, scores, a known baseline."""

from __future__ import annotations

import zipfile
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from holdfast.data.text import (
    Chunk,
    convert_tags,
    find_chunks,
    find_scheme,
    find_whole_chunks,
    read_conll,
    score_chunks,
    write_tags,
)
from holdfast.errors import DataError

SAME = [
    {"IOB1": "", "BIO": "", "BIOES": ""},
    {"IOB1": "O", "BIO": "O", "BIOES": "O"},
    {"IOB1": "I-X", "BIO": "B-X", "BIOES": "S-X"},
    {"IOB1": "I-X I-X", "BIO": "B-X I-X", "BIOES": "B-X E-X"},
    {"IOB1": "I-X B-X", "BIO": "B-X B-X", "BIOES": "S-X S-X"},
    {"IOB1": "I-X I-Y", "BIO": "B-X B-Y", "BIOES": "S-X S-Y"},
    {
        "IOB1": "O I-X I-X I-X B-X I-Y I-Y O I-X",
        "BIO": "O B-X I-X I-X B-X B-Y I-Y O B-X",
        "BIOES": "O B-X I-X E-X S-X B-Y E-Y O S-X",
    },
]
"""The same sentences in each scheme, by hand."""


@pytest.mark.parametrize("sentence", SAME, ids=lambda sentence: sentence["BIO"] or "empty")
def test_every_scheme_into_every_other(sentence: dict[str, str]) -> None:
    for source, written in sentence.items():
        for target, wanted in sentence.items():
            assert convert_tags(written.split(), source, target) == wanted.split()


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[Chunk], int]:
    """Chunks without overlap, and the length of the sentence."""
    chunks, at = [], 0
    for size, gap in draw(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=5)):
        kind = draw(st.sampled_from(["X", "Y", "a-b", ""]))
        chunks.append(Chunk(at + gap, at + gap + size, kind))
        at += gap + size
    return chunks, at + draw(st.integers(0, 2))


@given(sentences(), st.sampled_from(["IOB1", "BIO", "BIOES"]))
def test_chunks_come_back(sentence: tuple[list[Chunk], int], scheme: str) -> None:
    chunks, length = sentence
    tags = write_tags(chunks, length, scheme)
    assert find_chunks(tags) == chunks
    assert find_whole_chunks(tags, scheme) == chunks
    assert convert_tags(convert_tags(tags, scheme, "BIO"), "BIO", scheme) == tags
    found = find_scheme([tags])
    assert found is not None
    assert convert_tags(tags, found, scheme) == tags


@pytest.mark.parametrize(
    ("tags", "source", "message"),
    [
        ("O I-X", "BIO", "token 2: in BIO 'I-X' may not stand after 'O'"),
        ("B-X", "BIOES", "token 1: in BIOES the sentence may not end after 'B-X'"),
        ("B-X", "IOB1", "token 1: in IOB1 'B-X' may not stand at the beginning"),
        ("B-X E-X", "BIO", r"token 2: 'E-X' is not a tag of a chunk; expected O, B-TYPE, I-TYPE"),
        ("NN", "BIO", "token 1: 'NN' is not a tag of a chunk"),
    ],
)
def test_wrong_tags_are_named(tags: str, source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        convert_tags(tags.split(), source, "IOB1")


def test_chunks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        write_tags([Chunk(0, 2, "X"), Chunk(1, 3, "X")], 3, "BIO")
    with pytest.raises(ValueError, match="does not fit"):
        write_tags([Chunk(0, 4, "X")], 3, "BIO")


@pytest.mark.parametrize(
    ("tags", "lenient", "strict"),
    [
        ("I-X I-X", [(0, 2, "X")], []),
        ("B-X I-Y", [(0, 1, "X"), (1, 2, "Y")], [(0, 1, "X")]),
        ("B-X B-X", [(0, 1, "X"), (1, 2, "X")], [(0, 1, "X"), (1, 2, "X")]),
        ("O I-X B-X", [(1, 2, "X"), (2, 3, "X")], [(2, 3, "X")]),
    ],
)
def test_broken_chunks(
    tags: str, lenient: list[tuple[int, int, str]], strict: list[tuple[int, int, str]]
) -> None:
    assert [tuple(chunk) for chunk in find_chunks(tags.split())] == lenient
    assert [tuple(chunk) for chunk in find_whole_chunks(tags.split(), "BIO")] == strict


@pytest.mark.parametrize(
    ("tags", "strict"),
    [
        ("B-X I-X E-X", [(0, 3, "X")]),
        ("B-X I-X", []),
        ("I-X E-X", []),
        ("E-X", []),
        ("B-X", []),
        ("B-X E-X I-X", [(0, 2, "X")]),
        ("B-X E-Y", []),
        ("S-X S-X", [(0, 1, "X"), (1, 2, "X")]),
        ("B-X S-X E-X", [(1, 2, "X")]),
    ],
)
def test_broken_chunks_of_bioes(tags: str, strict: list[tuple[int, int, str]]) -> None:
    assert [tuple(chunk) for chunk in find_whole_chunks(tags.split(), "BIOES")] == strict


def state_machine(truth: list[str], predicted: list[str]) -> tuple[int, int, int]:
    """Right, found and true chunks by conlleval's own way: a walk over both at once."""

    def ends(before: str, after: str) -> bool:
        (a, _, x), (b, _, y) = before.partition("-"), after.partition("-")
        pairs = {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")}
        return (a, b) in pairs or (a != "O" and x != y)

    def begins(before: str, after: str) -> bool:
        (a, _, x), (b, _, y) = before.partition("-"), after.partition("-")
        pairs = {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")}
        return (a, b) in pairs or (b != "O" and x != y)

    right = found = there = 0
    inside = False
    was = given_ = "O"
    for wanted, guess in zip([*truth, "O"], [*predicted, "O"], strict=True):
        over, said_over = ends(was, wanted), ends(given_, guess)
        if inside:
            if over and said_over and was.partition("-")[2] == given_.partition("-")[2]:
                inside, right = False, right + 1
            elif over != said_over or wanted.partition("-")[2] != guess.partition("-")[2]:
                inside = False
        new, said_new = begins(was, wanted), begins(given_, guess)
        if new and said_new and wanted.partition("-")[2] == guess.partition("-")[2]:
            inside = True
        there, found = there + new, found + said_new
        was, given_ = wanted, guess
    return right, found, there


TAGS = st.lists(st.sampled_from(["O", "B-X", "I-X", "B-Y", "I-Y"]), max_size=8)


@settings(max_examples=100)
@given(st.lists(st.tuples(TAGS, TAGS), max_size=4))
def test_scores_are_those_of_the_state_machine(pairs: list[tuple[list[str], list[str]]]) -> None:
    short = [(a[: len(b)], b[: len(a)]) for a, b in pairs]
    score = score_chunks([a for a, _ in short], [b for _, b in short]).overall
    wanted = [state_machine(a, b) for a, b in short]
    assert (score.right, score.found, score.there) == tuple(
        map(sum, zip(*wanted, strict=True))
    ) or (not wanted and score.there == 0)


def test_the_table_and_its_figures() -> None:
    truth = [["B-NP", "I-NP", "O"], ["B-VP", "B-NP"]]
    scores = score_chunks(truth, [["B-NP", "I-NP", "O"], ["B-VP", "O"]])
    assert (scores.overall.precision, scores.overall.recall) == (1.0, 2 / 3)
    assert scores.by_type["NP"].f1 == pytest.approx(2 / 3)
    assert scores.accuracy == 0.8
    assert str(scores).splitlines() == [
        "processed 5 tokens with 3 phrases; found: 2 phrases; correct: 2.",
        "accuracy:  80.00%; precision: 100.00%; recall:  66.67%; FB1:  80.00",
        "               NP: precision: 100.00%; recall:  50.00%; FB1:  66.67  1",
        "               VP: precision: 100.00%; recall: 100.00%; FB1: 100.00  1",
    ]
    nothing = score_chunks([["O"], []], [["O"], []])
    assert (nothing.overall.f1, nothing.overall.precision, nothing.accuracy) == (0.0, 0.0, 1.0)


def test_unequal_tags() -> None:
    with pytest.raises(DataError, match="got 1 predicted sentences for 2 true ones"):
        score_chunks([["O"], ["O"]], [["O"]])
    with pytest.raises(DataError, match="sentence 1: got 2 predicted tags for 1 true ones"):
        score_chunks([["O"], ["O"]], [["O"], ["O", "O"]])


def test_the_baseline_of_conll_2000(data_dir: Path, tmp_path: Path) -> None:
    """The most frequent chunk tag of each part of speech, as the shared task published it."""
    with zipfile.ZipFile(data_dir / "conll2000" / "conll2000.zip") as archive:
        archive.extractall(tmp_path)
    train, test = (read_conll(tmp_path / "conll2000" / f"{part}.txt") for part in ("train", "test"))
    assert (len(train), len(test)) == (8936, 2012)
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for parts, chunks in zip(train["pos"], train["chunk"], strict=True):
        for part, chunk in zip(parts, chunks, strict=True):
            counts[part][chunk] += 1
    best = {part: count.most_common(1)[0][0] for part, count in counts.items()}
    predicted = [[best[part] for part in parts] for parts in test["pos"]]
    scores = score_chunks(test["chunk"], predicted)
    assert round(100 * scores.overall.precision, 2) == 72.58
    assert round(100 * scores.overall.recall, 2) == 82.14
    assert round(100 * scores.overall.f1, 2) == 77.07
    assert find_scheme(test["chunk"]) == "BIO"
