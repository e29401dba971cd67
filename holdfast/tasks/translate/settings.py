"""The translator's settings, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.data.text.subwords import KINDS
from holdfast.errors import DataError
from holdfast.nn.beam import PENALTIES, Beam
from holdfast.nn.bridge import KINDS as BRIDGES
from holdfast.nn.scores import SCORES
from holdfast.tasks import checking
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
    checking.check_counts(settings, *COUNTS)
    checking.check_counts(settings, "seed", least=0)
    for name in ("min_count", "batch_tokens"):
        if settings[name] is not None:
            checking.check_counts(settings, name)
    checking.check_choices(settings, CHOICES)
    checking.check_shares(settings, *SHARES)
    checking.check_not_negative(settings, *NOT_BELOW_ZERO)
    checking.check_positive(settings, "learning_rate")
    checking.check_validation(settings)
    checking.check_device(settings)
    if not 0 <= settings["teacher_forcing"] <= 1:
        raise DataError(
            f"teacher_forcing={settings['teacher_forcing']!r}; expected a share from 0 to 1"
        )


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
