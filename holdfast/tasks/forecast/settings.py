"""The forecaster's settings, checked before anything is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from holdfast.data.scaling import KINDS
from holdfast.data.tables import Columns
from holdfast.errors import DataError, did_you_mean
from holdfast.tasks.forecast.augment import CHANGES
from holdfast.tasks.forecast.heads import Head, make_head
from holdfast.tasks.forecast.nets import NETS
from holdfast.tasks.trainer import Plan

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
SCHEDULES = ("constant", "cosine", "linear", "plateau")
ROLES_AND_KINDS = ("past", "future", "static", "categorical", "text")
# What may differ between a run and its continuation, and what says where the table stands.
FREE_TO_CHANGE = ("max_epochs", "patience", "device")


def check_settings(settings: dict[str, Any]) -> None:
    """Refuse what cannot be trained with, naming the setting, in `DataError`."""
    for name in COUNTS:
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(f"{name}={value!r}; expected a whole number from 1 on")
    for name, known in (("model", (*NETS, "auto")), ("scaling", KINDS), ("schedule", SCHEDULES)):
        value = settings[name]
        if value not in known:
            raise DataError(
                f"{name}={value!r}; expected one of {', '.join(map(repr, known))}"
                f"{did_you_mean(str(value), known)}"
            )
    validation, dropout = settings["validation"], settings["dropout"]
    if not (0 < validation < 0.9 or (isinstance(validation, int) and validation >= 1)):
        raise DataError(
            f"validation={validation!r}; expected a share between 0 and 0.9, or a number of rows"
        )
    if not 0 < settings["calibration"] < 0.5:
        raise DataError(
            f"calibration={settings['calibration']!r}; expected a share between 0 and 0.5"
        )
    if settings["intervals"] not in INTERVALS:
        raise DataError(f'intervals={settings["intervals"]!r}; expected None or "conformal"')
    if not 0 <= dropout < 1:
        raise DataError(f"dropout={dropout!r}; expected a share from 0 to below 1")
    if not settings["learning_rate"] > 0:
        raise DataError(f"learning_rate={settings['learning_rate']!r}; expected a number above 0")
    if not settings["weight_decay"] >= 0:
        raise DataError(f"weight_decay={settings['weight_decay']!r}; expected 0 or a number above")
    if not settings["budget"] > 0:
        raise DataError(f"budget={settings['budget']!r}; expected seconds above 0")
    if settings["seed"] < 0:
        raise DataError(f"seed={settings['seed']!r}; expected a whole number from 0 on")
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
    try:
        torch.empty(0, device=settings["device"])
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"device={settings['device']!r} cannot be used here: {reason}") from error


def columns_of(settings: Mapping[str, Any]) -> Columns:
    """What the columns of tables are called."""
    names = {name: tuple(settings[name]) for name in ROLES_AND_KINDS}
    id, time, target = (settings[f"{name}_column"] for name in ("id", "time", "target"))
    return Columns(id, time, target, **names)


def head_of(settings: dict[str, Any]) -> Head:
    """What the forecaster says of each step."""
    return make_head(settings["output"], settings["loss"], tuple(settings["quantiles"]))


def plan_of(settings: dict[str, Any]) -> Plan:
    """How to train."""
    values = {name: settings[name] for name in Plan.__dataclass_fields__ if name in settings}
    return Plan(**values, averaged_by="epochs")
