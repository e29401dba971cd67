"""Readers of text: what they take, and what they refuse with file and line."""

from __future__ import annotations

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest

from holdfast.data.text import (
    read_conll,
    read_lines,
    read_parallel,
    read_table,
    read_vectors,
)
from holdfast.errors import DataError

CONLL = "He PRP B-NP\nran VBD B-VP\n\nYes UH O\n"


def file(folder: Path, content: str | bytes, name: str = "a.txt") -> Path:
    path = folder / name
    raw = content.encode() if isinstance(content, str) else content
    if name.endswith(".gz"):
        raw = gzip.compress(raw)
    if name.endswith(".xz"):
        raw = lzma.compress(raw)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.xz"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"one\n", ["one"]),
        (b"one\n\n", ["one", ""]),
        (b"one\r\ntwo\r\n", ["one", "two"]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
    ],
)
def test_lines(tmp_path: Path, name: str, content: bytes, lines: list[str]) -> None:
    assert read_lines(file(tmp_path, content, name)) == lines


def test_a_line_of_50000_tokens(tmp_path: Path) -> None:
    long = " ".join(["word"] * 50_000)
    assert read_lines(file(tmp_path, f"{long}\nshort\n")) == [long, "short"]
    assert read_table(file(tmp_path, f"text,label\n{long},1\n", "a.csv"))["text"] == [long]
    table = read_conll(file(tmp_path, "word N O\n" * 50_000))
    assert [len(sentence) for sentence in table["word"]] == [50_000]


def test_another_encoding(tmp_path: Path) -> None:
    path = file(tmp_path, "yes\nna\u00efve\n".encode("latin-1"))
    assert read_lines(path, encoding="latin-1") == ["yes", "na\u00efve"]
    with pytest.raises(DataError, match=r"a\.txt:2: byte 3 of the line, 0xef, is not utf-8; give"):
        read_lines(path)
    with pytest.raises(DataError, match="there is no encoding 'klingon'"):
        read_lines(path, encoding="klingon")
    with pytest.raises(DataError, match="utf-16 has no lines of bytes"):
        read_lines(path, encoding="utf-16")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot be read \(No such file"):
        read_lines(tmp_path / "none.txt")
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(b"one\n" * 9999)[:-20])
    with pytest.raises(DataError, match=r"cut\.gz:\d+: cannot be unpacked"):
        read_lines(cut)
    (tmp_path / "bad.xz").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"bad\.xz:1: cannot be unpacked"):
        read_lines(tmp_path / "bad.xz")


@pytest.mark.parametrize("content", [CONLL, CONLL.rstrip("\n"), f"\n \n{CONLL}\n\n \t\n"])
def test_columns_and_blank_lines(tmp_path: Path, content: str) -> None:
    table = read_conll(file(tmp_path, content.replace("\n\n", "\n\n\n")))
    assert table["word"] == [["He", "ran"], ["Yes"]]
    assert table["chunk"] == [["B-NP", "B-VP"], ["O"]]
    assert len(table) == 2
    where = table.place(1, 0)
    number = int(where.rpartition(":")[2])
    assert read_lines(tmp_path / "a.txt")[number - 1] == "Yes UH O"


def test_columns_by_number(tmp_path: Path) -> None:
    path = file(tmp_path, CONLL)
    assert read_conll(path, {"tag": -1, "word": 0})["tag"] == [["B-NP", "B-VP"], ["O"]]
    assert read_conll(path, ["word"])["word"] == [["He", "ran"], ["Yes"]]
    tabbed = file(tmp_path, "New York\tN\n", "b.txt")
    assert read_conll(tabbed, ["word", "tag"], separator="\t")["word"] == [["New York"]]
    spaces = file(tmp_path, "10\u00a0000 \t N\n", "c.txt")
    assert read_conll(spaces, ["word", "tag"])["word"] == [["10\u00a0000"]]


def test_documents_and_universal_dependencies(tmp_path: Path) -> None:
    news = file(tmp_path, "-DOCSTART- -X- O O\n\nEU NNP B-NP B-ORG\n")
    assert read_conll(news, "conll2003")["ner"] == [["B-ORG"]]
    rest = "\t_" * 6
    lines = ["# text = du vin", f"1-2\tdu\t_\t_{rest}", f"1\tde\tde\tADP{rest}"]
    lines += [f"2\tle\tle\tDET{rest}", f"2.1\tx\tx\tX{rest}", f"3\tvin\tvin\tNOUN{rest}"]
    table = read_conll(file(tmp_path, "\n".join(lines)), "conllu")
    assert table["form"] == [["de", "le", "vin"]]
    assert table["upos"] == [["ADP", "DET", "NOUN"]]


def test_schemes_of_a_file(tmp_path: Path) -> None:
    table = read_conll(file(tmp_path, "a I-X\nb I-X\nc B-X\n\nd O\n"), ["word", "tag"])
    turned = table.convert("tag", "BIOES")
    assert turned["tag"] == [["B-X", "E-X", "S-X"], ["O"]]
    assert turned["word"] == table["word"]
    with pytest.raises(DataError, match=r"a\.txt:1: token 1: in BIO 'I-X' may not stand at the be"):
        table.convert("tag", "BIOES", "BIO")
    with pytest.raises(DataError, match="column 'word' holds tags of no scheme"):
        table.convert("word", "BIO")
    with pytest.raises(DataError, match=r"no column 'tags' \(did you mean tag\?\); there are"):
        table["tags"]


@pytest.mark.parametrize(
    ("content", "columns", "message"),
    [
        ("a b c\nd e\n", "conll2000", r"a\.txt:2: got 2 columns, expected 3 as in the first"),
        ("a b\n", "conll2000", r"a\.txt:1: got 2 columns, so there is no column 2 to be 'chunk'"),
        ("a b\n", {"tag": -3}, r"a\.txt:1: got 2 columns, so there is no column -3"),
        ("\n\n", "conll2000", r"a\.txt: there is no sentence"),
        ("", "conll2000", r"a\.txt: there is no sentence"),
        ("a b\n", "conll1999", "there is no format 'conll1999'; there are conll2000"),
        ("a b\n", ["word", "word"], "columns need different names"),
    ],
)
def test_columns_that_are_refused(tmp_path: Path, content: str, columns: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_conll(file(tmp_path, content), columns)


def test_parallel_files(tmp_path: Path) -> None:
    one, two = file(tmp_path, "yes\n\nno\n\n", "a.en"), file(tmp_path, "ja\nhm\nnein", "a.de")
    assert read_parallel(one, two) == [("yes", "ja"), ("", "hm"), ("no", "nein")]
    short = file(tmp_path, "ja\n", "b.de")
    with pytest.raises(DataError, match=r"a\.en has 3 lines and .*b\.de has 1 lines"):
        read_parallel(one, short)
    with pytest.raises(DataError, match="got 1 file"):
        read_parallel(one)


def _parquet(path: Path) -> Path:
    pl.DataFrame({"text": ["a b", ""], "label": [1, 0]}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: file(folder, 'label,text\n1,a b\n0,""\n', "a.csv"),
        lambda folder: file(folder, 'label,text\r\n1,a b\r\n0,""', "a.csv"),
        lambda folder: file(folder, 'label,text\n1,a b\n0,""\n\n\n', "a.csv.gz"),
        lambda folder: file(folder, 'label\ttext\n1\ta b\n0\t""\n', "a.tsv"),
        lambda folder: file(
            folder, '{"text": "a b", "label": 1}\n\n{"label": 0, "text": ""}', "a.jsonl.xz"
        ),
        lambda folder: _parquet(folder / "a.parquet"),
        lambda folder: pd.DataFrame({"text": ["a b", ""], "label": [1, 0]}),
        lambda folder: pl.DataFrame({"text": ["a b", ""], "label": ["1", "0"]}),
    ],
)
def test_tables(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    table = read_table(make(tmp_path))
    assert table.columns == {"text": ["a b", ""], "label": ["1", "0"]}
    assert len(table) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: the file is empty"),
        ("a.csv", "text,label\n", r"a\.csv: the table has no rows"),
        ("a.csv", "text,labels\na,1\n", r"no column 'label' \(did you mean labels\?\)"),
        ("a.csv", "text,label\na,1\nb\n", r"a\.csv: row 2: column 'label' is missing"),
        ("a.csv", "text,label\na,1,2\n", r"a\.csv: not a readable table \(found more fields"),
        ("a.csv", 'text,label\n"a,1\n', r"a\.csv: not a readable table"),
        ("a.csv", b"text,label\n\xff,1\n", r"a\.csv:2: byte 1 of the line, 0xff"),
        ("a.parquet", "nothing", r"a\.parquet: not a readable table"),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text"\n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", '{"text": "a"}\n', r"a\.jsonl:1: there is no column 'label'"),
        ("a.jsonl", '{"text": "a", "label": null}\n', r"a\.jsonl:1: column 'label' is missing"),
        ("a.jsonl", '{"text": ["a"], "label": 1}\n', r"a\.jsonl:1: column 'text' holds list"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: got list, expected an object"),
        ("a.jsonl", "\n", r"a\.jsonl: there is no row"),
        ("a.doc", "text", r"a\.doc: expected a file that ends in \.csv"),
    ],
)
def test_tables_that_are_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_table(file(tmp_path, content, name))


def test_what_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got list; expected a path"):
        read_table(["a"])
    with pytest.raises(DataError, match=r"none\.csv: cannot be read"):
        read_table(tmp_path / "none.csv")


@pytest.mark.parametrize("header", ["", "3 2\n"])
@pytest.mark.parametrize("name", ["v.txt", "v.vec.gz", "v.txt.xz"])
def test_vectors(tmp_path: Path, header: str, name: str) -> None:
    path = file(tmp_path, f"{header}the 1 -2.5\n. . 0 1e-3 \nthe 9 9\n", name)
    vectors = read_vectors(path)
    if header:
        assert vectors.words == ("the", ". .")
        assert vectors.values.tolist()[0] == [1.0, -2.5]
    assert read_vectors(path, words=["The"]).words == ("the",)
    assert len(read_vectors(path, words=["cat"])) == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"v\.txt: there is no vector"),
        ("2 2\n", r"v\.txt: there is no vector"),
        ("a 1 2\nb 1\n", r"v\.txt:2: got 1 numbers after the word, expected 2"),
        ("a 1 2\nb 1 2 3\n", r"v\.txt:2: got 3 numbers after the word, expected 2"),
        ("1 3\na 1 2\n", r"v\.txt:2: got 2 numbers after the word, expected 3"),
        ("a 1 2\nb 1 x\n", r"v\.txt:2: 'x' is not a number"),
        ("a 1 2\nb 1 nan\n", r"v\.txt:2: a vector should hold finite numbers"),
        ("3 2\na 1 2\nb 1 2\n", r"v\.txt:1: says 3 words, but 2 follow"),
        (b"a 1 2\n\xff 1 2\n", r"v\.txt:2: byte 1 of the line"),
        ("a\n", r"v\.txt:1: got 0 numbers after the word, expected 1"),
    ],
)
def test_vectors_that_are_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_vectors(file(tmp_path, content, "v.txt"))
