"""The classifier keeps scikit-learn's manners, learns, and is the same wherever it is loaded."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from holdfast.errors import DataError, ModelError
from holdfast.tasks import SequenceClassifier
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.classify.attribution import Explanation
from holdfast.tasks.classify.fitting import new_network
from tests.helpers import assert_same

SMALL: dict[str, Any] = {
    "embedding_size": 6,
    "hidden_size": 5,
    "max_epochs": 4,
    "batch_size": 8,
    "learning_rate": 0.05,
    "averaging": 0.5,
    "dropout": 0.1,
}
TEXTS = ["a good film", "fine and good", "a bad film", "poor and bad , not fine", "good", "so bad"]
SAID = ["+", "+", "-", "-", "+", "-"]
WAYS = ("last", "mean", "max", "attention")


def assert_near(actual: Any, reference: Any) -> None:
    """The same as far as float32 goes, in which networks compute."""
    assert_same(torch.as_tensor(actual).float(), torch.as_tensor(reference).float())


def reviews(times: int = 6) -> tuple[list[str], list[str]]:
    return TEXTS * times, SAID * times


def waves(rows: int = 40, seed: int = 0) -> tuple[list[np.ndarray], list[int]]:
    """Sequences of unequal lengths with two channels, of which one rises or falls."""
    generator = np.random.default_rng(seed)
    found, labels = [], []
    for row in range(rows):
        steps = int(generator.integers(3, 9))
        slope = 1 if row % 2 else -1
        rise = slope * np.linspace(-1, 1, steps)
        found.append(np.stack([5 + rise, generator.normal(size=steps)], axis=1))
        labels.append(row % 2)
    return found, labels


@pytest.fixture(scope="module")
def fitted() -> Any:
    return SequenceClassifier(**{**SMALL, "max_epochs": 8}, pooling=WAYS).fit(*reviews())


def test_parameters_go_in_and_out() -> None:
    model: Any = SequenceClassifier(cell="gru", pooling=("mean", "max"), class_weight={"+": 2.0})
    copy: Any = clone(model)
    assert copy is not model
    assert copy.get_params() == model.get_params()
    assert copy.set_params(hidden_size=3).hidden_size == 3
    assert is_classifier(copy)
    assert not hasattr(copy, "classes_")


def test_it_learns_words(fitted: Any) -> None:
    texts, said = reviews(1)
    assert fitted.classes_.tolist() == ["+", "-"]
    assert fitted.predict(texts).tolist() == said
    assert fitted.score(texts, said) == 1.0
    assert fitted.score(texts, ["+"] * 6) == 0.5
    found = fitted.predict_proba(texts)
    assert_same(found.sum(1), np.ones(6))
    losses = [row["valid_loss"] for row in fitted.history_]
    assert fitted.best_epoch_ == int(np.argmin(losses)) + 1


def test_it_learns_numbers_of_unequal_lengths() -> None:
    model: Any = SequenceClassifier(**{**SMALL, "max_epochs": 12}).fit(*waves())
    assert model.classes_.tolist() == [0, 1]
    assert model.score(*waves(seed=1)) > 0.9


def test_it_learns_from_texts_and_numbers_what_neither_tells_alone() -> None:
    series, rises = waves(64)
    texts = ["same" if row % 4 < 2 else "other" for row in range(64)]
    labels = [(text == "same") == bool(up) for text, up in zip(texts, rises, strict=True)]
    pairs = list(zip(texts, series, strict=True))
    settings = {**SMALL, "max_epochs": 60, "patience": 60, "dropout": 0.0, "batch_size": 64}
    model: Any = SequenceClassifier(**settings, word_dropout=0.0, embedding_dropout=0.0)
    model.fit(pairs, labels)
    assert model.score(pairs, labels) > 0.9
    assert model.predict(pairs[:2]).dtype == bool


def test_an_example_does_not_depend_on_what_stands_beside_it(fitted: Any) -> None:
    texts = [*TEXTS, "", "unknown words " * 30]
    together = fitted.predict_proba(texts)
    for at, text in enumerate(texts):
        assert_near(fitted.predict_proba([text])[0], together[at])


def test_an_array_is_the_list_of_its_rows() -> None:
    x = np.random.default_rng(0).normal(size=(20, 6, 2))
    labels = [row % 2 for row in range(20)]
    one = SequenceClassifier(**SMALL).fit(x, labels)
    two = SequenceClassifier(**SMALL).fit(list(x), labels)
    assert np.array_equal(one.predict_proba(x), two.predict_proba(torch.from_numpy(x)))
    channel = SequenceClassifier(**SMALL).fit(x[:, :, 0], labels)
    assert channel.encoding_.channels == ("x0",)


def test_scikit_learn_validates_searches_and_pipes() -> None:
    texts, said = reviews()
    model: Any = SequenceClassifier(**{**SMALL, "max_epochs": 2})
    scores = cross_val_score(model, texts, said, cv=3)
    assert scores.shape == (3,)
    assert ((scores >= 0) & (scores <= 1)).all()
    search = GridSearchCV(model, {"hidden_size": [2, 5]}, cv=2, scoring="f1_macro")
    search.fit(texts, said)
    assert search.best_params_["hidden_size"] in (2, 5)
    assert search.predict(texts[:2]).shape == (2,)
    lower = FunctionTransformer(lambda rows: [row.replace("film", "movie") for row in rows])
    piped: Any = make_pipeline(lower, model).fit(texts, said)
    assert "movie" in piped[-1].encoding_.tokens.vocabulary
    assert cross_val_score(
        model, np.zeros((12, 3, 1)) + np.arange(12)[:, None, None], [0, 1] * 6, cv=2
    ).shape == (2,)


def test_several_labels_come_back_as_they_were_given() -> None:
    texts = ["red", "blue", "red blue", "none"] * 8
    lists = [["r"], ["b"], ["r", "b"], []] * 8
    settings = {**SMALL, "max_epochs": 25, "word_dropout": 0.0, "dropout": 0.0}
    model: Any = SequenceClassifier(**settings).fit(texts, lists)
    assert model.classes_.tolist() == ["b", "r"]
    assert model.predict(texts[:4]) == [["r"], ["b"], ["b", "r"], []]
    assert model.score(texts, lists) == 1.0
    found = model.predict_proba(texts[:4])
    assert found[2].min() > 0.5 > found[3].max()
    array = np.array([[0, 1], [1, 0], [1, 1], [0, 0]] * 8)
    again = SequenceClassifier(**settings).fit(texts, array)
    assert again.classes_.tolist() == [0, 1]
    assert np.array_equal(again.predict(texts[:4]), array[:4])
    assert_same(again.predict_proba(texts), model.predict_proba(texts))


def test_the_best_thresholds_are_kept(tmp_path: Path) -> None:
    texts = ["red", "blue", "red blue", "none"] * 12
    lists = [["r"], ["b"], ["r", "b"], []] * 12
    model: Any = SequenceClassifier(**SMALL, threshold="best", validation=0.5).fit(texts, lists)
    assert len(model.thresholds_) == 2
    assert model.thresholds_ != [0.5, 0.5]
    model.save(tmp_path / "model")
    assert SequenceClassifier.load(tmp_path / "model").thresholds_ == model.thresholds_
    strict = SequenceClassifier(**SMALL, threshold=0.999).fit(texts, lists)
    assert strict.predict(["none"]) == [[]]


def test_seldom_classes_weigh_more_where_asked() -> None:
    texts = [*["good film"] * 40, *["bad film"] * 4]
    said = ["+"] * 40 + ["-"] * 4
    settings = {**SMALL, "max_epochs": 1}
    plain = SequenceClassifier(**settings).fit(texts, said).predict_proba(["film"])[0, 1]
    balanced = SequenceClassifier(**settings, class_weight="balanced").fit(texts, said)
    told = SequenceClassifier(**settings, class_weight={"-": 6.5, "+": 39 / 72}).fit(texts, said)
    assert balanced.predict_proba(["film"])[0, 1] > plain + 0.1
    assert_same(told.predict_proba(["film"]), balanced.predict_proba(["film"]))


def test_members_are_averaged() -> None:
    texts, said = reviews()
    model: Any = SequenceClassifier(**SMALL, members=2).fit(texts, said)
    assert len(model.nets_) == 2
    first = SequenceClassifier(**SMALL).fit(texts, said)
    assert_same(model.nets_[0].state_dict(), first.nets_[0].state_dict())
    with torch.no_grad():
        batch = model.encode(model.read(texts[:1])).batch([0])
        parts = [net(batch).softmax(1) for net in model.nets_]
    assert not torch.allclose(parts[0], parts[1], atol=1e-4)
    begun = [new_network(model, model.encoding_, model.labels_, member) for member in (0, 1)]
    assert not torch.equal(begun[0].readout.weight, begun[1].readout.weight)
    model.calibration_ = type(model.calibration_)()
    assert_near(model.predict_proba(texts[:1]), (parts[0] + parts[1]) / 2)


def test_the_same_seed_gives_the_same_model_and_leaves_the_global_generators() -> None:
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    numpy_state = np.random.get_state(legacy=False)["state"]["key"].copy()
    texts, said = reviews()
    first = SequenceClassifier(**SMALL, seed=3).fit(texts, said)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state(legacy=False)["state"]["key"], numpy_state)
    assert random.getstate() == python_state
    torch.rand(5)
    second = SequenceClassifier(**SMALL, seed=3).fit(texts, said)
    other = SequenceClassifier(**SMALL, seed=4).fit(texts, said)
    assert first.history_ == second.history_
    assert np.array_equal(first.predict_proba(texts), second.predict_proba(texts))
    assert first.history_ != other.history_


@pytest.mark.parametrize("members", [1, 2])
def test_resume_equals_an_uninterrupted_run(members: int, tmp_path: Path) -> None:
    class PowerCutError(Exception):
        pass

    def cut(progress: Progress) -> None:
        if progress.epochs == 2 and progress.identity["member"] == members - 1:
            raise PowerCutError

    texts, said = reviews()
    settings = {**SMALL, "members": members, "recurrent_dropout": 0.2}
    whole = SequenceClassifier(**settings).fit(texts, said)
    file = tmp_path / "checkpoint"
    with pytest.raises(PowerCutError):
        SequenceClassifier(**settings).fit(texts, said, checkpoint=file, report=cut)
    resumed = SequenceClassifier(**settings).fit(texts, said, checkpoint=file, resume=True)
    assert resumed.history_ == whole.history_
    assert resumed.members_ == whole.members_
    for name, tensor in resumed.nets_.state_dict().items():
        assert tensor.equal(whole.nets_.state_dict()[name]), name
    with pytest.raises(ModelError, match="made with data = "):
        SequenceClassifier(**settings).fit(texts[6:], said[6:], checkpoint=file, resume=True)


@pytest.mark.parametrize("tokens", ["words", "characters", "subwords"])
def test_a_saved_model_is_the_same_model(tokens: str, tmp_path: Path) -> None:
    texts, said = reviews()
    settings = {**SMALL, "max_epochs": 1, "vocabulary_size": 40}
    model: Any = SequenceClassifier(**settings, tokens=tokens, class_weight={"+": 2.0})
    model.fit(texts, said).save(tmp_path / "model", "a table of scores")
    loaded = SequenceClassifier.load(tmp_path / "model")
    assert loaded.get_params() == model.get_params()
    assert loaded.classes_.tolist() == model.classes_.tolist()
    assert np.array_equal(loaded.predict_proba(texts), model.predict_proba(texts))
    kept = "subwords.json" if tokens == "subwords" else "words.json"
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.safetensors", "config.json", "card.md", kept}
    card = (tmp_path / "model" / "card.md").read_text()
    for words in (model.data_["sha256"], "a table of scores", "| `hidden_size` | `5` |", "limits"):
        assert words in card
    assert isinstance(loaded.explain(texts[:1])[0], Explanation)


def test_a_saved_model_of_numbers_is_the_same_model(tmp_path: Path) -> None:
    x, labels = waves()
    x[3][1, 0] = np.nan
    model: Any = SequenceClassifier(**SMALL, missing="mask").fit(x, labels)
    model.save(tmp_path / "model")
    loaded = SequenceClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(x), model.predict_proba(x))
    assert model.data_["missing"] == 1


def test_a_damaged_model_says_so(fitted: Any, tmp_path: Path) -> None:
    fitted.save(tmp_path / "model")
    words = tmp_path / "model" / "words.json"
    words.write_text("[]")
    with pytest.raises(ModelError, match=r"words\.json: not a vocabulary"):
        SequenceClassifier.load(tmp_path / "model")
    words.unlink()
    with pytest.raises(ModelError, match=r"words\.json: cannot be read"):
        SequenceClassifier.load(tmp_path / "model")


def test_held_out_examples_can_be_given() -> None:
    texts, said = reviews()
    model: Any = SequenceClassifier(**SMALL).fit(
        texts, said, held_out=(["fine film"] * 4, ["+"] * 4)
    )
    assert (model.data_["examples"], model.data_["held_out"]) == (36, 4)
    shared = SequenceClassifier(**SMALL, validation=0.25).fit(texts, said)
    assert (shared.data_["examples"], shared.data_["held_out"]) == (28, 8)


def test_training_sees_nothing_of_what_is_held_out() -> None:
    texts, said = reviews()
    losses = []
    for other in (["fine film"] * 4, ["strange words"] * 4):
        model: Any = SequenceClassifier(**SMALL).fit(texts, said, held_out=(other, ["+"] * 4))
        assert "strange" not in model.encoding_.tokens.vocabulary
        losses.append([row["train_loss"] for row in model.history_])
    assert losses[0] == losses[1]


def test_the_monitor_chooses_the_epoch() -> None:
    texts, said = reviews()
    settings = {**SMALL, "monitor": "accuracy", "validation": 0.3}
    model: Any = SequenceClassifier(**settings).fit(texts, said)
    best = [row["accuracy"] for row in model.history_]
    assert model.best_epoch_ == int(np.argmax(best)) + 1


def test_vectors_begin_the_embedding(tmp_path: Path) -> None:
    file = tmp_path / "vectors.txt"
    file.write_text("good 1 2 3\nbad -1 -2 -3\n")
    texts, said = reviews()
    settings = {**SMALL, "embedding_size": 3, "learning_rate": 1e-9, "max_epochs": 1}
    model: Any = SequenceClassifier(**settings, vectors=file).fit(texts, said)
    words = model.encoding_.tokens.vocabulary
    row = model.net_.embedding.weight[words.id("bad")]
    assert_same(row.detach(), torch.tensor([-1.0, -2.0, -3.0]))
    model.save(tmp_path / "model")
    file.unlink()
    loaded = SequenceClassifier.load(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(texts), model.predict_proba(texts))


@pytest.mark.parametrize("cell", ["gru", "peephole"])
def test_other_cells_and_options(cell: str) -> None:
    texts, said = reviews()
    settings = {**SMALL, "max_epochs": 1, "cell": cell, "bidirectional": False}
    model: Any = SequenceClassifier(**settings, options={"zoneout": 0.1}).fit(texts, said)
    assert np.isfinite(model.predict_proba(texts)).all()


def test_use_before_fit_is_refused(tmp_path: Path) -> None:
    for call in (
        lambda: SequenceClassifier().predict(["a"]),
        lambda: SequenceClassifier().save(tmp_path / "model"),
        lambda: SequenceClassifier().stream(),
        lambda: SequenceClassifier().explain(["a"]),
    ):
        with pytest.raises(ModelError, match="call fit"):
            call()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_size": 0}, "hidden_size=0"),
        ({"tokens": "word"}, "did you mean words"),
        ({"pooling": ("max", "median")}, "pooling='median'"),
        ({"pooling": ()}, r"pooling=\(\)"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"threshold": 2}, "threshold=2"),
        ({"validation": 0.0}, "validation=0.0"),
        ({"cell": "lsmt"}, "the network cannot be made.*lsmt"),
        ({"options": {"zone": 1}}, "options: 'zone' is unknown"),
        ({"options": {"input_dropout": 0.1}}, "options: 'input_dropout' is unknown"),
        ({"monitor": "f2"}, "monitor='f2'"),
        ({"class_weight": "even"}, "class_weight='even'"),
        ({"class_weight": {"?": 1.0}}, r"class_weight: '\?' is no class"),
        ({"seed": -1}, "seed=-1"),
        ({"device": "tpu-of-mars"}, "the network cannot be made"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        SequenceClassifier(**{**SMALL, **settings}).fit(*reviews(2))
