"""`SequenceClassifier`: which class, or which labels, texts and sequences of numbers have."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from holdfast.data.examples import Examples, is_table, read_examples
from holdfast.errors import ModelError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.classify.answers import chances, chosen, joint_scores
from holdfast.tasks.classify.attribution import Explanation, explain
from holdfast.tasks.classify.calibration import (
    Calibration,
    best_thresholds,
    calibrate,
    probabilities,
)
from holdfast.tasks.classify.card import model_card
from holdfast.tasks.classify.encoding import Encoding, Scale
from holdfast.tasks.classify.fitting import (
    Data,
    Fitted,
    fit_networks,
    new_network,
    split,
    spread_of,
)
from holdfast.tasks.classify.labels import Given, Labels, given_labels
from holdfast.tasks.classify.settings import check_settings, fields
from holdfast.tasks.classify.stream import Stream
from holdfast.tasks.classify.tokens import Tokens
from holdfast.tasks.model_folder import load_config, load_weights, save_model, whole
from holdfast.tasks.parameters import Estimator, tuples

FORMAT = "holdfast.classify"


class SequenceClassifier(Estimator):
    """Tell the class of texts, of sequences of numbers, or of both, with a recurrent network.

    >>> from holdfast.tasks import SequenceClassifier
    >>> texts, labels = ["good film", "fine", "bad film", "poor"] * 9, ["+", "+", "-", "-"] * 9
    >>> model = SequenceClassifier(hidden_size=4, max_epochs=20, learning_rate=0.02)
    >>> model.fit(texts, labels).predict(["a good one", "poor film"]).tolist()
    ['+', '-']

    X is a sequence of texts; an array `[n, T, I]`, or arrays `[T, I]` of any lengths; pairs of a
    text and such an array; or a table, as a path or a frame. A table has a row an example, its text
    in the column `text`; or, with `values` (columns of numbers), a row an example and step, where
    `id_column` says which example and `time_column` in which order. y are labels, lists of labels,
    or an array `[n, K]` of 0 and 1; of a table, the column `label` (several columns of 0 and 1
    where it names several).

    `tokens` are ``"words"``, ``"characters"`` or ``"subwords"``, in small letters with `lower`;
    `min_count` and `vocabulary_size` say which words are known, `max_tokens` how many of a text are
    read (None: all); `vectors` is a file of word vectors to begin with. `missing` (``"error"`` or
    ``"mask"``) says what happens to NaN in numbers.

    `cell` is any cell of the catalogue, `options` what a layer has beyond the settings here
    (`holdfast.nn.options.Options`). `pooling` is one or several of ``"last"``, ``"mean"``,
    ``"max"`` and ``"attention"``. `word_dropout` makes words unknown, `embedding_dropout` zeroes
    numbers of their embeddings, `dropout` features of a layer's input (one mask a sequence) and of
    what is pooled, `recurrent_dropout` units of the recurrence (one mask a sequence).

    `class_weight` is None, ``"balanced"`` or a dict. `threshold` is the probability from which one
    of several labels is given, or ``"best"``, for each the one with the best F1 on held-out
    examples. `validation` is the share of each class that is held out: it chooses the epoch, by
    `monitor` (``"loss"``, ``"accuracy"`` or ``"f1"``), and calibrates. `averaging` is the decay of
    the running average of the weights; `members` networks are trained and their probabilities
    averaged. `seed` alone decides every random number; the global generators stay as they are.

    Fitted attributes: `classes_`, `calibration_`, `thresholds_`, `nets_`, `history_`,
    `best_epoch_`, `data_`.
    """

    kind = "classifier"

    def __init__(
        self,
        *,
        text: str | None = "text",
        label: str | tuple[str, ...] | list[str] = "label",
        id_column: str | None = None,
        time_column: str | None = None,
        values: tuple[str, ...] | list[str] = (),
        encoding: str = "utf-8",
        tokens: str = "words",
        lower: bool = True,
        min_count: int = 1,
        vocabulary_size: int = 30_000,
        max_tokens: int | None = None,
        vectors: str | os.PathLike[str] | None = None,
        missing: str = "error",
        embedding_size: int = 100,
        cell: str = "lstm",
        hidden_size: int = 100,
        num_layers: int = 1,
        bidirectional: bool = True,
        pooling: str | tuple[str, ...] | list[str] = ("mean", "max"),
        options: dict[str, Any] | None = None,
        word_dropout: float = 0.2,
        embedding_dropout: float = 0.3,
        dropout: float = 0.5,
        recurrent_dropout: float = 0.0,
        class_weight: str | dict[Any, float] | None = None,
        label_smoothing: float = 0.0,
        threshold: float | str = 0.5,
        learning_rate: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: str = "constant",
        batch_size: int = 32,
        max_epochs: int = 30,
        patience: int = 5,
        validation: float = 0.1,
        monitor: str = "loss",
        gradient_clip: float = 1.0,
        averaging: float = 0.99,
        members: int = 1,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.text = text
        self.label = label
        self.id_column = id_column
        self.time_column = time_column
        self.values = values
        self.encoding = encoding
        self.tokens = tokens
        self.lower = lower
        self.min_count = min_count
        self.vocabulary_size = vocabulary_size
        self.max_tokens = max_tokens
        self.vectors = vectors
        self.missing = missing
        self.embedding_size = embedding_size
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.pooling = pooling
        self.options = options
        self.word_dropout = word_dropout
        self.embedding_dropout = embedding_dropout
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.class_weight = class_weight
        self.label_smoothing = label_smoothing
        self.threshold = threshold
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.monitor = monitor
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.members = members
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        held_out: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
    ) -> SequenceClassifier:
        """Train on examples and their labels, and return self.

        `held_out` are the examples that choose the epoch and calibrate, as a table or a pair of X
        and y; by default the share `validation` of X. With `checkpoint`, every epoch is written to
        that file; with `resume`, training goes on from it (from the start when it is not there) to
        the same result as without the interruption. `report` is called after every epoch with the
        `Progress`.

        Raises `DataError` for data that cannot be used, `ModelError` for a checkpoint that does not
        fit or a full disk; warns of classes with fewer than two examples.
        """
        check_settings(self.get_params())
        examples, given = self.read_labeled(X, y)
        held = None
        if held_out is not None:
            pair = (held_out, None) if is_table(held_out) else held_out
            held = self.read_labeled(*pair)
        data = split(self, examples, given, held)
        file = None if checkpoint is None else Path(checkpoint)
        fitted = fit_networks(self, data, Run(file, resume, report))
        self._take(data, fitted)
        return self

    def predict(self, X: Any) -> Any:
        """The class of each example, `(n,)`.

        Where labels are several: lists of labels, or an array `[n, K]` of 0 and 1 where training
        was given such.
        """
        found = self.predict_proba(X)
        return self.labels_.decode(self.choose(found))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The calibrated probability of each of `classes_`, `[n, K]`; a row sums to 1.

        Where labels are several, each has a probability of its own.
        """
        encoded = self.encode(self.read(X))
        found = joint_scores(self.nets_, encoded, self.labels_.several)
        return chances(found, self.calibration_.temperature, self.labels_.several)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """The share of examples that are told right; of several labels all have to be.

        A label that training has not seen counts as wrong.
        """
        examples, given = self.read_labeled(X, y)
        said = self.predict(examples)
        if given.form == "one":
            right = [one == two for one, two in zip(said.tolist(), given.values, strict=True)]
        elif given.form == "lists":
            right = [set(one) == set(two) for one, two in zip(said, given.values, strict=True)]
        else:
            right = (np.asarray(said) == np.array(given.values)).all(1)
        return float(np.average(right, weights=sample_weight))

    def explain(self, X: Any, label: Any = None, *, steps: int | None = None) -> list[Explanation]:
        """What speaks for a label, token by token, or step and channel by step and channel.

        See `holdfast.tasks.classify.attribution.explain`.
        """
        return explain(self, self.read(X), label, steps)

    def stream(self) -> Stream:
        """Probabilities after each further word or step, at the cost of one step.

        See `holdfast.tasks.classify.stream.Stream`.
        """
        self._check_fitted()
        return Stream(self)

    def choose(self, found: np.ndarray) -> np.ndarray:
        """Classes `(n,)`, or labels `(n, K)` above their thresholds, of probabilities `[n, K]`."""
        return chosen(found, self.thresholds_)

    def read(self, X: Any) -> Examples:
        """The examples of X, by this classifier's column names."""
        return read_examples(X, fields(vars(self)))

    def read_labeled(self, X: Any, y: Any = None) -> tuple[Examples, Given]:
        """The examples and their labels."""
        examples = self.read(X)
        return examples, given_labels(X, y, examples, fields(vars(self)))

    def encode(self, examples: Examples) -> Any:
        """The examples as the networks read them."""
        self._check_fitted()
        return self.encoding_(examples)

    @property
    def net_(self) -> Any:
        """The first network; the only one unless `members` says otherwise."""
        return self.nets_[0]

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder; `scores` is Markdown for its card.

        Raises `ModelError` when there is no model yet, or the place cannot be written.
        """
        config = self.config()
        more = {} if self.encoding_.tokens is None else self.encoding_.tokens.files()
        save_model(Path(path), FORMAT, config, self.nets_, model_card(config, scores), more)

    def config(self) -> dict[str, Any]:
        """Everything but the weights and the vocabulary, as JSON has it."""
        self._check_fitted()
        settings = self.get_params()
        if isinstance(self.class_weight, dict):
            settings["class_weight"] = [list(pair) for pair in self.class_weight.items()]
        settings["vectors"] = None if self.vectors is None else os.fspath(self.vectors)
        scale = self.encoding_.scale
        return {
            "settings": settings,
            "classes": list(self.labels_.classes),
            "form": self.labels_.form,
            "vocabulary": 0 if self.encoding_.tokens is None else len(self.encoding_.tokens),
            "channels": list(self.encoding_.channels),
            "scale": None if scale is None else vars(scale),
            "calibration": self.calibration_.as_json(),
            "thresholds": self.thresholds_,
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "members": self.members_,
        }

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SequenceClassifier:
        """The classifier that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        with whole(folder):
            settings = config["settings"]
            if isinstance(settings["class_weight"], list):
                settings["class_weight"] = dict(settings["class_weight"])
            model = cls(**tuples(settings))
            model.labels_ = Labels(tuple(config["classes"]), config["form"])
            model.classes_ = np.array(model.labels_.classes)
            tokens = Tokens.load(folder, settings) if config["vocabulary"] else None
            scale = None if config["scale"] is None else Scale(**tuples(config["scale"]))
            channels = tuple(config["channels"])
            model.encoding_ = Encoding(tokens, scale, channels, model.max_tokens)
            model.calibration_ = Calibration.from_json(config["calibration"])
            model.thresholds_ = config["thresholds"]
            model.data_, model.members_ = config["data"], config["members"]
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            model.nets_ = nn.ModuleList(
                new_network(model, model.encoding_, model.labels_, member, load=True)
                for member in range(model.members)
            )
        load_weights(folder, model.nets_)
        model.nets_.eval()
        return model

    def _take(self, data: Data, fitted: Fitted) -> None:
        self.encoding_, self.labels_, self.nets_ = fitted.encoding, fitted.labels, fitted.nets
        self.classes_ = np.array(self.labels_.classes)
        first = fitted.progress[0]
        self.history_, self.best_epoch_ = first.history, first.best_epoch
        self.members_ = [
            {"history": p.history, "best_epoch": p.best_epoch} for p in fitted.progress[1:]
        ]
        several, held = self.labels_.several, fitted.held_out
        scores = joint_scores(self.nets_, held.examples, several)
        self.calibration_ = calibrate(scores, held.targets, self.seed)
        self.thresholds_: list[float] = []
        if several and self.threshold == "best":
            sure = probabilities(scores / self.calibration_.temperature, several)
            self.thresholds_ = best_thresholds(sure, held.targets)
        elif several:
            self.thresholds_ = [float(self.threshold)] * len(self.labels_.classes)
        train, read = data.train, fitted.train.examples
        self.data_ = {
            "name": Path(train.name).name,
            "sha256": hashlib.sha256(data.digest.encode()).hexdigest(),
            "examples": len(train),
            "held_out": len(data.held_out),
            "counts": [
                [str(label), int(n)]
                for label, n in zip(self.labels_.classes, fitted.counts.tolist(), strict=True)
            ],
            "tokens": read.ids and spread_of([len(row) for row in read.ids]),
            "steps": read.values and spread_of([len(row) for row in read.values]),
            "missing": int(sum(np.isnan(row).sum() for row in train.series or ())),
        }

    def _check_fitted(self) -> None:
        if not hasattr(self, "nets_"):
            raise ModelError(
                "this SequenceClassifier has no model yet; call fit, or SequenceClassifier.load"
            )
