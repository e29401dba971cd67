"""What the translator does with texts that are empty, long, unknown or broken; its verbs."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from holdfast.cli import main
from holdfast.errors import DataError, LongTextWarning, ModelError
from holdfast.tasks import Translator
from holdfast.tasks.translate.codec import Codec, join_words
from holdfast.tasks.translate.pairs import read_pairs
from holdfast.verbs.translate_settings import SETTINGS
from tests.tasks.pairs import TINY, backwards, sentences, tiny, write_pairs

PNG = b"\x89PNG\r\n\x1a\n"
FIT = ("--level", "characters", "--hidden-size", "16", "--embedding-size", "8")
FIT = (*FIT, "--max-epochs", "2", "--batch-size", "16")


@pytest.fixture(scope="module")
def model() -> Translator:
    return tiny()


@pytest.mark.parametrize("level", ["subwords", "words", "characters"])
@pytest.mark.parametrize("lower_case", [False, True])
def test_texts_come_back_from_their_numbers(level: str, lower_case: bool, tmp_path: Path) -> None:
    texts = ["Yes, (he) said: it's 3.50!", "no more", "ä e\u0301 ü"]
    codec = Codec.learn(texts, level, size=200, lower_case=lower_case)
    again = Codec.from_json(codec.to_json(), "pieces")
    for text, numbers in zip(texts, codec.encode_all(texts), strict=True):
        wanted = text.lower() if lower_case else text
        assert codec.decode(numbers) == wanted.replace("e\u0301", "é")
        assert len(codec.pieces(text)) == len(numbers)
        assert codec.spelled(numbers) == codec.pieces(text)
        assert again.encode_all([text]) == [numbers]
    assert codec.encode_all(["", "  "]) == [[], []]
    # What is spelled like a mark is text.
    assert not {0, 2, 3} & set(codec.encode_all(["<s> </s> <pad>"])[0])
    with pytest.raises(ModelError, match="pieces: "):
        Codec.from_json("{}", "pieces")


def test_words_are_joined_as_they_are_written() -> None:
    words = ["I", "don't", "know", ";", "[", "see", "]", "5", "%", ":", "\u2026", "why", "?"]
    assert join_words(words) == "I don't know; [see] 5%:… why?"


def test_empty_sides_are_left_out_of_training_and_stay_empty(model: Translator) -> None:
    sources, targets = backwards()
    more = Translator(**TINY).fit([*sources, "", "a"], [*targets, "x", "  "])
    assert more.data_["blank"] == 2
    assert more.data_["pairs"] == model.data_["pairs"]
    assert model.predict(["", "abc", " "])[::2] == ["", ""]
    assert model.predict([]) == []
    with pytest.raises(DataError, match="every pair has an empty side"):
        Translator(**TINY).fit(["", "a"], ["b", ""])
    with pytest.raises(DataError, match="every pair has an empty side"):
        model.evaluate([""], [""])


def test_long_texts_are_left_out_of_training_and_cut_in_use() -> None:
    sources, targets = backwards()
    long = " ".join(["word"] * 50_000)
    with pytest.warns(LongTextWarning, match=r"1 pairs have more than max_length=20 .*pair 61"):
        model = Translator(**TINY, max_length=20).fit([*sources, long], [*targets, "x"])
    assert model.data_["long"] == 1
    with pytest.warns(LongTextWarning, match=r"1 sources have more .* cut there \(source 2\)"):
        said = model.predict(["ab", long, "a"])
    assert said[1] == model.predict([long[:20]])[0]
    with pytest.raises(DataError, match="no pair has at most max_length=20"), pytest.warns():
        Translator(**TINY, max_length=20).fit([long] * 3, ["x"] * 3)


def test_one_token_lines_and_unseen_characters(model: Translator) -> None:
    said = model.predict(["a", "☃", "a☃b", "漢字 <s>"])
    assert len(said) == 4
    assert all(isinstance(text, str) for text in said)


PAIRS = {
    "unequal": (b"a\nb\n", b"a\n", r"a\.src has 2 lines and .*a\.tgt has 1 lines"),
    "latin-1": ("fünf\n".encode("latin-1"), b"a\n", r"a\.src:1: byte 2 of the line, 0xfc"),
    "nothing": (b"\n\n", b"", r"there are no pairs"),
    "blank": (b" \na\n", b"b\n\n\xe2\x80\x83", r"has 2 lines and .* has 1 lines"),
}


@pytest.mark.parametrize("kind", PAIRS)
def test_files_that_cannot_be_pairs(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target, pattern = PAIRS[kind]
    paths = tmp_path / "a.src", tmp_path / "a.tgt"
    paths[0].write_bytes(source)
    paths[1].write_bytes(target)
    given = ("--source", str(paths[0]), "--target", str(paths[1]))
    assert main(["translate", "fit", *given, "--out", str(tmp_path / "model"), *FIT]) == 2
    line = capsys.readouterr().err.strip()
    assert line.startswith("holdfast: error: ")
    assert re.search(pattern, line), line
    assert sorted(os.listdir(tmp_path)) == ["a.src", "a.tgt"]


def test_windows_lines_and_no_newline_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_bytes(b"\xef\xbb\xbfyes\r\nno")
    (tmp_path / "a.de").write_bytes(b"ja\nnein\n\n")
    pairs = read_pairs(tmp_path / "a.en", tmp_path / "a.de")
    assert (pairs.sources, pairs.targets) == (["yes", "no"], ["ja", "nein"])


def test_wrong_kinds_of_texts_are_refused(model: Translator, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got 2 sources and 1 targets"):
        read_pairs(["a", "b"], ["a"])
    with pytest.raises(DataError, match="source 2: got int, expected a text"):
        read_pairs(["a", 5], ["a", "b"])
    with pytest.raises(DataError, match="one of source and target is a file"):
        read_pairs(["a"], tmp_path / "a.de")
    with pytest.raises(DataError, match="expected a list of texts"):
        model.predict(5)
    (tmp_path / "a.csv").write_text("source,taget\na,b\n")
    with pytest.raises(DataError, match="no column 'target'"):
        read_pairs(tmp_path / "a.csv")
    with pytest.raises(DataError, match="leaves none to train on"):
        Translator(**TINY).fit(["a"], ["b"])


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"level": "word"}, r"level='word'.*did you mean words"),
        ({"attention": "genral"}, r"did you mean general"),
        ({"hidden_size": 0}, r"hidden_size=0; expected a whole number"),
        ({"hidden_size": 7}, r"cannot be built: hidden_size is shared by two directions"),
        ({"dropout": 1.0}, r"dropout=1.0; expected a share"),
        ({"teacher_forcing": 1.5}, r"teacher_forcing=1.5"),
        ({"alpha": -1}, r"alpha=-1; expected 0"),
        ({"validation": 0.0}, r"validation=0.0"),
        ({"learning_rate": 0.0}, r"learning_rate=0.0"),
        ({"seed": -1}, r"seed=-1"),
        ({"device": "abacus"}, r"device='abacus' cannot be used"),
        ({"options": {"layer_nrom": True}}, r"did you mean layer_norm"),
        ({"attend": "before", "attention": None}, r"need an attention"),
    ],
)
def test_settings_that_cannot_be(changes: dict, pattern: str) -> None:
    with pytest.raises(DataError, match=pattern):
        Translator(**{**TINY, **changes}).fit(*backwards(8))


def test_no_attention_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny(attention=None)
    with pytest.raises(DataError, match="no attention"):
        model.align(["a"], ["a"])
    assert model.translations(["ab"])[0][0].alignment is None
    model.save(tmp_path / "model")
    (tmp_path / "a.txt").write_text("ab\n")
    given = [str(tmp_path / "model"), str(tmp_path / "a.txt")]
    assert main(["translate", "predict", *given, "--attention", str(tmp_path / "a.png")]) == 2
    assert "has no attention" in capsys.readouterr().err


@pytest.mark.parametrize("gone", ["source.json", "target.json", "model.safetensors", "config.json"])
def test_a_damaged_folder_is_refused(gone: str, model: Translator, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    file = tmp_path / "model" / gone
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=re.escape(gone)):
        Translator.load(tmp_path / "model")
    file.unlink()
    with pytest.raises(ModelError, match=re.escape(gone)):
        Translator.load(tmp_path / "model")


def test_the_options_are_the_settings() -> None:
    wanted = Translator().get_params()
    assert {one.name: one.default for one in SETTINGS} == wanted


def test_fit_predict_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train, test = write_pairs(tmp_path, "train"), write_pairs(tmp_path, "test", 12, seed=1)
    model, plot = str(tmp_path / "model"), str(tmp_path / "learning.png")
    given = ("--source", train[0], "--target", train[1])
    tested = ("--test-source", test[0], "--test-target", test[1])
    out = ("--out", model, "--plot", plot, "--watch", "bleu")
    assert main(["translate", "fit", *given, *tested, *out, *FIT]) == 0
    printed = capsys.readouterr()
    assert "epoch 1: held-out error" in printed.err
    assert "nrefs:1|case:mixed|eff:no|tok:13a" in printed.out
    card = (tmp_path / "model" / "card.md").read_text()
    assert "| BLEU |" in card
    assert "57 pairs" in card
    assert Path(plot).read_bytes().startswith(PNG)

    said, picture = str(tmp_path / "said.txt"), str(tmp_path / "attention.png")
    predict = ["translate", "predict", model, test[0], "--beam", "3"]
    assert main([*predict, "--out", said, "--attention", picture]) == 0
    assert Path(picture).read_bytes().startswith(PNG)
    lines = Path(said).read_text().splitlines()
    assert lines == Translator.load(model).set_params(beam=3).predict(test[0])
    capsys.readouterr()
    assert main([*predict, "--n-best", "2"]) == 0
    rows = capsys.readouterr().out.split("\n\n")
    assert len(rows) == 13
    assert rows[0].splitlines()[0].split("\t")[1] == lines[0]
    assert main([*predict, "--temperature", "1.2", "--seed", "5"]) == 0
    drawn = capsys.readouterr().out
    assert len(drawn.splitlines()) == 12

    evaluate = ["translate", "evaluate", model, "--source", test[0], "--target", test[1]]
    assert main([*evaluate, "--beam", "3", "--out", said]) == 0
    assert capsys.readouterr().out.startswith("12 pairs, beam 3\nBLEU ")
    assert Path(said).read_text().splitlines() == lines


def test_standard_input_is_translated_as_it_comes(
    model: Translator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model.save(tmp_path / "model")
    monkeypatch.setattr("sys.stdin", io.StringIO("abc\r\n\nde"))
    assert main(["translate", "predict", str(tmp_path / "model"), "-"]) == 0
    assert capsys.readouterr().out.splitlines() == model.predict(["abc", "", "de"])


def test_pairs_are_given_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = write_pairs(tmp_path, "train", 10)
    out = ("--out", str(tmp_path / "model"))
    for given, wanted in (
        (("--source", train[0]), "--source and --target go together"),
        ((), "give --source and --target, or --table"),
        (("--table", "a.csv", "--source", train[0]), "not both"),
    ):
        assert main(["translate", "fit", *given, *out, *FIT]) == 2
        assert wanted in capsys.readouterr().err


def test_a_table_and_a_lower_case_model(tmp_path: Path) -> None:
    sources, targets = sentences(40)
    rows = [f"{s}\t{t}" for s, t in zip(sources, targets, strict=True)]
    (tmp_path / "t.tsv").write_text("\n".join(["en\tde", *rows]) + "\n")
    table = ("--table", str(tmp_path / "t.tsv"), "--source-column", "en", "--target-column", "de")
    more = ("--lower-case", "--level", "words", "--out", str(tmp_path / "model"))
    assert main(["translate", "fit", *table, *FIT, *more]) == 0
    model = Translator.load(tmp_path / "model")
    assert model.lower_case
    assert "case:lc" in model.evaluate(sources, targets).bleu.signature
