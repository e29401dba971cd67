"""LanguageModel: training, the recipe, model folders, exact resume."""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.base import clone

from holdfast.errors import DataError, ModelError
from holdfast.tasks import LanguageModel
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.language.net import Dropouts, LanguageNet, Shape
from holdfast.tasks.language.settings import PRESETS, check_settings
from holdfast.tasks.language.training import LanguageWork
from tests.helpers import assert_same

TEXT = "the cat sat on the mat\na dog ran to the cat\n" * 12
SMALL: dict[str, Any] = {"hidden_size": 6, "batch_size": 4, "steps": 20, "max_epochs": 2}
AWD: dict[str, Any] = {
    **SMALL,
    "num_layers": 2,
    "dropout": 0.2,
    "dropout_embedding": 0.1,
    "dropout_input": 0.2,
    "dropout_output": 0.2,
    "weight_dropout": 0.3,
    "ar": 2.0,
    "tar": 1.0,
    "random_steps": True,
    "optimizer": "sgd",
    "learning_rate": 2.0,
    "averaging": "triggered",
    "trigger": 1,
    "max_epochs": 6,
}


class PowerCutError(Exception):
    """Ends a training in the middle."""


def test_a_model_learns_what_comes_next() -> None:
    settings = {**SMALL, "hidden_size": 16, "max_epochs": 12, "learning_rate": 0.03}
    model = LanguageModel(**settings).fit(TEXT)
    assert [row["epoch"] for row in model.history_] == list(range(1, 13))
    assert model.evaluate(TEXT).perplexity < 3
    assert model.history_[-1]["valid_loss"] < 0.5 * model.history_[0]["valid_loss"]


def test_states_go_on_from_piece_to_piece_and_gradients_do_not(generator: torch.Generator) -> None:
    net = LanguageNet(Shape(tokens=5, hidden_size=3)).double()
    stream = torch.randint(5, (40,), generator=generator).numpy()
    work = LanguageWork(net, stream, stream, rows=2, begin=0, length=7)
    losses = torch.stack([loss.detach() for loss in work.losses(0) if loss is not None])
    whole = LanguageWork(net, stream, stream, rows=2, begin=0, length=20)
    (loss,) = whole.losses(0)
    assert loss is not None
    sizes = torch.tensor([7.0, 7.0, 6.0], dtype=torch.float64)
    assert_same((losses * sizes).sum() / 20, loss)
    assert work.steps(0) == 3
    # The second piece alone, begun where the first one ended.
    passed = net(work.rows.inputs[:7])
    states = [tuple(state.detach() for state in passed.states[0])]
    second = net(work.rows.inputs[7:14], states)
    wanted = net.losses(second.said.flatten(0, 1), work.rows.targets[7:14].ravel()).mean()
    found = list(work.losses(0))[1]
    assert found is not None
    mine, theirs = (torch.autograd.grad(one, list(net.parameters())) for one in (found, wanted))
    for one, other in zip(mine, theirs, strict=True):
        assert_same(one, other)


def test_random_lengths_change_the_learning_rate_with_them() -> None:
    net = LanguageNet(Shape(tokens=3, hidden_size=2))
    stream = torch.arange(400).remainder(3).numpy()
    work = LanguageWork(net, stream, stream, rows=2, begin=0, length=20, random=True)
    paces = [work.pace for _ in work.losses(0)]
    assert len(set(paces)) > 2
    assert sum(paces) * 20 == pytest.approx(200)


def test_every_dropout_acts_in_training_alone() -> None:
    tokens = torch.arange(12).remainder(7).view(6, 2)
    for name in ("embedding", "input", "between", "output", "weight"):
        drops: Any = {name: 0.5}
        shape = Shape(7, hidden_size=8, num_layers=2, dropouts=Dropouts(**drops))
        net = LanguageNet(shape)
        first, second = net(tokens).said, net(tokens).said
        assert not first.equal(second), name
        net.eval()
        assert net(tokens).said.equal(net(tokens).said), name


def test_a_variational_mask_is_one_for_all_steps() -> None:
    for variational in (True, False):
        drops = Dropouts(output=0.5, variational=variational)
        net = LanguageNet(Shape(7, hidden_size=50, dropouts=drops))
        passed = net(torch.zeros(9, 3, dtype=torch.int64))
        kept = passed.said != 0
        assert kept.equal(kept[:1].expand_as(kept)) == variational
        assert_same(passed.said[kept], 2 * passed.raw[kept])


def test_tied_weights_are_one_parameter() -> None:
    shape = Shape(7, hidden_size=8, num_layers=2, embedding_size=5, tied=True)
    net = LanguageNet(shape)
    assert shape.widths == [5, 8, 5]
    assert sum(p.numel() == 35 for p in net.parameters()) == 1
    said = net(torch.zeros(4, 1, dtype=torch.int64)).said
    wanted = (said @ net.embedding.weight.T + net.bias).log_softmax(-1)
    assert_same(net.log_probs(said), wanted)


def test_an_adaptive_softmax_says_probabilities() -> None:
    net = LanguageNet(Shape(30, hidden_size=16, cutoffs=(5, 12)))
    said = net(torch.zeros(4, 2, dtype=torch.int64)).said
    found = net.log_probs(said)
    assert_same(found.exp().sum(-1), torch.ones(4, 2))
    targets = torch.tensor([0, 7, 29, 12, 3, 5, 11, 4])
    picked = found.flatten(0, 1).gather(1, targets.unsqueeze(1)).squeeze(1)
    assert_same(net.losses(said.flatten(0, 1), targets), -picked)


@pytest.mark.parametrize(
    "settings",
    [
        {"cell": "gru"},
        {"cell": "persistent", "num_layers": 2, "options": {"window": 9}},
        {"level": "word", "tied": True, "embedding_size": 4, "num_layers": 2},
        {"level": "word", "cutoffs": [4]},
        {"level": "subword", "vocabulary_size": 40},
        AWD,
    ],
)
def test_a_model_folder_holds_the_model(settings: dict[str, Any], tmp_path: Path) -> None:
    model = LanguageModel(**{**SMALL, **settings}).fit(TEXT)
    model.save(tmp_path / "model", "Scored well.")
    again = LanguageModel.load(tmp_path / "model")
    assert again.history_ == model.history_
    assert (again.log_probs(TEXT) == model.log_probs(TEXT)).all()
    pieces = ["".join(one.generate("the cat", 12, seed=1)) for one in (model, again)]
    assert pieces[0] == pieces[1]
    card = (tmp_path / "model" / "card.md").read_text()
    assert "Scored well." in card
    assert model.data_["sha256"] in card


@pytest.mark.parametrize("settings", [{**SMALL, "dropout_output": 0.2, "max_epochs": 5}, AWD])
def test_resume_equals_an_uninterrupted_run(settings: dict[str, Any], tmp_path: Path) -> None:
    whole = LanguageModel(**settings).fit(TEXT)
    file = tmp_path / "checkpoint"

    def stop(progress: Progress) -> None:
        if progress.epochs == 4:
            raise PowerCutError

    with pytest.raises(PowerCutError):
        LanguageModel(**settings).fit(TEXT, checkpoint=file, report=stop)
    resumed = LanguageModel(**settings).fit(TEXT, checkpoint=file, resume=True)
    assert resumed.history_ == whole.history_
    theirs = whole.net_.state_dict()
    for name, tensor in resumed.net_.state_dict().items():
        assert tensor.equal(theirs[name]), name


def test_a_training_goes_on_from_another_model(tmp_path: Path) -> None:
    first = LanguageModel(**{**SMALL, "max_epochs": 8, "learning_rate": 0.03}).fit(TEXT)
    first.save(tmp_path / "first")
    before = {name: tensor.clone() for name, tensor in first.net_.state_dict().items()}
    other = "a cat sat on a dog\nthe mat ran to a mat\n" * 8
    how = {**SMALL, "optimizer": "sgd", "averaging": "mean", "learning_rate": 0.3}
    again = [LanguageModel(**how).fit(other, start=start) for start in (first, tmp_path / "first")]
    assert again[0].history_ == again[1].history_
    anew = LanguageModel(**how).fit(other)
    assert again[0].history_[0]["valid_loss"] < anew.history_[-1]["valid_loss"]
    assert again[0].history_[1]["valid_loss"] < again[0].history_[0]["valid_loss"]
    assert again[0].tokens_.as_bytes() == first.tokens_.as_bytes()
    assert_same(first.net_.state_dict(), before)
    again[0].save(tmp_path / "again")
    assert again[0].data_["start"] in (tmp_path / "again" / "card.md").read_text()


def test_a_start_of_another_shape_or_vocabulary_is_refused(tmp_path: Path) -> None:
    first = LanguageModel(**{**SMALL, "max_epochs": 1}).fit(TEXT)
    with pytest.raises(DataError, match=r"start: .* hidden_size=6, this LanguageModel has 7"):
        LanguageModel(**{**SMALL, "hidden_size": 7}).fit(TEXT, start=first)
    with pytest.raises(DataError, match=r"start: .* level='character', this .* has 'word'"):
        LanguageModel(**SMALL, level="word").fit(TEXT, start=first)
    with pytest.raises(ModelError, match="no model yet"):
        LanguageModel(**SMALL).fit(TEXT, start=LanguageModel(**SMALL))
    with pytest.raises(DataError, match="expected a fitted model, or the path of its folder, got"):
        LanguageModel(**SMALL).fit(TEXT, start=first.net_)  # pyright: ignore[reportArgumentType]
    file = tmp_path / "checkpoint"
    LanguageModel(**SMALL).fit(TEXT, start=first, checkpoint=file)
    with pytest.raises(ModelError, match="made with start = "):
        LanguageModel(**SMALL).fit(TEXT, checkpoint=file, resume=True)


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "checkpoint"
    settings = {**SMALL, "max_epochs": 1, "schedule": "linear"}
    LanguageModel(**settings).fit(TEXT, checkpoint=file)
    with pytest.raises(ModelError, match="made with data = "):
        LanguageModel(**settings).fit(TEXT + "more\n", checkpoint=file, resume=True)
    with pytest.raises(ModelError, match="made with max_epochs = 1, now 2"):
        LanguageModel(**{**settings, "max_epochs": 2}).fit(TEXT, checkpoint=file, resume=True)


def test_the_seed_decides_and_the_global_generator_stays() -> None:
    before = torch.random.get_rng_state()
    one, same, other = (
        LanguageModel(**{**AWD, "max_epochs": 1, "seed": seed}).fit(TEXT) for seed in (0, 0, 1)
    )
    assert torch.random.get_rng_state().equal(before)
    assert one.history_ == same.history_
    assert one.history_ != other.history_


def test_products_of_bfloat16_train_to_nearly_the_same(tmp_path: Path) -> None:
    precise = LanguageModel(**SMALL).fit(TEXT)
    model = LanguageModel(**SMALL, precision="bfloat16").fit(TEXT)
    assert {p.dtype for p in model.net_.parameters()} == {torch.float32}
    for mine, theirs in zip(model.history_, precise.history_, strict=True):
        assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-2)
        assert mine["valid_loss"] == pytest.approx(theirs["valid_loss"], rel=1e-2)
    assert not torch.is_autocast_enabled("cpu")
    model.save(tmp_path / "m")
    again = LanguageModel.load(tmp_path / "m")
    assert again.precision == "bfloat16"
    assert_same(again.log_probs(TEXT), model.log_probs(TEXT))


def test_it_has_scikit_learns_manners() -> None:
    model = LanguageModel(**SMALL, level="word")
    twin: Any = clone(model)
    twin.set_params(hidden_size=9)
    assert (twin.hidden_size, twin.level, model.hidden_size) == (9, "word", 6)
    with pytest.raises(ModelError, match="no model yet"):
        model.score(TEXT)
    with pytest.raises(ModelError, match="no model yet"):
        model.generate()


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_settings_that_can_be_trained_with(name: str) -> None:
    model = LanguageModel.preset(name, seed=3)
    check_settings(model.get_params())
    assert model.seed == 3


def test_zarembas_preset_trains_on_a_folder(tmp_path: Path) -> None:
    for part in ("train", "valid", "test"):
        (tmp_path / f"{part}.txt").write_text(" the <unk> cat sat N times \n" * 20)
    model = LanguageModel.preset(
        "zaremba-small", hidden_size=5, batch_size=3, steps=9, max_epochs=2
    ).fit(tmp_path)
    assert model.evaluate(tmp_path).unknown == 20
    assert model.tokens_.encode("the\n").tolist()[-1] == model.tokens_.end


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"level": "words"}, r"level='words'; expected one of .*did you mean word"),
        ({"cell": "lsmt"}, "lsmt.*did you mean.*lstm.*persistent"),
        ({"cell": "phased"}, "cell='phased' wants .* beside a text"),
        ({"cell": "rnn", "options": {"forget": 1}}, "cell='rnn': .*unexpected keyword"),
        ({"hidden_size": 0}, "hidden_size=0; expected a whole number"),
        ({"dropout": 1.0}, "dropout=1.0; expected a share"),
        ({"ar": -1}, "ar=-1; expected 0"),
        ({"learning_rate": 0}, "learning_rate=0; expected a number above 0"),
        ({"decay": 0.5}, "decay=0.5; expected what a rate is divided by"),
        ({"validation": 0}, "validation=0; expected a share"),
        ({"seed": -1}, "seed=-1; expected"),
        ({"averaging": "trigger"}, "averaging='trigger'; expected a decay"),
        ({"vocabulary_size": 2}, "vocabulary_size=2; expected"),
        ({"embedding_size": 0}, "embedding_size=0; expected"),
        ({"cutoffs": [5, 5]}, r"cutoffs=\[5, 5\]; expected rising"),
        ({"cutoffs": [5], "tied": True}, "tied=True and cutoffs do not go together"),
        ({"cutoffs": [500]}, r"cutoffs=\[500\]: there are only \d+ tokens"),
        ({"cutoffs": [4, 8]}, r"cutoffs=\[4, 8\]: the vectors of the last part"),
        ({"precision": "bf16"}, "precision='bf16'; expected one of 'float32', 'bfloat16'"),
        ({"device": "nowhere"}, "device='nowhere' cannot be used here"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LanguageModel(**{**SMALL, **settings}).fit(TEXT)


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(DataError, match=r"no preset 'awdd' .did you mean awd"):
        LanguageModel.preset("awdd")


def test_a_line_of_50000_tokens_is_read() -> None:
    line = "the cat sat " * 16_700
    model = LanguageModel("word", **{**SMALL, "batch_size": 50, "steps": 100, "max_epochs": 1})
    model.fit([line])
    assert len(model.evaluate([line], rows=20).losses) == 50_101


@pytest.mark.slow
def test_a_book_is_learned_and_more_of_it_written(data_dir: Path) -> None:
    with lzma.open(data_dir / "war_and_peace" / "war_and_peace.txt.xz") as file:
        book = file.read().decode()
    train, test = book[500_000:700_000], book[700_000:710_000]
    small = {"hidden_size": 64, "batch_size": 8, "steps": 50, "max_epochs": 3}
    model = LanguageModel.preset("char-small", **small).fit(train)
    found = model.evaluate(test, after=train[-1000:])
    assert len(found.losses) == 10_000 + 1  # the last line ends
    assert found.nats < 2.25  # the frequencies of the characters alone give 3.07
    drawn = "".join(model.generate("The ", 400, temperature=0.5, seed=1))
    known, words = set(train.split()), drawn.split()[1:-1]
    assert sum(word in known for word in words) > 0.5 * len(words)
