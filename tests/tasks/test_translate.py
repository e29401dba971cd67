"""The translator: what it learns, its settings one by one, searching, saving, going on."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.base import clone
from torch.nn import functional

from holdfast.errors import DataError, ModelError
from holdfast.nn import Beam, Sampling
from holdfast.tasks import Translator
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.translate.searching import search
from holdfast.tasks.translate.smoothed import smoothed_loss
from tests.helpers import assert_same
from tests.tasks.pairs import TINY, backwards, sentences, tiny, write_pairs


@pytest.fixture(scope="module")
def model() -> Translator:
    return tiny()


def test_it_learns_to_write_backwards() -> None:
    sources, targets = backwards(300)
    settings = {**TINY, "hidden_size": 32, "max_epochs": 10, "learning_rate": 0.02, "dropout": 0.0}
    model = Translator(**settings, averaging=0.9).fit(sources, targets)
    wanted = ["fedc", "ab", "ba"]
    assert model.predict(["cdef", "ba", "ab"]) == wanted
    assert model.history_[-1]["valid_loss"] < 0.5 * model.history_[0]["valid_loss"]
    assert model.data_["pairs"] == 285
    assert model.data_["watched"] == 15
    # Where it looks while it writes backwards: from the end of the source to its beginning.
    (alignment,) = model.align(["abcdef"], ["fedcba"])
    assert alignment.weights.shape == (7, 7)
    np.testing.assert_allclose(alignment.weights.sum(1), 1.0, rtol=1e-5)
    assert alignment.source == (*"abcdef", "</s>")
    assert alignment.target == (*"fedcba", "</s>")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_layers": 2},
        pytest.param({"cell": "gru", "num_layers": 2}, marks=pytest.mark.slow),
        {"attention": "additive", "attend": "before"},
        {"input_feeding": True, "variational": True},
        {"attention": None, "bidirectional": False, "bridge": "copy"},
        {
            "attention": "additive",
            "attention_options": {"coverage": True},
            "coverage_loss": 0.5,
        },
        {"tied": False, "options": {"forget_bias": 1.0}, "variational": True},
        {"teacher_forcing": 0.5, "label_smoothing": 0.0},
        {"batch_tokens": 60, "schedule": "plateau", "watch": "bleu"},
        {"members": 2, "coverage_penalty": 0.2, "length_penalty": "wu"},
        {"joint": True, "lower_case": True},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_every_setting_trains_saves_and_loads(changes: dict[str, Any], tmp_path: Path) -> None:
    model = tiny(**changes)
    assert len(model.history_) == 2
    said = model.predict(["abc", "f", ""])
    assert said[2] == ""
    model.save(tmp_path / "model")
    again = Translator.load(tmp_path / "model")
    assert again.predict(["abc", "f", ""]) == said
    assert again.get_params() == model.get_params()
    for mine, theirs in zip(model.nets_, again.nets_, strict=True):
        assert_same(dict(mine.state_dict()), dict(theirs.state_dict()))


@pytest.mark.parametrize("level", ["subwords", "words"])
@pytest.mark.parametrize("joint", [False, True])
def test_subwords_and_words(level: str, joint: bool, tmp_path: Path) -> None:
    settings = {**TINY, "level": level, "vocabulary": 60, "joint": joint}
    model = Translator(**settings).fit(*sentences())
    model.save(tmp_path / "model")
    names = {"source.json", "model.safetensors", "config.json", "card.md"}
    wanted = names if joint else {*names, "target.json"}
    assert {file.name for file in (tmp_path / "model").iterdir()} == wanted
    text = ["the cat sees nn7, nothing else"]
    assert Translator.load(tmp_path / "model").predict(text) == model.predict(text)
    if level == "words":
        # A rare word is unknown, so that what stands for such words is learned.
        assert "nn10" not in model.source_.units
        assert "cat" in model.source_.units


def test_the_same_seed_gives_the_same_model_and_leaves_the_generator() -> None:
    before = torch.random.get_rng_state()
    one, two = tiny(seed=3, dropout=0.3), tiny(seed=3, dropout=0.3)
    assert torch.random.get_rng_state().equal(before)
    assert one.history_ == two.history_
    assert tiny(seed=4, dropout=0.3).history_ != one.history_


def test_it_is_an_estimator() -> None:
    model = Translator(**TINY)
    copied: Any = clone(model)
    assert copied.get_params() == model.get_params()
    assert copied.set_params(beam=2).beam == 2
    with pytest.raises(ModelError, match="call fit"):
        model.predict(["abc"])


def test_files_a_table_and_lists_are_the_same(tmp_path: Path, model: Translator) -> None:
    paths = write_pairs(tmp_path, "train")
    sources, targets = backwards()
    frame = pl.DataFrame({"source": sources, "target": targets})
    frame.write_csv(tmp_path / "train.csv")
    for given in (paths, (frame,), (tmp_path / "train.csv",)):
        assert Translator(**TINY).fit(*given).history_ == model.history_
    texts = ["abc", "d"]
    table = pl.DataFrame({"source": texts})
    (tmp_path / "some.txt").write_text("abc\nd", encoding="utf-8")  # no newline at the end
    table.write_csv(tmp_path / "some.csv")
    for given in (texts, table, tmp_path / "some.txt", str(tmp_path / "some.csv")):
        assert model.predict(given) == model.predict(texts)


def test_n_best_and_samples(model: Translator) -> None:
    texts = ["abc", "ef", ""]
    found = model.translations(texts, n_best=3)
    assert [len(row) for row in found] == [3, 3, 1]
    for row in found[:2]:
        scores = [one.score for one in row]
        assert scores == sorted(scores, reverse=True)
        assert all(one.log_prob < 0 for one in row)
    assert model.predict(texts, n_best=3)[0][0] == model.predict(texts)[0]
    assert model.predict(texts, how=Beam(5)) == model.predict(texts)
    how = Sampling(temperature=1.5, samples=4)
    drawn = model.predict(texts, n_best=4, how=how, seed=1)
    assert drawn == model.predict(texts, n_best=4, how=how, seed=1)
    assert drawn != model.predict(texts, n_best=4, how=how, seed=2)
    # The marks are no pieces of a target, however hot the drawing is.
    hot = model.predict(["abcdef"] * 30, how=Sampling(temperature=50.0))
    assert not any(mark in text for text in hot for mark in ("<", ">"))
    with pytest.raises(DataError, match="n_best=6"):
        model.translations(texts, n_best=6)


def test_targets_do_not_depend_on_what_is_beside(model: Translator) -> None:
    texts = ["abc", "fedcba", "d", "eeeee"]
    together = [one[0].score for one in model.translations(texts)]
    alone = [model.translations([text])[0][0].score for text in texts]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


def test_networks_search_together_and_can_be_joined() -> None:
    one, two = tiny(seed=0), tiny(seed=1)
    two.source_, two.target_ = one.source_, one.target_
    both = Translator.joined([one, two])
    assert both.members == 2
    # The probability of the first piece is the mean of what both say.
    source, given = torch.tensor([[4, 5, 3]]), torch.tensor([[2]])
    with torch.no_grad():
        says = [net(source, None, given).softmax(2)[0, 0] for net in both.networks()]
    (alone,) = search(both.networks(), [[4, 5]], Beam(1, banned=(0, 1, 2, *range(4, 10))))[0]
    assert alone.ids == []
    assert alone.log_prob == pytest.approx(math.log(float(says[0][3] + says[1][3]) / 2), rel=1e-5)
    loss = both.evaluate(*backwards(20, seed=5)).perplexity
    each = [m.evaluate(*backwards(20, seed=5)).perplexity for m in (one, two)]
    # A mean of probabilities is at least as good as the mean of their logarithms.
    assert math.log(loss) <= sum(map(math.log, each)) / 2 + 1e-6
    with pytest.raises(DataError, match="other pieces"):
        Translator.joined([one, Translator(**TINY, joint=True).fit(["xyz"] * 30, ["zy"] * 30)])


def test_unknown_words_are_copied_from_where_the_model_looks() -> None:
    settings = {**TINY, "level": "words", "vocabulary": 40, "hidden_size": 32}
    settings |= {"max_epochs": 12, "learning_rate": 0.02, "dropout": 0.0, "averaging": 0.9}
    settings |= {"embedding_size": 16, "tied": False, "batch_size": 8}
    sources = [f"the {name} runs" for name in ("cat", "dog") * 30]
    sources += [f"the name{n} runs" for n in range(30)]
    targets = [s.replace("the", "die").replace("runs", "rennt") for s in sources]
    targets = [t.replace("cat", "Katze") for t in targets]
    model = Translator(**settings).fit(sources, targets)
    assert model.predict(["the cat runs", "the Zebra runs"]) == [
        "die Katze rennt",
        "die Zebra rennt",
    ]
    (found,) = model.translations(["the Zebra runs"])
    assert found[0].alignment is not None
    assert found[0].alignment.target == ("die", "Zebra", "rennt")
    assert model.set_params(unknown="keep").predict(["the Zebra runs"]) == ["die <unk> rennt"]
    assert "<unk>" not in model.set_params(unknown="never").predict(["the Zebra runs"])[0]


def test_scores_are_those_of_sacrebleu(model: Translator) -> None:
    import sacrebleu

    sources, targets = backwards(30, seed=7)
    result = model.evaluate(sources, targets)
    said = model.predict(sources)
    assert result.said == tuple(said)
    assert result.bleu.score == pytest.approx(sacrebleu.corpus_bleu(said, [targets]).score)
    assert result.chrf.score == pytest.approx(sacrebleu.corpus_chrf(said, [targets]).score)
    assert "tok:13a" in result.bleu.signature
    assert model.score(sources, targets) == result.bleu.score
    logits = [
        model.nets_[0](
            torch.tensor([[*model.source_.encode_all([s])[0], 3]]),
            None,
            torch.tensor([[2, *model.target_.encode_all([t])[0]]]),
        )[0]
        for s, t in zip(sources, targets, strict=True)
    ]
    wanted = torch.tensor([n for t in targets for n in [*model.target_.encode_all([t])[0], 3]])
    loss = functional.cross_entropy(torch.cat(logits), wanted)
    assert math.log(result.perplexity) == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_smoothed_loss_is_that_of_pytorch(smoothing: float, generator: torch.Generator) -> None:
    logits = torch.randn(3, 4, 7, generator=generator, dtype=torch.float64)
    wanted = torch.randint(1, 7, (3, 4), generator=generator)
    wanted[1, 2:] = 0
    one, two = (logits.clone().requires_grad_() for _ in range(2))
    ours = smoothed_loss(one, wanted, 0, smoothing)
    theirs = functional.cross_entropy(
        two.flatten(0, 1), wanted.flatten(), ignore_index=0, label_smoothing=smoothing
    )
    (3 * ours).backward()
    (3 * theirs).backward()
    assert_same(ours.detach(), theirs.detach())
    assert_same(one.grad, two.grad)


class CutError(Exception):
    """Ends a training in the middle."""


@pytest.mark.parametrize("changes", [{}, {"members": 2, "watch": "bleu", "teacher_forcing": 0.7}])
def test_a_cut_training_goes_on_to_the_same_model(changes: dict[str, Any], tmp_path: Path) -> None:
    settings = {**TINY, "max_epochs": 4, "dropout": 0.3, **changes}
    whole = Translator(**settings).fit(*backwards())

    def cut(progress: Progress) -> None:
        if progress.epochs == 2 and progress.identity["member"] == settings.get("members", 1) - 1:
            raise CutError

    file = tmp_path / "checkpoint"
    with pytest.raises(CutError):
        Translator(**settings).fit(*backwards(), checkpoint=file, report=cut)
    again = Translator(**settings).fit(*backwards(), checkpoint=file, resume=True)
    assert again.history_ == whole.history_
    assert again.members_ == whole.members_
    for mine, theirs in zip(again.nets_, whole.nets_, strict=True):
        for name, tensor in mine.state_dict().items():
            assert tensor.equal(theirs.state_dict()[name]), name
    with pytest.raises(ModelError, match="made with hidden_size = 16, now 12"):
        Translator(**{**settings, "hidden_size": 12}).fit(
            *backwards(), checkpoint=file, resume=True
        )
