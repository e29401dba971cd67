"""`Translator`: from pairs of texts to texts for new sources."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from holdfast.errors import DataError, LongTextWarning, ModelError
from holdfast.nn.beam import Beam
from holdfast.nn.sampling import Sampling
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.model_folder import load_config, load_weights, save_model, whole
from holdfast.tasks.parameters import Estimator
from holdfast.tasks.translate.alignment import Alignment, Translation, align, as_translation
from holdfast.tasks.translate.card import model_card
from holdfast.tasks.translate.codec import Codec
from holdfast.tasks.translate.corpus import make_corpus
from holdfast.tasks.translate.fitting import fit_networks
from holdfast.tasks.translate.network import new_network
from holdfast.tasks.translate.pairs import Pairs, read_pairs, read_sources
from holdfast.tasks.translate.scores import Evaluation, bleu, chrf
from holdfast.tasks.translate.searching import search
from holdfast.tasks.translate.settings import beam_of, check_settings, never_said
from holdfast.tasks.translate.training import loss_of

FORMAT = "holdfast.translate"
SOURCE, TARGET = "source.json", "target.json"


class Translator(Estimator):
    """Turn texts into texts: translate, summarize, answer, or write dates in another form.

    >>> from holdfast.tasks import Translator
    >>> words = ["one", "two", "three", "four", "five", "six"] * 20
    >>> model = Translator(level="characters", hidden_size=16, embedding_size=8, max_epochs=2)
    >>> model = model.fit(words, [word[::-1] for word in words])
    >>> len(model.predict(["two", "six"]))
    2

    An encoder reads a source in both directions, a decoder writes the target piece by piece and
    attends to the source. Pieces are ``"subwords"`` learned from the texts (`subwords` ``"bpe"`` or
    ``"unigram"``), ``"words"`` or ``"characters"``, as `level` says; at most `vocabulary` of a
    side, or of both together with `joint`. Words and characters need `min_count` occurrences (2 for
    words, else 1). `lower_case` makes all letters small.

    `cell` is any cell of the catalogue, `hidden_size` the units of the decoder, shared by the two
    directions of the encoder. `attention` is a score of `holdfast.nn.Attention` or None,
    `attention_options` are its further options; `attend`, `input_feeding`, `bridge` and `tied` are
    those of `holdfast.nn.EncoderDecoder`, `options` those of `holdfast.nn.Recurrent`. With
    `variational` the masks of `dropout` are the same at all steps of a sequence.

    `validation` is the share of the pairs that is watched where `fit` is given none to watch;
    `watch` says what the best epoch has: the least ``"loss"`` or the most ``"bleu"`` (searched
    greedily). A `teacher_forcing` below 1 lets the decoder read its own guesses for the rest.
    Pairs with more than `max_length` pieces on a side are not trained on, and longer sources are
    cut, with a warning. `averaging` is the decay of the running average of the weights, which is
    what is kept. `members` networks, each from its own seed, search together. `seed` alone decides
    every random number; the global generators stay as they are.

    `beam`, `length_penalty`, `alpha` and `coverage_penalty` are how `predict` searches
    (`holdfast.nn.Beam`), and may be changed after training. Of words or characters, `unknown` says
    what becomes of ``<unk>``: ``"copy"`` writes what was attended to most, ``"never"`` forbids it,
    ``"keep"`` leaves it.

    Fitted attributes: `source_`, `target_` (how texts are cut), `nets_`, `history_` (losses by
    epoch), `best_epoch_`, `data_`.
    """

    def __init__(
        self,
        *,
        source_column: str = "source",
        target_column: str = "target",
        encoding: str = "utf-8",
        level: str = "subwords",
        vocabulary: int = 5000,
        subwords: str = "bpe",
        joint: bool = False,
        min_count: int | None = None,
        lower_case: bool = False,
        cell: str = "lstm",
        embedding_size: int = 256,
        hidden_size: int = 512,
        num_layers: int = 1,
        bidirectional: bool = True,
        attention: str | None = "general",
        attention_options: dict[str, Any] | None = None,
        attend: str = "after",
        input_feeding: bool = False,
        bridge: str | None = None,
        tied: bool = True,
        dropout: float = 0.3,
        variational: bool = False,
        options: dict[str, Any] | None = None,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.0,
        schedule: str = "cosine",
        warmup: float = 0.5,
        batch_size: int = 64,
        batch_tokens: int | None = None,
        max_epochs: int = 10,
        patience: int = 5,
        validation: float = 0.05,
        watch: str = "loss",
        label_smoothing: float = 0.1,
        teacher_forcing: float = 1.0,
        coverage_loss: float = 0.0,
        gradient_clip: float = 1.0,
        averaging: float = 0.998,
        max_length: int = 200,
        beam: int = 5,
        length_penalty: str = "average",
        alpha: float = 1.0,
        coverage_penalty: float = 0.0,
        unknown: str = "copy",
        members: int = 1,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.source_column = source_column
        self.target_column = target_column
        self.encoding = encoding
        self.level = level
        self.vocabulary = vocabulary
        self.subwords = subwords
        self.joint = joint
        self.min_count = min_count
        self.lower_case = lower_case
        self.cell = cell
        self.embedding_size = embedding_size
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.attention = attention
        self.attention_options = attention_options
        self.attend = attend
        self.input_feeding = input_feeding
        self.bridge = bridge
        self.tied = tied
        self.dropout = dropout
        self.variational = variational
        self.options = options
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.batch_size = batch_size
        self.batch_tokens = batch_tokens
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.watch = watch
        self.label_smoothing = label_smoothing
        self.teacher_forcing = teacher_forcing
        self.coverage_loss = coverage_loss
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.max_length = max_length
        self.beam = beam
        self.length_penalty = length_penalty
        self.alpha = alpha
        self.coverage_penalty = coverage_penalty
        self.unknown = unknown
        self.members = members
        self.seed = seed
        self.device = device

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        valid: Any = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
    ) -> Translator:
        """Train on pairs and return self.

        X and y are two files with a text a line, two lists of texts, or X alone a table (a file or
        a frame) with the columns `source_column` and `target_column`. Pairs with an empty side are
        left out. `valid` are the pairs to watch: (X, y), or a table. With `checkpoint`, every epoch
        is written to that file; with `resume`, training goes on from it (from the start when it is
        not there) to the same result as without the interruption. `report` is called after every
        epoch with the `Progress`.

        Raises `DataError` for texts that cannot be used, `ModelError` for a checkpoint that does
        not fit or a full disk.
        """
        settings = self.get_params()
        check_settings(settings)
        pairs = self.read(X, y)
        watched = None
        if valid is not None:
            watched = self.read(*valid) if isinstance(valid, tuple) else self.read(valid)
        file = None if checkpoint is None else Path(checkpoint)
        fitted = fit_networks(settings, pairs, watched, Run(file, resume, report))
        self.source_, self.target_, self.nets_ = fitted.source, fitted.target, fitted.nets
        self.data_ = fitted.data
        first = fitted.progress[0]
        self.history_, self.best_epoch_ = first.history, first.best_epoch
        self.members_ = [
            {"history": p.history, "best_epoch": p.best_epoch} for p in fitted.progress[1:]
        ]
        return self

    def predict(
        self,
        X: Any,
        *,
        n_best: int | None = None,
        how: Beam | Sampling | None = None,
        seed: int = 0,
    ) -> list[Any]:
        """The target of each source, a text; with `n_best`, lists of so many, the best first.

        X is a file with a source a line, a table with the column `source_column`, or a list of
        texts. An empty source has the empty target. `how` is a `holdfast.nn.Beam` or a
        `holdfast.nn.Sampling` in the place of the settings' beam; what is drawn is decided by
        `seed`.
        """
        found = self.translations(X, n_best=n_best or 1, how=how, seed=seed, attention=False)
        if n_best is None:
            return [one[0].text for one in found]
        return [[each.text for each in one] for one in found]

    def translations(
        self,
        X: Any,
        *,
        n_best: int = 1,
        how: Beam | Sampling | None = None,
        seed: int = 0,
        attention: bool = True,
    ) -> list[list[Translation]]:
        """What `predict` finds, with scores and, where there is `attention`, where it looked.

        Errors: `DataError` for more sequences than the beam is wide.
        """
        sources = self._cut(self.source_pieces(X))
        settings = self.get_params()
        if how is None:
            how = beam_of(settings, n_best)
        else:
            how = replace(how, banned=(*how.banned, *never_said(settings)))
        learned = self.attention is not None
        copied = learned and self.unknown == "copy" and self.level != "subwords"
        found = search(
            self.networks(),
            [numbers for _, numbers in sources],
            how,
            batch_size=self.batch_size,
            weights=copied or (attention and learned),
            seed=seed,
            device=self.device,
        )
        return [
            [as_translation(one, pieces, self.target_, copied, attention) for one in row]
            for (pieces, _), row in zip(sources, found, strict=True)
        ]

    def align(self, X: Any, y: Any = None) -> list[Alignment]:
        """Where the model looks for each piece of given targets; empty pairs are left out.

        Errors: `DataError` for a model without attention.
        """
        if self.attention is None:
            raise DataError("this model has no attention (attention=None), so nothing is aligned")
        nets = self.networks()
        pairs = self.read(X, y).whole()
        corpus = make_corpus(pairs, self.source_, self.target_)
        pieces = [self.source_.pieces(text) for text in pairs.sources]
        wanted = [self.target_.pieces(text) for text in pairs.targets]
        return align(nets, corpus, pieces, wanted, self.batch_size, self.device)

    def score(self, X: Any, y: Any = None) -> float:
        """BLEU of what `predict` makes of the sources, beside their targets."""
        pairs = self.read(X, y)
        said = self.predict(pairs.sources)
        return bleu(said, pairs.targets, lower_case=self.lower_case).score

    def evaluate(self, X: Any, y: Any = None) -> Evaluation:
        """BLEU and chrF by sacrebleu, with their signatures, and perplexity.

        Errors: `DataError` where every pair has an empty side.
        """
        nets = self.networks()
        pairs = self.read(X, y)
        whole = pairs.whole()
        if not len(whole):
            raise DataError(
                f"{pairs.name}: every pair has an empty side; there is nothing to score"
            )
        said = self.predict(pairs.sources)
        corpus = make_corpus(whole, self.source_, self.target_)
        batches = corpus.batches(self.batch_size, None, 0, False).epoch(0)
        with torch.no_grad():
            loss = loss_of(nets, corpus, batches, self.device)
        return Evaluation(
            bleu(said, pairs.targets, lower_case=self.lower_case),
            chrf(said, pairs.targets),
            math.exp(min(loss, 700.0)),
            len(pairs),
            tuple(said),
        )

    @classmethod
    def joined(cls, models: Sequence[Translator]) -> Translator:
        """Several trained translators as one whose networks search together.

        Errors: `DataError` for models with other pieces, or another shape.
        """
        first, *rest = models
        for model in rest:
            same = (first.source_.to_json(), first.target_.to_json())
            if (model.source_.to_json(), model.target_.to_json()) != same:
                raise DataError(
                    "the models have learned other pieces; train them on the same pairs"
                )
            if _shapes(model.nets_[0]) != _shapes(first.nets_[0]):
                raise DataError("the models have other shapes; join such with the same settings")
        found = cls(**first.get_params())
        found.nets_ = nn.ModuleList(net for model in models for net in model.nets_)
        found.members = len(found.nets_)
        found.source_, found.target_, found.data_ = first.source_, first.target_, first.data_
        found.history_, found.best_epoch_ = first.history_, first.best_epoch_
        own = [{"history": m.history_, "best_epoch": m.best_epoch_} for m in rest]
        found.members_ = [*first.members_, *own, *(one for m in rest for one in m.members_)]
        return found

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder: weights, configuration, pieces and card, with `scores` in it."""
        self.networks()
        config = {
            "settings": self.get_params(),
            "sizes": [len(self.source_), len(self.target_)],
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
            "members": self.members_,
        }
        files = {SOURCE: self.source_.to_json().encode("utf-8", "surrogatepass")}
        if not self.joint:
            files[TARGET] = self.target_.to_json().encode("utf-8", "surrogatepass")
        card = model_card(config, scores)
        save_model(Path(path), FORMAT, config, self.nets_, card, more=files)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Translator:
        """The translator that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        with whole(folder):
            model = cls(**config["settings"])
            model.data_ = config["data"]
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            model.members_ = config["members"]
            source, target = config["sizes"]
            model.nets_ = nn.ModuleList(
                new_network(model.get_params(), source, target, member)
                for member in range(model.members)
            )
        model.source_ = _read_codec(folder / SOURCE)
        model.target_ = model.source_ if model.joint else _read_codec(folder / TARGET)
        load_weights(folder, model.nets_)
        model.nets_.eval()
        return model

    def read(self, X: Any, y: Any = None) -> Pairs:
        """Pairs, by this translator's columns and encoding."""
        return read_pairs(X, y, (self.source_column, self.target_column), self.encoding)

    def networks(self) -> list[Any]:
        """The trained networks, in evaluation mode.

        Errors: `ModelError` before training.
        """
        if not hasattr(self, "nets_"):
            raise ModelError("this Translator has no model yet; call fit, or Translator.load")
        return list(self.nets_.to(self.device).eval())

    def source_pieces(self, X: Any) -> list[tuple[list[str], list[int]]]:
        """The pieces of each source and their numbers."""
        self.networks()
        texts = read_sources(X, self.source_column, self.encoding)
        numbers = self.source_.encode_all(texts)
        return [(self.source_.pieces(t), n) for t, n in zip(texts, numbers, strict=True)]

    def _cut(self, sources: list[tuple[list[str], list[int]]]) -> list[tuple[list[str], list[int]]]:
        """The sources, as long as they may be; says which were longer."""
        most = self.max_length
        long = [row for row, (_, numbers) in enumerate(sources, 1) if len(numbers) > most]
        if long:
            warnings.warn(
                f"{len(long)} sources have more than max_length={most} pieces and are cut there "
                f"(source {', '.join(map(str, long[:3]))}{', ...' * (len(long) > 3)}); split them "
                "into sentences",
                LongTextWarning,
                stacklevel=3,
            )
        return [(pieces[:most], numbers[:most]) for pieces, numbers in sources]


def _read_codec(path: Path) -> Codec:
    try:
        text = path.read_bytes().decode("utf-8", "surrogatepass")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: cannot be read ({error}); train or copy the model again"
        ) from error
    return Codec.from_json(text, str(path))


def _shapes(net: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
