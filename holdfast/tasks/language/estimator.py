"""`LanguageModel`: from a text to what comes next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import DataError, ModelError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.language.card import model_card
from holdfast.tasks.language.fitting import fit_network, new_network
from holdfast.tasks.language.generating import How, drawn
from holdfast.tasks.language.reading import read_parts, read_text
from holdfast.tasks.language.scoring import (
    Cache,
    Dynamic,
    Score,
    adapted_losses,
    gradient_squares,
    stream_losses,
)
from holdfast.tasks.language.settings import check_settings, preset
from holdfast.tasks.language.starting import Start, check_start
from holdfast.tasks.language.tokens import VOCABULARY, Words, check_known, load_tokens
from holdfast.tasks.model_folder import load_config, load_weights, save_model, whole
from holdfast.tasks.parameters import Estimator, as_model, tuples

FORMAT = "holdfast.language"


class LanguageModel(Estimator):
    """Learn from a text what comes next: score texts by it, and write more of them.

    >>> from holdfast.tasks import LanguageModel
    >>> text = "the cat sat on the mat\\n" * 40
    >>> model = LanguageModel(hidden_size=16, batch_size=4, steps=20, max_epochs=2).fit(text)
    >>> model.evaluate(["the cat"]).level
    'character'
    >>> len("".join(model.generate("the ", length=10, seed=1)))
    10

    `level` is ``"character"``, ``"word"`` or ``"subword"``. The vocabulary holds the
    `vocabulary_size` most frequent tokens of those that occur `min_count` times; what is not in it
    is one token, ``<unk>``. Words: `split` ``"marks"`` (punctuation is apart), ``"spaces"`` (as in
    files of the Penn Treebank) or ``"auto"`` (spaces for a folder); `ends` ``"lines"`` or
    ``"paragraphs"`` (for books, whose lines are broken); `lower` makes letters small. `subwords` is
    ``"bpe"`` or ``"unigram"``.

    `cell` is any cell of the catalogue, or ``"persistent"`` (`holdfast.nn.PersistentLSTM`), with
    `options` of the layer. `tied` has the output share the vectors of the tokens; `cutoffs` (such
    as ``[2000, 10000]``) make the output an adaptive softmax (Grave et al. 2017). `init_scale`
    draws all weights from U(-s, s).

    Dropout is that of Merity, Keskar & Socher 2018: `dropout_embedding` of whole tokens,
    `dropout_input`, `dropout` between layers, `dropout_output`, `weight_dropout` of the recurrent
    matrix; `variational` keeps a mask for all steps of a piece. `ar` and `tar` are what outputs
    cost, and their changes.

    The text is one stream in `batch_size` rows; gradients flow through pieces of `steps` tokens
    (with `random_steps` about as many), states through all of them. `optimizer` ``"sgd"`` with
    `averaging` ``"triggered"`` is NT-ASGD; see `holdfast.tasks.trainer.Plan` for it and for
    `schedule`, `warmup`, `decay`, `decay_after` and `trigger`. `validation` is the share of the
    text's end that is watched. `seed` alone decides every random number. `precision`
    ``"bfloat16"`` multiplies in bfloat16 in training, about one and a half times as fast on a
    processor that can.

    Fitted attributes: `tokens_`, `net_`, `history_` (losses by epoch, in nats a token),
    `best_epoch_`, `data_`.
    """

    def __init__(
        self,
        level: str = "character",
        *,
        vocabulary_size: int | None = None,
        min_count: int = 1,
        split: str = "auto",
        ends: str = "lines",
        lower: bool = False,
        subwords: str = "bpe",
        cell: str = "lstm",
        hidden_size: int = 256,
        num_layers: int = 1,
        embedding_size: int | None = None,
        tied: bool = False,
        cutoffs: tuple[int, ...] | list[int] = (),
        options: dict[str, Any] | None = None,
        init_scale: float | None = None,
        forget_bias: float | None = None,
        dropout: float = 0.0,
        dropout_embedding: float = 0.0,
        dropout_input: float = 0.0,
        dropout_output: float = 0.0,
        weight_dropout: float = 0.0,
        variational: bool = True,
        ar: float = 0.0,
        tar: float = 0.0,
        batch_size: int = 32,
        steps: int = 100,
        random_steps: bool = False,
        optimizer: str = "adam",
        learning_rate: float = 3e-3,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        schedule: str = "constant",
        warmup: float = 0.0,
        decay: float = 4.0,
        decay_after: int = 0,
        gradient_clip: float = 1.0,
        averaging: float | str = 0.0,
        trigger: int = 5,
        max_epochs: int = 10,
        patience: int = 10,
        validation: float = 0.1,
        encoding: str = "utf-8",
        seed: int = 0,
        device: str = "cpu",
        precision: str = "float32",
    ) -> None:
        self.level = level
        self.vocabulary_size = vocabulary_size
        self.min_count = min_count
        self.split = split
        self.ends = ends
        self.lower = lower
        self.subwords = subwords
        self.cell = cell
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.embedding_size = embedding_size
        self.tied = tied
        self.cutoffs = cutoffs
        self.options = options
        self.init_scale = init_scale
        self.forget_bias = forget_bias
        self.dropout = dropout
        self.dropout_embedding = dropout_embedding
        self.dropout_input = dropout_input
        self.dropout_output = dropout_output
        self.weight_dropout = weight_dropout
        self.variational = variational
        self.ar = ar
        self.tar = tar
        self.batch_size = batch_size
        self.steps = steps
        self.random_steps = random_steps
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.betas = betas
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.warmup = warmup
        self.decay = decay
        self.decay_after = decay_after
        self.gradient_clip = gradient_clip
        self.averaging = averaging
        self.trigger = trigger
        self.max_epochs = max_epochs
        self.patience = patience
        self.validation = validation
        self.encoding = encoding
        self.seed = seed
        self.device = device
        self.precision = precision

    @classmethod
    def preset(cls, name: str, **changes: Any) -> LanguageModel:
        """A model with the settings of a preset, some of them changed.

        >>> LanguageModel.preset("awd", max_epochs=40).num_layers
        3

        Those that there are: `holdfast.tasks.language.settings.PRESETS`.
        """
        return cls(**{**preset(name), **changes})

    def fit(
        self,
        X: Any,
        y: None = None,
        *,
        valid: Any = None,
        start: LanguageModel | str | os.PathLike[str] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        resume: bool = False,
        report: Callable[[Progress], None] | None = None,
    ) -> LanguageModel:
        """Train on a text and return self.

        X is the path of a text file (also .gz, .xz), a folder with ``train.txt`` and ``valid.txt``
        in the form of the Penn Treebank, a text (a string with a line end in it), or a list of
        texts. `valid`, of the same kinds, is watched instead of the end of X. With
        `start`, a fitted model or its folder, training begins with its weights and its vocabulary:
        to go on with another text, or with other settings of the training. With `checkpoint`,
        every epoch is written to that file; with `resume`, training goes on from it (from the start
        when it is not there) to the same result as without the interruption. `report` is called
        after every epoch with the `Progress`.

        Raises `DataError` for texts that cannot be used and a `start` of another shape,
        `ModelError` for a checkpoint that does not fit or a full disk.
        """
        settings = self.get_params()
        check_settings(settings)
        begin = None if start is None else self._begin(as_model(start, LanguageModel.load))
        parts = read_parts(X, self.validation, self.encoding, valid)
        file = None if checkpoint is None else Path(checkpoint)
        fitted = fit_network(settings, parts, Run(file, resume, report), begin)
        self.tokens_, self.net_, self.data_ = fitted.tokens, fitted.net.eval(), fitted.data
        self.history_ = fitted.progress.history
        self.best_epoch_ = fitted.progress.best_epoch
        return self

    def evaluate(
        self,
        X: Any,
        *,
        after: Any = None,
        rows: int = 1,
        cache: Cache | int | None = None,
        dynamic: Dynamic | bool = False,
        statistics: Any = None,
    ) -> Score:
        """How well the model knows a text: every token once, with the state of all before it.

        X is as in `fit`; of a folder it is ``test.txt``. `after` is a text that X follows: it is
        read, too, and not scored. With several `rows` the text is read in as many parts side by
        side, which is faster, and begins anew with each. `cache` (a `Cache`, or its size) and
        `dynamic` (a `Dynamic`, or True for its defaults) adapt to what has been read;
        `statistics` is a text from which the sizes of gradients are taken for the latter.

        Raises `DataError` for a text that cannot be used.
        """
        self._check_fitted()
        text = read_text(X, self.encoding).text
        stream, before = self.tokens_.encode(text), self._before(after)
        if not 1 <= rows <= len(stream):
            raise DataError(f"rows={rows!r}; expected a whole number from 1 to {len(stream)}")
        if rows > 1 and (len(before) or cache or dynamic):
            raise DataError(
                f"rows={rows} begin anew in several places, and do not go with after, a cache or "
                "dynamic evaluation; leave rows out"
            )
        whole = np.concatenate([before, stream])
        losses = self._losses(whole, rows, cache, dynamic, statistics)
        losses = losses[len(before) :].numpy().astype(np.float64)
        unknown = int((stream == self.tokens_.unknown).sum())
        return Score(losses, len(text), unknown, self.level)

    def read(self, X: Any, **options: Any) -> tuple[list[str], Score]:
        """The tokens of a text, each as it is written, and the score of `evaluate`."""
        text = read_text(X, self.encoding)
        score = self.evaluate(text, **options)
        return list(self._pieces(iter(self.tokens_.encode(text.text)), "")), score

    def log_probs(self, X: Any, **options: Any) -> np.ndarray:
        """The log-probability of each token, (n,), in nats; options as of `evaluate`."""
        return -self.evaluate(X, **options).losses

    def score(self, X: Any, y: None = None) -> float:
        """The mean log-probability of a text's tokens, in nats; higher is better."""
        return -self.evaluate(X).nats

    def predict(self, X: Sequence[str]) -> list[str]:
        """The likeliest token after each of these texts.

        Raises `DataError` for what is not a list of texts, and for tokens that training never met.
        """
        if isinstance(X, str):
            raise DataError("predict takes a list of texts, got one str; put it into a list")
        return [next(self.generate(text, 1, temperature=0)) for text in X]

    def generate(
        self,
        prefix: str = "",
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """`length` tokens that follow a text, each as soon as it is drawn.

        Without a `prefix` a line begins. `temperature` below 1 sharpens, 0 takes the likeliest
        token; `top_k` and `top_p` leave only the likeliest (Holtzman et al. 2020). ``<unk>`` is
        never drawn.

        Raises `DataError` for tokens of the prefix that training never met, and for settings out of
        range, before the first token is asked for.
        """
        how = How(temperature, top_k, top_p, seed)
        return self._pieces(self._drawn(prefix, length, 1, how), prefix)

    def sample(
        self,
        n: int = 1,
        prefix: str = "",
        length: int = 500,
        *,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> list[str]:
        """`n` texts of `length` tokens that follow a text, drawn side by side; see `generate`."""
        if not isinstance(n, int) or n < 1:
            raise DataError(f"n={n!r}; expected a whole number of texts from 1 on")
        how = How(temperature, top_k, top_p, seed)
        rows = zip(*(t.tolist() for t in self._drawn(prefix, length, n, how)), strict=True)
        return ["".join(self._pieces(iter(row), prefix)) for row in rows]

    def save(self, path: str | os.PathLike[str], scores: str = "") -> None:
        """Write the model folder: weights, configuration, vocabulary and card, with `scores`."""
        self._check_fitted()
        config = {
            "settings": self.get_params(),
            "data": self.data_,
            "history": self.history_,
            "best_epoch": self.best_epoch_,
        }
        if isinstance(self.tokens_, Words):
            config["split"] = self.tokens_.split
        more = {VOCABULARY: self.tokens_.as_bytes()}
        save_model(Path(path), FORMAT, config, self.net_, model_card(config, scores), more)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> LanguageModel:
        """The model that `save` wrote to the folder `path`.

        Raises `ModelError` when it is no model folder, damaged, or from a newer version.
        """
        folder = Path(path)
        config = load_config(folder, FORMAT)
        with whole(folder):
            settings = config["settings"]
            model = cls(**tuples(settings))
            check_settings(model.get_params())
            model.data_ = config["data"]
            model.history_, model.best_epoch_ = config["history"], config["best_epoch"]
            facts = {**settings, "split": config.get("split")}
            model.tokens_ = load_tokens(folder, model.level, facts)
            model.net_ = new_network(model.get_params(), len(model.tokens_))
        load_weights(folder, model.net_)
        model.net_.eval()
        return model

    def _check_fitted(self) -> None:
        if not hasattr(self, "net_"):
            raise ModelError("this LanguageModel has no model yet; call fit, or LanguageModel.load")

    def _begin(self, start: LanguageModel) -> Start:
        start._check_fitted()
        check_start(start.get_params(), self.get_params())
        return Start(start.tokens_, start.net_)

    def _before(self, after: Any) -> np.ndarray:
        if after is None:
            return np.zeros(0, dtype=np.int64)
        return self.tokens_.encode(read_text(after, self.encoding).text)

    def _losses(
        self,
        stream: np.ndarray,
        rows: int,
        cache: Cache | int | None,
        dynamic: Dynamic | bool,
        statistics: Any,
    ) -> Any:
        """Minus the log-probability of every token of a stream."""
        end = self.tokens_.end
        if not cache and not dynamic:
            return stream_losses(self.net_, stream, end, rows)
        how = Cache(size=cache) if isinstance(cache, int) else cache
        learn = Dynamic() if dynamic is True else dynamic or None
        squares = None
        if learn is not None and statistics is not None:
            squares = gradient_squares(self.net_, self._before(statistics), end, learn.steps)
        return adapted_losses(self.net_, stream, end, how or None, learn, squares)

    def _drawn(self, prefix: str, length: int, rows: int, how: How) -> Iterator[Any]:
        self._check_fitted()
        if not isinstance(length, int) or length < 1:
            raise DataError(f"length={length!r}; expected a whole number of tokens from 1 on")
        check_known(self.tokens_, prefix, "the prefix")
        stream = self.tokens_.encode(prefix)
        tokens = self.tokens_
        return drawn(self.net_, stream, tokens.end, length, rows, how, tokens.unknown)

    def _pieces(self, numbers: Iterator[Any], prefix: str) -> Iterator[str]:
        read = self.tokens_.encode(prefix)
        before = int(read[-1]) if len(read) else self.tokens_.end
        for number in numbers:
            yield self.tokens_.piece(int(number), before)
            before = int(number)
