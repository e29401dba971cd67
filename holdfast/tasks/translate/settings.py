"""The translator's settings, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from holdfast.data.text.subwords import KINDS
from holdfast.errors import DataError, did_you_mean
from holdfast.nn.beam import PENALTIES, Beam
from holdfast.nn.bridge import KINDS as BRIDGES
from holdfast.nn.scores import SCORES
from holdfast.tasks.trainer import Plan
from holdfast.tasks.translate.codec import BEGIN, LEVELS, PAD, UNK

COUNTS = (
    "vocabulary",
    "embedding_size",
    "hidden_size",
    "num_layers",
    "batch_size",
    "max_epochs",
    "patience",
    "max_length",
    "members",
    "beam",
)
SHARES = ("dropout", "label_smoothing", "averaging")
NOT_BELOW_ZERO = (
    "weight_decay",
    "warmup",
    "coverage_loss",
    "gradient_clip",
    "alpha",
    "coverage_penalty",
)
SCHEDULES = ("constant", "cosine", "linear", "plateau")
UNKNOWNS = ("copy", "never", "keep")
WATCHED = ("loss", "bleu")
CHOICES = {
    "level": LEVELS,
    "subwords": KINDS,
    "attention": (*SCORES, None),
    "attend": ("after", "before"),
    "bridge": (*BRIDGES, None),
    "schedule": SCHEDULES,
    "watch": WATCHED,
    "length_penalty": PENALTIES,
    "unknown": UNKNOWNS,
}
# What may differ between a run and its continuation, and what decides nothing about training.
FREE_TO_CHANGE = (
    "max_epochs",
    "patience",
    "device",
    "source_column",
    "target_column",
    "encoding",
    "beam",
    "length_penalty",
    "alpha",
    "coverage_penalty",
    "unknown",
)


def check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    for name in COUNTS:
        _check_count(name, settings[name])
    for name in ("min_count", "batch_tokens"):
        if settings[name] is not None:
            _check_count(name, settings[name])
    for name, known in CHOICES.items():
        value = settings[name]
        if value not in known:
            raise DataError(
                f"{name}={value!r}; expected one of {', '.join(map(repr, known))}"
                f"{did_you_mean(str(value), [one for one in known if one])}"
            )
    for name in SHARES:
        if not 0 <= settings[name] < 1:
            raise DataError(f"{name}={settings[name]!r}; expected a share from 0 to below 1")
    for name in NOT_BELOW_ZERO:
        if not settings[name] >= 0:
            raise DataError(f"{name}={settings[name]!r}; expected 0 or a number above")
    if not 0 < settings["validation"] < 0.9:
        raise DataError(
            f"validation={settings['validation']!r}; expected a share between 0 and 0.9"
        )
    if not 0 <= settings["teacher_forcing"] <= 1:
        raise DataError(
            f"teacher_forcing={settings['teacher_forcing']!r}; expected a share from 0 to 1"
        )
    if not settings["learning_rate"] > 0:
        raise DataError(f"learning_rate={settings['learning_rate']!r}; expected a number above 0")
    if settings["seed"] < 0:
        raise DataError(f"seed={settings['seed']!r}; expected a whole number from 0 on")
    try:
        torch.empty(0, device=settings["device"])
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"device={settings['device']!r} cannot be used here: {reason}") from error


def plan_of(settings: Mapping[str, Any]) -> Plan:
    """How to train."""
    values = {name: settings[name] for name in Plan.__dataclass_fields__ if name in settings}
    return Plan(**values)


def least_count(settings: Mapping[str, Any]) -> int:
    """How often a word must occur to have a number of its own.

    Unless it is given, twice: what stands for the rare words is learned from words that are rare.
    """
    if settings["min_count"] is not None:
        return settings["min_count"]
    return 2 if settings["level"] == "words" else 1


def never_said(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Pieces that no target may hold."""
    copies = settings["unknown"] == "copy" and settings["attention"] is not None
    learned = settings["level"] != "subwords" and (copies or settings["unknown"] == "keep")
    return (PAD, BEGIN) if learned else (PAD, BEGIN, UNK)


def beam_of(settings: Mapping[str, Any], n_best: int = 1, width: int | None = None) -> Beam:
    """How targets are searched for.

    Errors: `DataError` for more sequences than the beam is wide.
    """
    width = int(settings["beam"]) if width is None else width
    if n_best > width:
        raise DataError(f"n_best={n_best} needs a beam as wide, got beam={width}; raise it")
    return Beam(
        width,
        n_best,
        length_penalty=settings["length_penalty"],
        alpha=settings["alpha"],
        coverage_penalty=settings["coverage_penalty"] if settings["attention"] else 0.0,
        banned=never_said(settings),
    )


def _check_count(name: str, value: Any) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise DataError(f"{name}={value!r}; expected a whole number from 1 on")
