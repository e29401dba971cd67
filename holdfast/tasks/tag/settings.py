"""The tagger's settings, checked before anything is read."""

from __future__ import annotations

import os
from typing import Any

import torch

from holdfast.errors import DataError, did_you_mean
from holdfast.nn.tag_schemes import SCHEMES
from holdfast.tasks.tag.characters import KINDS as CHARACTERS
from holdfast.tasks.tag.features import KINDS as FEATURES
from holdfast.tasks.tag.labels import AUTO
from holdfast.tasks.tag.sentences import Layout
from holdfast.tasks.trainer import SCHEDULES, Plan

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
OUTPUTS = ("crf", "softmax")
# What may differ between a run and its continuation.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    for name in COUNTS:
        _check_count(name, settings[name], 1)
    _check_count("num_layers", settings["num_layers"], 0)
    _check_count("seed", settings["seed"], 0)
    for name in SHARES:
        if not 0 <= settings[name] < 1:
            raise DataError(f"{name}={settings[name]!r}; expected a share from 0 to below 1")
    schemes = (AUTO, None, *SCHEMES)
    _check_choice("output", settings["output"], OUTPUTS)
    _check_choice("characters", settings["characters"], (*CHARACTERS, None))
    _check_choice("scheme", settings["scheme"], schemes)
    _check_choice("schedule", settings["schedule"], SCHEDULES)
    for name in settings["features"]:
        _check_choice("features", name, FEATURES)
    if "inputs" in settings["features"] and not settings["inputs"]:
        raise DataError('features has "inputs", but there are no inputs; name columns in inputs=')
    if not settings["num_layers"] and not settings["features"]:
        raise DataError("num_layers=0 leaves features alone; name some in features=")
    validation = settings["validation"]
    if not (0 < validation < 0.9 or (isinstance(validation, int) and validation >= 1)):
        raise DataError(
            f"validation={validation!r}; expected a share between 0 and 0.9, or a number of "
            "sentences"
        )
    for name, low in (("learning_rate", 0), ("rare", -1), ("weight_decay", -1)):
        if not settings[name] > low:
            raise DataError(f"{name}={settings[name]!r}; expected a number above {max(low, 0)}")
    vectors = settings["vectors"]
    if vectors is not None and not isinstance(vectors, (str, os.PathLike)):
        raise DataError(f"vectors={vectors!r:.60}; expected the path of a file, or None")
    Layout.of(settings)
    _check_device(settings["device"])


def plan_of(settings: dict[str, Any]) -> Plan:
    """How to train."""
    names = [name for name in Plan.__dataclass_fields__ if name in settings]
    return Plan(**{name: settings[name] for name in names})


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise DataError(f"{name}={value!r}; expected a whole number from {least} on")


def _check_choice(name: str, value: Any, known: tuple[Any, ...]) -> None:
    if value not in known:
        raise DataError(
            f"{name}={value!r}; expected one of {', '.join(map(repr, known))}"
            f"{did_you_mean(str(value), [one for one in known if one])}"
        )


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"device={device!r} cannot be used here: {reason}") from error
