"""The classifier's settings, checked before anything is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields as fields_of
from typing import Any

import torch

from holdfast.data.examples import Fields
from holdfast.errors import DataError, did_you_mean
from holdfast.nn import checks
from holdfast.nn.options import Options
from holdfast.tasks import checking
from holdfast.tasks.classify.pooling import POOLINGS
from holdfast.tasks.classify.tokens import KINDS
from holdfast.tasks.classify.training import MONITORS

COUNTS = (
    "embedding_size",
    "hidden_size",
    "num_layers",
    "min_count",
    "vocabulary_size",
    "batch_size",
    "max_epochs",
    "patience",
    "members",
)
SHARES = (
    "word_dropout",
    "embedding_dropout",
    "dropout",
    "recurrent_dropout",
    "label_smoothing",
    "averaging",
)
MISSING = ("error", "mask")
CHOICES = {
    "tokens": KINDS,
    "missing": MISSING,
    "monitor": MONITORS,
    "schedule": ("constant", "cosine", "linear", "plateau"),
}
# Options of a layer that are settings of their own here, or that the pooling cannot read.
NAMED = ("input_dropout", "recurrent_dropout", "merge")
# What may differ between a run and its continuation.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    checking.check_counts(settings, *COUNTS)
    checking.check_counts(settings, "seed", least=0)
    if settings["max_tokens"] is not None:
        checking.check_counts(settings, "max_tokens")
    checking.check_shares(settings, *SHARES)
    checking.check_choices(settings, CHOICES)
    for way in poolings(settings):
        checking.check_choice("pooling", way, POOLINGS)
    if not poolings(settings):
        raise DataError(f"pooling=(); expected one or more of {', '.join(map(repr, POOLINGS))}")
    checking.check_validation(settings)
    checking.check_positive(settings, "learning_rate")
    checking.check_not_negative(settings, "weight_decay", "gradient_clip")
    threshold = settings["threshold"]
    if threshold != "best" and not (isinstance(threshold, (int, float)) and 0 < threshold < 1):
        raise DataError(f'threshold={threshold!r}; expected a number from 0 to 1, or "best"')
    _check_layer(settings)


def _check_layer(settings: dict[str, Any]) -> None:
    """Refuse cells, options and devices that there are none of."""
    options = settings["options"] or {}
    known = [one.name for one in fields_of(Options) if one.name not in NAMED]
    for name in options:
        if name not in known:
            raise DataError(
                f"options: {name!r} is unknown{did_you_mean(name, known)}; there are "
                f"{', '.join(known)}"
            )
    try:
        json.dumps(options)
        Options(**options)
        checks.find_cell(settings["cell"])
        torch.empty(0, device=settings["device"])
    except Exception as error:  # of many kinds, all of which say what is wrong
        reason = str(error).splitlines()[0]
        raise DataError(f"the network cannot be made: {reason}") from error


def poolings(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The ways of pooling, also where one was given as a text."""
    given = settings["pooling"]
    return (given,) if isinstance(given, str) else tuple(given)


def fields(settings: Mapping[str, Any]) -> Fields:
    """What the columns of tables are called."""
    label = settings["label"]
    return Fields(
        settings["text"],
        label if isinstance(label, str) else tuple(label),
        settings["id_column"],
        settings["time_column"],
        tuple(settings["values"]),
        settings["encoding"],
    )
