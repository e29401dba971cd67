"""From examples and labels to trained networks."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from holdfast.data.examples import Examples
from holdfast.data.text.vectors import read_vectors
from holdfast.errors import DataError, RareLabelWarning
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.classify.encoding import Encoding, Scale, check_series
from holdfast.tasks.classify.labels import Given, Labels, class_weights, rare, split_held_out
from holdfast.tasks.classify.network import ClassifierNet, Shape
from holdfast.tasks.classify.settings import FREE_TO_CHANGE, poolings
from holdfast.tasks.classify.tokens import Tokens
from holdfast.tasks.classify.training import Goal, Part, Training
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.trainer import Plan, Trainer

if TYPE_CHECKING:
    from holdfast.tasks.classify.estimator import SequenceClassifier

# Seeds of the members of an ensemble are so far apart that nobody's next seed meets them.
STRIDE = 1_000_003


@dataclass(frozen=True)
class Data:
    """Examples and their labels, which of them train, and which are held out."""

    train: Examples
    train_labels: Given
    held_out: Examples
    held_out_labels: Given

    @property
    def digest(self) -> str:
        """What the data are, for a training to go on with."""
        parts = (self.train, self.train_labels, self.held_out, self.held_out_labels)
        return " ".join(part.digest[:16] for part in parts)


@dataclass(frozen=True)
class Fitted:
    """What training leaves."""

    encoding: Encoding
    labels: Labels
    nets: nn.ModuleList
    progress: list[Progress]
    train: Part
    held_out: Part
    counts: Tensor


def split(model: SequenceClassifier, examples: Examples, given: Given, held: Any) -> Data:
    """The data of a training; `held` are examples and labels to hold out, or None for a share.

    Warns of classes that fewer than two examples have.
    """
    if held is None and len(examples) < 2:
        raise DataError("got one example; to learn from and to hold out there must be at least two")
    labels = Labels.learn(given)
    targets = labels.encode(given)
    seldom = rare(labels, labels.count(targets).tolist())
    if seldom:
        shown = ", ".join(repr(label) for label, _ in seldom[:3])
        warnings.warn(
            f"{len(seldom)} of {len(labels.classes)} classes have fewer than two examples, such as "
            f"{shown}; they can be learned but not measured: give more, or leave them out",
            RareLabelWarning,
            stacklevel=3,
        )
    if held is not None:
        return Data(examples, given, *held)
    train, out = split_held_out(targets, model.validation, model.seed)
    return Data(examples.take(train), given.take(train), examples.take(out), given.take(out))


def fit_networks(model: SequenceClassifier, data: Data, run: Run) -> Fitted:
    """Train the networks of `model`, one for each of its members."""
    labels = Labels.learn(data.train_labels)
    encoding = learn_encoding(model, data.train)
    targets = labels.encode(data.train_labels)
    train = Part(encoding(data.train), targets)
    held_out = Part(encoding(data.held_out), labels.encode(data.held_out_labels))
    goal = Goal(class_weights(model.class_weight, labels, targets), model.label_smoothing)
    nets, progresses = nn.ModuleList(), []
    for member in range(model.members):
        net = new_network(model, encoding, labels, member)
        progress = _progress(model, data, run, member)
        file = run.file(member)
        seed = model.seed + STRIDE * member
        work = Training(
            net, train, held_out, goal, model.batch_size, seed, model.monitor, model.device
        )
        plan = Plan.of(model.get_params(), seed=seed)
        nets.append(Trainer(work, plan, progress).run(file, run.report).cpu())
        progresses.append(progress)
    return Fitted(encoding, labels, nets, progresses, train, held_out, labels.count(targets))


def learn_encoding(model: SequenceClassifier, examples: Examples) -> Encoding:
    """How examples become numbers, from those of training alone."""
    tokens = scale = None
    if examples.texts is not None:
        size = model.vocabulary_size
        tokens = Tokens.learn(examples.texts, model.tokens, model.lower, model.min_count, size)
    if examples.series is not None:
        masked = model.missing == "mask"
        check_series(examples, masked)
        scale = Scale.fit(examples.series, masked)
    return Encoding(tokens, scale, examples.channels, model.max_tokens)


def new_network(
    model: SequenceClassifier, encoding: Encoding, labels: Labels, member: int, load: bool = False
) -> ClassifierNet:
    """A network before training; its numbers come from the seed and the vectors alone.

    With `load`, the vectors are left out: a model folder has them.
    """
    shape = Shape(
        words=len(encoding.tokens) if encoding.tokens else 0,
        channels=encoding.scale.width if encoding.scale else 0,
        outputs=len(labels.classes),
        embedding_size=model.embedding_size,
        cell=model.cell,
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        bidirectional=model.bidirectional,
        pooling=poolings(vars(model)),
        word_dropout=model.word_dropout,
        embedding_dropout=model.embedding_dropout,
        dropout=model.dropout,
        recurrent_dropout=model.recurrent_dropout,
        options=model.options or {},
    )
    with own_random_numbers():
        seed_everything_of_ours(model.seed + STRIDE * member, 0)
        net = ClassifierNet(shape)
    if model.vectors is not None and encoding.tokens is not None and not load:
        _take_vectors(model, encoding.tokens, net, member)
    return net


def _take_vectors(
    model: SequenceClassifier, tokens: Tokens, net: ClassifierNet, member: int
) -> None:
    """Begin with the vectors of a file."""
    words = tokens.vocabulary
    if words is None:
        raise DataError('vectors are of words; they do not go with tokens="subwords"')
    assert model.vectors is not None
    vectors = read_vectors(model.vectors, words.words)
    matrix, _ = vectors.matrix(words, seed=model.seed + STRIDE * member)
    if matrix.shape[1] != model.embedding_size:
        raise DataError(
            f"{model.vectors}: the vectors have {matrix.shape[1]} numbers, embedding_size is "
            f"{model.embedding_size}; give embedding_size={matrix.shape[1]}"
        )
    with torch.no_grad():
        net.embedding.weight.copy_(matrix)  # type: ignore[union-attr] (there are tokens)


def _progress(model: SequenceClassifier, data: Data, run: Run, member: int) -> Progress:
    """Where the training of a member stands."""
    identity = {k: v for k, v in model.get_params().items() if k not in FREE_TO_CHANGE}
    identity = {**identity, "data": data.digest, "member": member}
    return run.progress(identity, member)


def spread_of(lengths: list[int]) -> dict[str, float]:
    """Shortest, median and longest of some lengths."""
    found = np.array(lengths or [0])
    return {
        "shortest": int(found.min()),
        "median": float(np.median(found)),
        "longest": int(found.max()),
    }
