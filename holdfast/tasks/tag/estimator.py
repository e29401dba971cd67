"""`Tagger`: a tag for every token of a sentence."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError

from holdfast.data.text import Vocabulary
from holdfast.errors import ModelError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.model_folder import load_config, load_weights, save_model, whole
from holdfast.tasks.parameters import Estimator, tuples
from holdfast.tasks.tag.card import model_card
from holdfast.tasks.tag.decoding import Decoder, Tagged, Wanted
from holdfast.tasks.tag.encoded import Lexicon
from holdfast.tasks.tag.evaluation import TagEvaluation, compare
from holdfast.tasks.tag.fitting import fit_network, new_network
from holdfast.tasks.tag.labels import Labels
from holdfast.tasks.tag.sentences import Layout, Sentences, as_sentences
from holdfast.tasks.tag.settings import check_settings
from holdfast.tasks.tag.words import Normal

FORMAT = "holdfast.tag"


class Tagger(Estimator):
    """Find the tag of every token: chunks, names, parts of speech.

    >>> from holdfast.tasks import Tagger
    >>> X = [["He", "ran"], ["She", "sat"], ["He", "sat"], ["She", "ran"]] * 5
    >>> y = [["PRON", "VERB"]] * 20
    >>> model = Tagger(hidden_size=8, word_size=8, max_epochs=5).fit(X, y)
    >>> model.predict([["She", "sat"]])
    [['PRON', 'VERB']]

    What X may be: the path of a file with a token a line, a `TokenTable`, a mapping of columns, or
    lists of tokens with lists of tags in y. Of files, `columns` names the columns (or a format of
    `holdfast.data.text.read_conll`), `column` is the one to learn, `word_column` the one of words
    (by default ``"word"`` or ``"form"``), and `inputs` are further ones to read. `missing` is a
    text that stands for a tag that is not known, as None does in y: such tokens are learned from by
    their neighbors alone (partial labels).

    `scheme` is how chunks are written: ``"IOB1"``, ``"BIO"``, ``"BIOES"``, None where tags are no
    chunks, or ``"auto"``. With a CRF they are learned in BIOES; what comes out is in the user's.

    Words: in small letters with `lower`, digits as 0 with `digits`; those seen `min_count` times,
    at most `max_words`, have vectors of `word_size` numbers, drawn at random or read from the local
    file `vectors`. A word seen n times in training is taken for an unknown one with probability
    `rare` / (`rare` + n). `characters` (``"lstm"``, ``"cnn"``, None) adds a vector made from the
    word's characters, of `character_size` numbers each, by `character_units` units of each
    direction or filters. Each of `inputs` has vectors of `input_size` numbers.

    `features` are hand-made and score tags directly: ``"spelling"``, ``"words"`` and ``"inputs"``
    (n-grams around the token), each if seen `feature_count` times; `feature_dropout` of them are
    dropped in training.

    The layer: any `cell` of the catalogue, `hidden_size` units, `num_layers` of them (0 for none:
    features alone), `bidirectional` or not, `dropout` of its inputs and outputs with one mask for a
    sentence, and further `options` of `holdfast.nn.Recurrent`. `output` is ``"crf"``, with what the
    scheme forbids left out, or ``"softmax"``.

    `validation` is the share, or the number, of sentences at the end that choose the epoch unless
    others are given; `averaging` the decay of the running average of the weights, which is what is
    kept. `seed` alone decides every random number; the global generators stay as they are.

    Fitted attributes: `labels_`, `classes_` (the tags of probabilities), `net_`, `history_`
    (losses and scores by epoch), `best_epoch_`.

    Source: Huang, Xu & Yu 2015; characters: Lample et al. 2016, Ma & Hovy 2016.
    """

    def __init__(
        self,
        column: str = "chunk",
        *,
        columns: str | tuple[str, ...] | list[str] = "conll2000",
        word_column: str | None = None,
        inputs: tuple[str, ...] | list[str] = (),
        missing: str | None = None,
        scheme: str | None = "auto",
        lower: bool = True,
        digits: bool = True,
        min_count: int = 1,
        max_words: int | None = None,
        word_size: int = 100,
        vectors: str | os.PathLike[str] | None = None,
        rare: float = 0.5,
        characters: str | None = "lstm",
        character_size: int = 25,
        character_units: int = 25,
        input_size: int = 25,
        features: tuple[str, ...] | list[str] = (),
        feature_count: int = 2,
        feature_dropout: float = 0.0,
        cell: str = "lstm",
        hidden_size: int = 100,
        num_layers: int = 1,
        bidirectional: bool = True,
        dropout: float = 0.5,
        options: dict[str, Any] | None = None,
        output: str = "crf",
        learning_rate: float = 4e-3,
        weight_decay: float = 0.0,
        schedule: str = "linear",
        batch_size: int = 32,
        max_epochs: int = 30,
        patience: int = 10,
        validation: float | int = 0.1,
        gradient_clip: float = 1.0,
        averaging: float = 0.998,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.column = column
        self.columns = columns
        self.word_column = word_column
        self.inputs = inputs
        self.missing = missing
        self.scheme = scheme
        self.lower = lower
        self.digits = digits
        self.min_count = min_count
        self.max_words = max_words
        self.word_size = word_size
        self.vectors = vectors
        self.rare = rare
        self.characters = characters
        self.character_size = character_size
        self.character_units = character_units
        self.input_size = input_size
        self.features = features
        self.feature_count = feature_count
        self.feature_dropout = feature_dropout
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.bidirectional = bidirectional
        self.dropout = dropout
        self.options = options
        self.output = output
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.gradient_clip = gradient_clip
        self.averaging = averaging
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
    ) -> Tagger:
        """Train and return self.

        `valid` are the sentences that choose the epoch: a path, a table, a mapping, or a pair (X,
        y); without it, the last `validation` of X. Sentences without a token are left out. With
        `checkpoint`, every epoch is written to that file; with `resume`, training goes on from it
        (from the start when it is not there) to the same result as without the interruption.
        `report` is called after every epoch with the `Progress`, and may have the methods of
        `holdfast.tasks.progress.Watcher`.

        Raises `DataError` for sentences that cannot be used, `ModelError` for a checkpoint that
        does not fit or a full disk.
        """
        settings = self.get_params()
        check_settings(settings)
        sentences = self.read(X, y, target=True)
        held = None
        if valid is not None:
            pair = valid if isinstance(valid, tuple) else (valid, None)
            held = self.read(*pair, target=True)
        file = None if checkpoint is None else Path(checkpoint)
        fitted = fit_network(settings, sentences, held, Run(file, resume, report))
        self.lexicon_, self.net_, self.word_size_ = fitted.lexicon, fitted.net, fitted.word_size
        self.history_, self.best_epoch_ = fitted.progress.history, fitted.progress.best_epoch
        self.data_ = fitted.data
        return self

    @property
    def labels_(self) -> Labels:
        """The tags, outside and inside."""
        return self._fitted().lexicon.labels

    @property
    def classes_(self) -> tuple[str, ...]:
        """The tags that `predict_proba` tells of, in its order."""
        return self.labels_.classes

    def predict(self, X: Any) -> list[list[str]]:
        """The tags of each sentence, in the scheme of the training data; none for an empty one."""
        return [one.tags for one in self.tag(X)]

    def tag(self, X: Any, *, confidence: bool = False, n_best: int = 0) -> list[Tagged]:
        """Each sentence with its tags.

        `confidence` adds the probability of each tag over all sequences, `n_best` the likeliest
        sequences with their probabilities (fewer where there are no more).

        Raises `DataError` for n-best sequences of a model without a CRF.
        """
        wanted = Wanted(confidence=confidence, n_best=n_best)
        return [one for one, _ in self._fitted().run(self.read(X), wanted)]

    def stream(
        self, sentences: Iterable[Any], *, confidence: bool = False, n_best: int = 0
    ) -> Iterator[Tagged]:
        """The same for sentences that come one by one, in memory that does not grow.

        Each is a list of tokens, or a mapping of columns where the model reads further ones. They
        are taken some 20,000 tokens at a time.
        """
        wanted = Wanted(confidence=confidence, n_best=n_best)
        return self._fitted().stream(sentences, self.layout, wanted)

    def predict_proba(self, X: Any) -> list[np.ndarray]:
        """The probability of each of `classes_` at each token: for every sentence `[n, C]`."""
        wanted = Wanted(marginals=True)
        return [found for _, found in self._fitted().run(self.read(X), wanted)]

    def evaluate(self, X: Any, y: Any = None) -> TagEvaluation:
        """Scores on sentences whose tags are known: of chunks and of tokens, of types and words."""
        decoder = self._fitted()
        sentences = self.read(X, y, target=True)
        predicted = [one.tags for one, _ in decoder.run(sentences, Wanted())]
        return compare(sentences, predicted, decoder.lexicon)

    def score(self, X: Any, y: Any = None) -> float:
        """F1 of chunks by conlleval's rules where tags are chunks, else the accuracy of tokens."""
        return self.evaluate(X, y).score

    def read(self, X: Any, y: Any = None, *, target: bool = False) -> Sentences:
        """What is given as sentences, by this tagger's columns."""
        return as_sentences(X, self.layout, y, target=target, missing=self.missing)

    @property
    def layout(self) -> Layout:
        """The columns that are read and learned."""
        return Layout.of(vars(self))

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder: weights, configuration, vocabularies and card, with `scores`."""
        lexicon = self._fitted().lexicon
        vectors = None if self.vectors is None else str(self.vectors)
        settings = {**self.get_params(), "vectors": vectors}
        config = {
            "settings": settings,
            "labels": lexicon.labels.as_json(),
            "word_size": self.word_size_,
            "words": len(lexicon.words),
            "features": len(lexicon.keys),
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }
        vocabularies = {"words": lexicon.words, "characters": lexicon.characters}
        vocabularies |= {f"column-{n}": v for n, v in enumerate(lexicon.columns.values())}
        files = {
            f"{name}.json": vocabulary.to_json().encode("utf-8", "surrogatepass")
            for name, vocabulary in vocabularies.items()
        }
        keys = {"keys": torch.from_numpy(lexicon.keys.view(np.int64))}
        files["features.safetensors"] = safetensors.torch.save(keys)
        save_model(Path(path), FORMAT, config, self.net_, model_card(config, scores), files)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Tagger:
        """The tagger that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        with whole(folder):
            model = cls(**tuples(config["settings"]))
            labels = Labels.from_json(config["labels"])
            model.word_size_ = int(config["word_size"])
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            model.data_ = config["data"]
            model.lexicon_ = _load_lexicon(folder, model, labels)
            model.net_ = new_network(model.get_params(), model.lexicon_, model.word_size_)
        load_weights(folder, model.net_)
        model.net_.eval()
        return model

    def _fitted(self) -> Decoder:
        if not hasattr(self, "net_"):
            raise ModelError("this Tagger has no model yet; call fit, or Tagger.load")
        return Decoder(self.net_, self.lexicon_)


def _load_lexicon(folder: Path, model: Tagger, labels: Labels) -> Lexicon:
    columns = {
        name: Vocabulary.load(folder / f"column-{n}.json") for n, name in enumerate(model.inputs)
    }
    file = folder / "features.safetensors"
    try:
        keys = safetensors.torch.load(file.read_bytes())["keys"].numpy().view(np.uint64)
    except (OSError, SafetensorError, KeyError) as error:
        raise ModelError(
            f"{file}: missing or damaged ({error}); train or copy the model again"
        ) from error
    return Lexicon(
        normal=Normal(model.lower, model.digits),
        words=Vocabulary.load(folder / "words.json"),
        characters=Vocabulary.load(folder / "characters.json"),
        columns=columns,
        labels=labels,
        keys=keys,
        kinds=tuple(model.features),
    )
