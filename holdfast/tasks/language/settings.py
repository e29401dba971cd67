"""The settings of a language model, checked before anything is read, and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.errors import CellError, DataError, did_you_mean
from holdfast.nn.checks import find_cell
from holdfast.tasks import checking
from holdfast.tasks.average import MEAN, TRIGGERED
from holdfast.tasks.language.net import PERSISTENT, SMALLER, Dropouts, Shape
from holdfast.tasks.language.tokens import ENDS, LEVELS, SPLITS
from holdfast.tasks.trainer import OPTIMIZERS, PRECISIONS, SCHEDULES

COUNTS = (
    "hidden_size",
    "num_layers",
    "batch_size",
    "steps",
    "max_epochs",
    "patience",
    "min_count",
    "trigger",
)
SHARES = (
    "dropout",
    "dropout_embedding",
    "dropout_input",
    "dropout_output",
    "weight_dropout",
)
NOT_NEGATIVE = ("ar", "tar", "weight_decay", "gradient_clip", "warmup", "decay_after")
KINDS = {
    "level": LEVELS,
    "split": SPLITS,
    "ends": ENDS,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "precision": PRECISIONS,
}
FREE_TO_CHANGE = ("max_epochs", "patience", "device")

_CHARACTERS: dict[str, Any] = {
    "level": "character",
    "embedding_size": 64,
    "forget_bias": 1.0,
    "steps": 100,
    "batch_size": 32,
    "learning_rate": 3e-3,
    "schedule": "linear",
    "warmup": 0.2,
    "averaging": 0.998,
}
_WORDS: dict[str, Any] = {
    "level": "word",
    "vocabulary_size": 10_000,
    "steps": 35,
    "batch_size": 20,
    "optimizer": "sgd",
    "num_layers": 2,
}
_AWD: dict[str, Any] = {
    **_WORDS,
    "hidden_size": 1150,
    "num_layers": 3,
    "embedding_size": 400,
    "tied": True,
    "steps": 70,
    "random_steps": True,
    "learning_rate": 30.0,
    "weight_decay": 1.2e-6,
    "gradient_clip": 0.25,
    "averaging": TRIGGERED,
    "trigger": 5,
    "dropout": 0.25,
    "dropout_embedding": 0.1,
    "dropout_input": 0.4,
    "dropout_output": 0.4,
    "weight_dropout": 0.5,
    "ar": 2.0,
    "tar": 1.0,
    "max_epochs": 500,
    "patience": 500,
}
# The papers sum the loss over the steps of a piece, here it is their mean: learning rates are
# theirs times the steps, and bounds of gradients theirs divided by them.
PRESETS: dict[str, dict[str, Any]] = {
    "char-small": {**_CHARACTERS, "hidden_size": 256, "max_epochs": 10},
    "char-medium": {
        **_CHARACTERS,
        "hidden_size": 512,
        "dropout_output": 0.3,
        "weight_dropout": 0.3,
        "variational": False,
        "max_epochs": 20,
    },
    "char-large": {
        **_CHARACTERS,
        "hidden_size": 512,
        "num_layers": 2,
        "dropout": 0.3,
        "dropout_output": 0.3,
        "weight_dropout": 0.25,
        "variational": False,
        "max_epochs": 16,
    },
    "word-small": {
        "level": "word",
        "vocabulary_size": 10_000,
        "hidden_size": 256,
        "tied": True,
        "forget_bias": 1.0,
        "steps": 35,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "schedule": "linear",
        "averaging": 0.998,
        "dropout_input": 0.3,
        "dropout_output": 0.4,
        "weight_dropout": 0.3,
        "max_epochs": 10,
    },
    "zaremba-small": {
        **_WORDS,
        "hidden_size": 200,
        "steps": 20,
        "init_scale": 0.1,
        "learning_rate": 20.0,
        "gradient_clip": 0.25,
        "schedule": "decay",
        "decay": 2.0,
        "decay_after": 3,
        "max_epochs": 13,
        "variational": False,
    },
    "zaremba-medium": {
        **_WORDS,
        "hidden_size": 650,
        "init_scale": 0.05,
        "learning_rate": 35.0,
        "gradient_clip": 5 / 35,
        "schedule": "decay",
        "decay": 1.2,
        "decay_after": 5,
        "max_epochs": 39,
        "dropout": 0.5,
        "dropout_input": 0.5,
        "dropout_output": 0.5,
        "variational": False,
    },
    "awd": _AWD,
}


def preset(name: str) -> dict[str, Any]:
    """The settings of a preset.

    >>> preset("char-small")["hidden_size"]
    256

    Errors: `DataError` for an unknown name.
    """
    if name not in PRESETS:
        raise DataError(
            f"there is no preset {name!r}{did_you_mean(name, PRESETS)}; there are "
            f"{', '.join(PRESETS)}"
        )
    return dict(PRESETS[name])


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    checking.check_counts(settings, *COUNTS)
    checking.check_counts(settings, "seed", least=0)
    checking.check_choices(settings, KINDS)
    checking.check_shares(settings, *SHARES)
    checking.check_not_negative(settings, *NOT_NEGATIVE)
    checking.check_positive(settings, "learning_rate")
    checking.check_validation(settings)
    checking.check_device(settings)
    if not settings["decay"] >= 1:
        raise DataError(f"decay={settings['decay']!r}; expected what a rate is divided by, from 1")
    _check_averaging(settings["averaging"])
    _check_vocabulary(settings)
    _check_cell(settings["cell"])


def _check_averaging(value: Any) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value not in (TRIGGERED, MEAN) and not (number and 0 <= value < 1):
        raise DataError(
            f'averaging={value!r}; expected a decay from 0 to below 1, "{TRIGGERED}" (NT-ASGD) or '
            f'"{MEAN}"'
        )


def _check_vocabulary(settings: dict[str, Any]) -> None:
    size = settings["vocabulary_size"]
    if size is not None and not (isinstance(size, int) and size >= 3):
        raise DataError(f"vocabulary_size={size!r}; expected None or a whole number from 3 on")
    cutoffs = tuple(settings["cutoffs"])
    if cutoffs and (list(cutoffs) != sorted(set(cutoffs)) or cutoffs[0] < 1):
        raise DataError(f"cutoffs={settings['cutoffs']!r}; expected rising numbers of tokens")
    if cutoffs and settings["tied"]:
        raise DataError(
            "tied=True and cutoffs do not go together: the parts of an adaptive softmax have "
            "vectors of their own; leave one of them out"
        )
    width = settings["embedding_size"]
    if width is not None and not (isinstance(width, int) and width >= 1):
        raise DataError(f"embedding_size={width!r}; expected None or a whole number from 1 on")


def _check_cell(name: Any) -> None:
    if name == PERSISTENT:
        return
    try:
        found = find_cell(name)
    except CellError as error:
        raise DataError(f'cell: {error}; or "{PERSISTENT}"') from error
    beside = [name for name in found.inputs if name != "x"]
    if beside:
        raise DataError(f"cell={name!r} wants {', '.join(beside)} beside a text; take another")


def shape_of(settings: Mapping[str, Any], tokens: int) -> Shape:
    """What the network looks like, for so many tokens.

    Errors: `DataError` for cutoffs that the tokens do not reach.
    """
    cutoffs = tuple(settings["cutoffs"])
    if cutoffs and cutoffs[-1] >= tokens:
        raise DataError(
            f"cutoffs={list(cutoffs)}: there are only {tokens} tokens; take smaller numbers, or "
            "none"
        )
    width = settings["embedding_size"] if settings["tied"] else settings["hidden_size"]
    if cutoffs and width < SMALLER ** len(cutoffs):
        raise DataError(
            f"cutoffs={list(cutoffs)}: the vectors of the last part would have no number, since "
            f"each part has {SMALLER:g} times less than the one before, from {width} on; take "
            "fewer cutoffs or more units"
        )
    drops = Dropouts(
        embedding=settings["dropout_embedding"],
        input=settings["dropout_input"],
        between=settings["dropout"],
        output=settings["dropout_output"],
        weight=settings["weight_dropout"],
        variational=settings["variational"],
    )
    names = ("cell", "hidden_size", "num_layers", "embedding_size", "tied", "init_scale")
    return Shape(
        tokens=tokens,
        **{name: settings[name] for name in names},
        forget_bias=settings["forget_bias"],
        cutoffs=cutoffs,
        dropouts=drops,
        options=dict(settings["options"] or {}),
    )
