"""The tagger: what it learns, what it says of itself, what it refuses, and where it goes on."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone

from holdfast.data.text import convert_tags, read_conll
from holdfast.errors import DataError, ModelError
from holdfast.tasks import Tagger
from holdfast.tasks.checkpoint import Progress
from tests.helpers import assert_same
from tests.tasks.tagged import SMALL, columns, conll


@pytest.fixture(scope="module")
def fitted() -> Tagger:
    """A tagger of chunks that has learned them."""
    return Tagger(**SMALL, inputs=("pos",), input_size=8).fit(columns())


def test_chunks_are_learned_and_come_back_in_the_users_scheme(fitted: Tagger) -> None:
    new = columns(20, seed=1)
    assert fitted.labels_.inside == "BIOES"
    assert "E-NP" in fitted.labels_.tags
    assert fitted.predict(new) == new["chunk"]
    assert fitted.score(new) == 1.0
    assert fitted.history_[-1].keys() == {
        *("epoch", "train_loss", "valid_loss", "valid_accuracy", "valid_f1")
    }


KINDS = [
    pytest.param(
        {"characters": "lstm", "character_size": 8, "character_units": 8}, id="character-lstm"
    ),
    pytest.param({"characters": "cnn", "character_units": 8}, id="character-cnn"),
    pytest.param({"features": ("spelling", "words")}, id="features"),
    pytest.param({"features": ("words",), "num_layers": 0, "feature_dropout": 0.2}, id="crf-alone"),
    pytest.param({"output": "softmax", "bidirectional": False, "max_epochs": 12}, id="lstm"),
    pytest.param({"cell": "gru", "options": {"zoneout": 0.1}, "num_layers": 2}, id="cell"),
]


@pytest.mark.parametrize("settings", KINDS)
def test_every_kind_of_network_learns_and_is_saved(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    data = columns()
    model = Tagger(**{**SMALL, **settings}).fit(data)
    assert model.score(data) > 0.9
    model.save(tmp_path / "model")
    again = Tagger.load(tmp_path / "model")
    assert again.get_params() == model.get_params()
    assert again.classes_ == model.classes_
    new = columns(10, seed=2)
    assert again.predict(new) == model.predict(new)
    assert_same(again.predict_proba(new), model.predict_proba(new))
    assert "Tagger of chunk" in (tmp_path / "model" / "card.md").read_text()


@pytest.mark.parametrize("scheme", ["IOB1", "BIO", "BIOES"])
def test_schemes(scheme: str) -> None:
    data, new = columns(), columns(10, seed=1)
    for one in (data, new):
        one["chunk"] = [convert_tags(tags, "BIO", scheme) for tags in one["chunk"]]
    model = Tagger(**SMALL).fit(data)
    assert model.labels_.scheme == scheme
    assert model.predict(new) == new["chunk"]
    assert model.evaluate(new).score == 1.0
    plain = ("B-NP", "I-NP", "O", "B-VP") if scheme != "BIOES" else model.labels_.tags
    assert sorted(model.classes_) == sorted(plain)
    for shares in model.predict_proba(new):
        assert_same(shares.sum(1), np.ones(len(shares), np.float32))


def test_inside_and_outside_the_probabilities_are_the_same(fitted: Tagger) -> None:
    new = {"word": [["the", "dog", "."], ["dog", "the"]], "pos": [["DT", "NN", "."], ["NN", "DT"]]}
    tagged = fitted.tag(new, confidence=True, n_best=len(fitted.labels_.tags) ** 3)
    for one, shares in zip(tagged, fitted.predict_proba(new), strict=True):
        assert one.best is not None
        paths = [tags for tags, _ in one.best]
        assert paths[0] == one.tags
        assert len({tuple(path) for path in paths}) == len(paths)
        assert_same(sum(share for _, share in one.best), 1.0)
        total = np.zeros_like(shares)
        for tags, share in one.best:
            for place, tag in enumerate(tags):
                total[place, fitted.classes_.index(tag)] += share
        assert_same(total, shares)
        sure = [shares[n, fitted.classes_.index(tag)] for n, tag in enumerate(one.tags)]
        assert_same(np.array(one.confidence, np.float32), np.array(sure))


def test_a_softmax_has_no_sequences() -> None:
    model = Tagger(**SMALL, output="softmax").fit(columns(10))
    with pytest.raises(DataError, match='need output="crf"'):
        model.tag(columns(2), n_best=2)


def test_results_do_not_depend_on_what_is_tagged_together(fitted: Tagger) -> None:
    new = columns(30, seed=4)
    new = {name: [[], *rows[:7], [], *rows[7:], rows[0][:1]] for name, rows in new.items()}
    together = fitted.tag(new, confidence=True)
    for number, one in enumerate(together):
        alone = fitted.tag({name: rows[number : number + 1] for name, rows in new.items()})[0]
        assert one.words == new["word"][number]
        assert alone.tags == one.tags
    assert together[0].tags == together[0].confidence == []


def test_a_stream_gives_the_same_and_takes_no_more_than_it_needs(
    fitted: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.tasks.tag.decoding.CHUNK", 50)
    new = columns(40, seed=5)
    taken = 0

    def one_by_one() -> Any:
        nonlocal taken
        for word, pos in zip(new["word"], new["pos"], strict=True):
            taken += 1
            yield {"word": word, "pos": pos}

    found = []
    for one in fitted.stream(one_by_one()):
        found.append(one.tags)
        assert taken - len(found) < 12
    assert found == fitted.predict(new)


def test_seeds_decide_everything_and_the_global_generator_stays() -> None:
    before = torch.random.get_rng_state()
    first, second, other = (Tagger(**SMALL, seed=n).fit(columns(10)) for n in (1, 1, 2))
    assert torch.random.get_rng_state().equal(before)
    assert first.history_ == second.history_
    assert first.history_ != other.history_


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_resumed_training_is_the_uninterrupted_one(epochs: int, tmp_path: Path) -> None:
    settings = {**SMALL, "features": ("words",), "averaging": 0.9, "characters": "cnn"}
    settings["character_units"] = 8
    whole = Tagger(**settings).fit(columns())
    file = tmp_path / "checkpoint"

    class CutError(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.epochs == epochs:
            raise CutError

    with pytest.raises(CutError):
        Tagger(**settings).fit(columns(), checkpoint=file, report=cut)
    again = Tagger(**settings).fit(columns(), checkpoint=file, resume=True)
    assert again.history_ == whole.history_
    for name, tensor in again.net_.state_dict().items():
        assert tensor.equal(whole.net_.state_dict()[name]), name
    with pytest.raises(ModelError, match=r"made with hidden_size = 8, now 5"):
        Tagger(**{**settings, "hidden_size": 5}).fit(columns(), checkpoint=file, resume=True)


def test_scikit_learn_copies_it() -> None:
    model = Tagger(hidden_size=5, features=("words",))
    copy: Any = clone(model)
    assert copy.get_params() == model.get_params()
    assert model.set_params(seed=3).seed == 3


def test_files_tables_lists_and_columns_are_the_same(tmp_path: Path) -> None:
    data = columns(12)
    path = conll(tmp_path / "a.txt", 12)
    settings = {**SMALL, "max_epochs": 1}
    models = [
        Tagger(**settings).fit(path),
        Tagger(**settings).fit(read_conll(path)),
        Tagger(**settings).fit(data),
        Tagger(**settings).fit(data["word"], data["chunk"]),
    ]
    for model in models[1:]:
        assert model.history_ == models[0].history_
    assert models[0].predict(path) == models[3].predict(data["word"])


def test_given_sentences_choose_the_epoch() -> None:
    data, new = columns(20), columns(5, seed=1)
    settings = {**SMALL, "max_epochs": 1}
    first = Tagger(**settings).fit(data, valid=new)
    second = Tagger(**settings).fit(data["word"], data["chunk"], valid=(new["word"], new["chunk"]))
    assert first.history_ == second.history_
    assert (first.data_["sentences"], first.data_["held_out_sentences"]) == (20, 5)


def test_tags_that_are_not_known_are_learned_from_the_others() -> None:
    data = columns(60)
    tags: list[list[str | None]] = [[*row] for row in data["chunk"]]
    for number, row in enumerate(tags):
        row[number % len(row)] = None
    model = Tagger(**SMALL, scheme="BIO").fit(data["word"], tags)
    assert model.labels_.inside == "BIO"
    assert model.score(data["word"], data["chunk"]) > 0.9
    scored = model.evaluate(data["word"], tags)
    assert scored.tokens == sum(map(len, tags)) - 60
    written = [[tag or "_" for tag in row] for row in tags]
    same = Tagger(**SMALL, scheme="BIO", missing="_").fit(data["word"], written)
    assert same.history_ == model.history_


def test_tags_never_seen_in_training_are_told() -> None:
    data, new = columns(), columns(3, seed=1)
    new["chunk"][0][-1] = "B-XY"
    model = Tagger(**SMALL).fit(data, valid=new)
    result = model.evaluate(new)
    assert result.new == {"B-XY": 1}
    assert "never saw, all of them missed: B-XY (1)" in result.text()
    assert result.chunks is not None
    assert result.chunks.by_type["XY"].recall == 0


def test_parts_of_speech_are_scored_by_token() -> None:
    data = columns()
    model = Tagger("pos", **SMALL).fit({"word": data["word"], "pos": data["pos"]})
    result = model.evaluate(data)
    assert (result.chunks, result.strict, model.labels_.scheme) == (None, None, None)
    assert result.score == result.accuracy > 0.9
    assert result.text().startswith("accuracy: ")
    assert model.history_[-1].keys() == {"epoch", "train_loss", "valid_loss", "valid_accuracy"}


def test_known_words_and_others_are_scored_apart(fitted: Tagger) -> None:
    new = columns(10, seed=1)
    new["word"][0][1] = "zebra"
    result = fitted.evaluate(new)
    assert (result.known.tokens, result.unknown.tokens) == (sum(map(len, new["word"])) - 1, 1)
    assert fitted.lexicon_.normal("Small7") in fitted.lexicon_.words


def test_vectors_are_looked_up_as_words_are(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("Dog 1 2 3 4\ndog 5 6 7 8\nsmall7 0 0 1 1\nUnheard 4 3 2 1\n")
    settings = {**SMALL, "vectors": str(file), "max_epochs": 1, "learning_rate": 1e-9}
    model = Tagger(**settings).fit(columns(10))
    rows, words = model.net_.words.weight.detach(), model.lexicon_.words
    assert rows.shape == (len(words), 4)
    assert_same(rows[words.ids["dog"]], torch.tensor([1.0, 2, 3, 4]))
    assert_same(rows[words.ids["small0"]], torch.tensor([0.0, 0, 1, 1]))
    assert_same(rows[words.ids["unheard"]], torch.tensor([4.0, 3, 2, 1]))
    model.save(tmp_path / "model")
    assert Tagger.load(tmp_path / "model").predict([["Unheard"]]) == model.predict([["Unheard"]])


def test_sentences_without_a_token_are_left_out_of_training() -> None:
    data = columns(10)
    gaps = {name: [[], *rows, []] for name, rows in data.items()}
    settings = {**SMALL, "max_epochs": 1}
    assert Tagger(**settings).fit(gaps).history_ == Tagger(**settings).fit(data).history_


def test_long_sentences_and_long_words(fitted: Tagger) -> None:
    data = {"word": [["x" * 5000] * 3, ["dog"] * 3000], "pos": [["NN"] * 3, ["NN"] * 3000]}
    found = fitted.tag(data, confidence=True)
    assert [len(one.tags) for one in found] == [3, 3000]
    assert all(0 <= share <= 1 for one in found for share in one.confidence or ())


WRONG = [
    ({"hidden_size": 0}, "hidden_size=0; expected a whole number from 1 on"),
    ({"output": "CRF"}, r"output='CRF'; expected one of 'crf', 'softmax' \(did you mean crf\?\)"),
    ({"features": ("speling",)}, r"features='speling'.*did you mean spelling"),
    ({"features": ("inputs",)}, "there are no inputs"),
    ({"num_layers": 0}, "num_layers=0 leaves features alone"),
    ({"columns": "conll99"}, "there is no such format"),
    ({"inputs": ("lemma",)}, "no column 'lemma' among 'word', 'pos', 'chunk'"),
    ({"inputs": ("chunk",)}, "cannot be learned and read at once"),
    ({"validation": 1.5}, "validation=1.5"),
    ({"validation": 40}, "40 sentences, of which validation=40 holds out 40"),
    ({"dropout": 1.0}, "expected a share from 0 to below 1"),
    ({"learning_rate": 0.0}, "learning_rate=0.0; expected a number above 0"),
    ({"scheme": "BILOU"}, "scheme='BILOU'"),
    ({"cell": "lstm", "options": {"zonout": 1}}, r"unexpected keyword argument 'zonout'"),
    ({"device": "nowhere"}, "device='nowhere' cannot be used here"),
]


@pytest.mark.parametrize(("settings", "message"), WRONG)
def test_settings_are_refused_with_their_name(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Tagger(**{**SMALL, **settings}).fit(columns())


def test_data_are_refused_with_their_place(tmp_path: Path, fitted: Tagger) -> None:
    data = columns(6)
    with pytest.raises(DataError, match=r"y: got 5 sentences, expected 6"):
        Tagger(**SMALL).fit(data["word"], data["chunk"][:5])
    with pytest.raises(DataError, match=r"y: sentence 2: got 1 items for \d tokens"):
        Tagger(**SMALL).fit(data["word"], [*data["chunk"][:2], ["O"], *data["chunk"][3:]])
    with pytest.raises(DataError, match=r"sentence 0 is 'He ran', expected a list of tokens"):
        Tagger(**SMALL).fit(["He ran"], [["O"]])
    with pytest.raises(DataError, match=r"token 1: got 3, expected a text"):
        Tagger(**SMALL).fit([["He", 3]], [["O", "O"]])
    with pytest.raises(DataError, match="there are no tags; give y"):
        Tagger(**SMALL).fit(data["word"])
    with pytest.raises(DataError, match=r"reads the columns 'pos', too; give a mapping"):
        fitted.predict(data["word"])
    with pytest.raises(DataError, match=r"there is no token with a tag"):
        Tagger(**SMALL).fit([["a"], ["b"]], [[None], [None]])
    file = tmp_path / "a.txt"
    file.write_text("He PRP B-NP\nran VBD I-VP\n\nYes UH B-NP\n\nNo UH I-NP\nran VBD B-VP\n")
    with pytest.raises(DataError, match=r"a\.txt:2: the tags look like chunks, but fit no scheme"):
        Tagger(**SMALL, validation=1).fit(file)
    with pytest.raises(DataError, match=r"a\.txt:2: token 2: in BIO 'I-VP' may not stand after"):
        Tagger(**SMALL, scheme="BIO", validation=1).fit(file)
    assert Tagger(**SMALL, scheme=None, validation=1).fit(file).labels_.scheme is None


def test_what_is_not_fitted_or_not_a_model_says_so(tmp_path: Path, fitted: Tagger) -> None:
    with pytest.raises(ModelError, match="has no model yet"):
        Tagger().predict([["a"]])
    with pytest.raises(ModelError, match="has no model yet"):
        Tagger().save(tmp_path / "m")
    fitted.save(tmp_path / "m")
    (tmp_path / "m" / "features.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"features\.safetensors: missing or damaged"):
        Tagger.load(tmp_path / "m")
    (tmp_path / "m" / "words.json").unlink()
    fitted.save(tmp_path / "n")
    (tmp_path / "n" / "words.json").unlink()
    with pytest.raises(ModelError, match=r"words\.json: cannot be read"):
        Tagger.load(tmp_path / "n")


@pytest.mark.slow
def test_chunks_of_conll_2000(data_dir: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(data_dir / "conll2000" / "conll2000.zip") as archive:
        archive.extractall(tmp_path)
    files = [tmp_path / "conll2000" / f"{part}.txt" for part in ("train", "test")]
    settings: dict[str, Any] = {"characters": None, "word_size": 50, "hidden_size": 64}
    model = Tagger(**settings, inputs=("pos",), validation=1000, max_epochs=3).fit(files[0])
    scored = model.evaluate(files[1])
    assert scored.chunks is not None
    assert scored.chunks.overall.f1 > 0.92
    assert scored.chunks.overall.there == 23852
    assert scored.strict is not None
    assert scored.strict.overall == scored.chunks.overall  # a CRF gives whole chunks alone


@pytest.mark.slow
def test_a_sentence_of_fifty_thousand_tokens(fitted: Tagger) -> None:
    data = {"word": [["dog"] * 50_000, ["the"]], "pos": [["NN"] * 50_000, ["DT"]]}
    assert [len(tags) for tags in fitted.predict(data)] == [50_000, 1]
