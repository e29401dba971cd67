"""The tagger's settings, checked before anything is read."""

from __future__ import annotations

import os
from typing import Any

from holdfast.errors import DataError
from holdfast.nn.tag_schemes import SCHEMES
from holdfast.tasks import checking
from holdfast.tasks.tag.characters import KINDS as CHARACTERS
from holdfast.tasks.tag.features import KINDS as FEATURES
from holdfast.tasks.tag.labels import AUTO
from holdfast.tasks.tag.sentences import Layout
from holdfast.tasks.trainer import SCHEDULES

COUNTS = (
    "min_count",
    "word_size",
    "character_size",
    "character_units",
    "input_size",
    "feature_count",
    "hidden_size",
    "batch_size",
    "max_epochs",
    "patience",
)
SHARES = ("dropout", "feature_dropout", "averaging")
CHOICES = {
    "output": ("crf", "softmax"),
    "characters": (*CHARACTERS, None),
    "scheme": (AUTO, None, *SCHEMES),
    "schedule": SCHEDULES,
}
# What may differ between a run and its continuation.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    checking.check_counts(settings, *COUNTS)
    checking.check_counts(settings, "num_layers", "seed", least=0)
    checking.check_shares(settings, *SHARES)
    checking.check_choices(settings, CHOICES)
    for name in settings["features"]:
        checking.check_choice("features", name, FEATURES)
    if "inputs" in settings["features"] and not settings["inputs"]:
        raise DataError('features has "inputs", but there are no inputs; name columns in inputs=')
    if not settings["num_layers"] and not settings["features"]:
        raise DataError("num_layers=0 leaves features alone; name some in features=")
    checking.check_validation(settings, "sentences")
    checking.check_positive(settings, "learning_rate")
    checking.check_not_negative(settings, "rare", "weight_decay")
    checking.check_device(settings)
    vectors = settings["vectors"]
    if vectors is not None and not isinstance(vectors, (str, os.PathLike)):
        raise DataError(f"vectors={vectors!r:.60}; expected the path of a file, or None")
    Layout.of(settings)
