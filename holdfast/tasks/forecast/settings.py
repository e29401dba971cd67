"""The forecaster's settings, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from holdfast.data.scaling import KINDS
from holdfast.data.tables import Columns
from holdfast.errors import DataError
from holdfast.tasks import checking
from holdfast.tasks.forecast.augment import CHANGES
from holdfast.tasks.forecast.heads import Head, make_head
from holdfast.tasks.forecast.nets import NETS

COUNTS = (
    "horizon",
    "hidden_size",
    "num_layers",
    "batch_size",
    "max_epochs",
    "patience",
    "epoch_steps",
    "members",
)
INTERVALS = (None, "conformal")
CHOICES = {
    "model": (*NETS, "auto"),
    "scaling": KINDS,
    "schedule": ("constant", "cosine", "linear", "plateau"),
}
ROLES_AND_KINDS = ("past", "future", "static", "categorical", "text")
# What may differ between a run and its continuation, and what says where the table stands.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    checking.check_counts(settings, *COUNTS)
    checking.check_counts(settings, "seed", least=0)
    checking.check_choices(settings, CHOICES)
    checking.check_validation(settings, "rows")
    checking.check_shares(settings, "dropout")
    checking.check_positive(settings, "learning_rate")
    checking.check_not_negative(settings, "weight_decay")
    checking.check_device(settings)
    if not 0 < settings["calibration"] < 0.5:
        raise DataError(
            f"calibration={settings['calibration']!r}; expected a share between 0 and 0.5"
        )
    if settings["intervals"] not in INTERVALS:
        raise DataError(f'intervals={settings["intervals"]!r}; expected None or "conformal"')
    if not settings["budget"] > 0:
        raise DataError(f"budget={settings['budget']!r}; expected seconds above 0")
    columns_of(settings).check()
    for name in settings["augment"]:
        if name not in CHANGES:
            raise DataError(
                f"augment: {name!r} is unknown; there are {', '.join(map(repr, CHANGES))}"
            )
    head_of(settings)
    if settings["output"] == "negative_binomial" and settings["scaling"] != "mean":
        raise DataError(
            f'output="negative_binomial" counts from 0 on, got scaling={settings["scaling"]!r}; '
            'give scaling="mean"'
        )


def columns_of(settings: Mapping[str, Any]) -> Columns:
    """What the columns of tables are called."""
    names = {name: tuple(settings[name]) for name in ROLES_AND_KINDS}
    id, time, target = (settings[f"{name}_column"] for name in ("id", "time", "target"))
    return Columns(id, time, target, **names)


def head_of(settings: dict[str, Any]) -> Head:
    """What the forecaster says of each step."""
    return make_head(settings["output"], settings["loss"], tuple(settings["quantiles"]))
