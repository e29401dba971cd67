"""The forecaster's settings as options of the command line: one table, from which they are made."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.verbs.parser import count, counts, names, number, numbers, pair, share_or_rows, whole

# Options that are called otherwise than the setting.
CALLED = {
    "id_column": "--id",
    "time_column": "--time",
    "target_column": "--target",
    "options": "--option",
}


@dataclass(frozen=True)
class Setting:
    """One setting of `Forecaster`: its name, default, kind of value and meaning, by group."""

    group: str
    name: str
    default: Any
    kind: Callable[[str], Any]
    shown: str
    meaning: str

    @property
    def option(self) -> str:
        """What the option is called."""
        return CALLED.get(self.name, "--" + self.name.replace("_", "-"))

    @property
    def help(self) -> str:
        """The meaning and the default, as argparse wants them."""
        plain = self.default not in (None, (), "")
        text = f"{self.meaning} (default: {self.default})" if plain else self.meaning
        return text.replace("%", "%%")


TABLE, MODEL, SAYS, WINDOW, TRAIN = (
    "the table",
    "the model",
    "what is forecast",
    "windows",
    "training",
)

SETTINGS = (
    Setting(TABLE, "id_column", None, str, "COLUMN", "id column (default: unique_id, if any)"),
    Setting(TABLE, "time_column", "ds", str, "COLUMN", "time column"),
    Setting(TABLE, "target_column", "y", str, "COLUMN", "column to forecast"),
    Setting(TABLE, "past", (), names, "A,B", "covariates whose future is not known"),
    Setting(TABLE, "future", (), names, "A,B", "covariates known ahead, such as holidays"),
    Setting(TABLE, "static", (), names, "A,B", "covariates with one value a series"),
    Setting(TABLE, "categorical", (), names, "A,B", "those covariates that hold labels"),
    Setting(TABLE, "text", (), names, "A,B", "those covariates that hold words"),
    Setting(TABLE, "missing", "error", str, "KIND", "error or fill: what gaps and NaN mean"),
    Setting(SAYS, "horizon", 24, count, "H", "rows to forecast"),
    Setting(
        SAYS,
        "output",
        "point",
        str,
        "KIND",
        "point, quantiles, gaussian, student_t or negative_binomial",
    ),
    Setting(SAYS, "loss", "mae", str, "KIND", "of points: mae, mse or huber"),
    Setting(
        SAYS, "quantiles", (), numbers, "Q,Q", "shares between 0 and 1, for --output quantiles"
    ),
    Setting(
        SAYS, "intervals", None, str, "KIND", "conformal: measured on rows that nothing trains on"
    ),
    Setting(
        SAYS, "calibration", 0.1, number, "SHARE", "of each series' end, for --intervals conformal"
    ),
    Setting(MODEL, "model", "direct", str, "NAME", "auto, or a name of `holdfast forecast models`"),
    Setting(MODEL, "budget", 60.0, number, "S", "seconds in which auto chooses"),
    Setting(MODEL, "cell", "lstm", str, "NAME", "a cell of `holdfast cells`"),
    Setting(MODEL, "hidden_size", 64, count, "H", "units of a recurrent layer"),
    Setting(MODEL, "num_layers", 1, count, "N", "recurrent layers above each other"),
    Setting(MODEL, "dropout", 0.1, number, "P", "share of numbers dropped in training"),
    Setting(
        MODEL,
        "options",
        None,
        pair,
        "KEY=VALUE",
        "a setting of the model's own, see `holdfast forecast models`; may be repeated",
    ),
    Setting(MODEL, "members", 1, count, "N", "networks trained, whose forecasts are averaged"),
    Setting(WINDOW, "window", None, count, "ROWS", "rows read (default: from the frequency)"),
    Setting(
        WINDOW, "seasons", None, counts, "24,168", "seasons in rows (default: from the frequency)"
    ),
    Setting(
        WINDOW,
        "lags",
        None,
        counts,
        "24,168",
        "rows back that forecasts start from (default: whole seasons)",
    ),
    Setting(WINDOW, "scaling", "standard", str, "KIND", "standard, robust, mean or log"),
    Setting(TRAIN, "learning_rate", 0.004, number, "R", "step size of Adam"),
    Setting(TRAIN, "weight_decay", 0.0, number, "R", "pull of the weights towards 0"),
    Setting(TRAIN, "schedule", "constant", str, "KIND", "of the step size: constant or cosine"),
    Setting(TRAIN, "batch_size", 32, count, "B", "windows in a step"),
    Setting(TRAIN, "max_epochs", 50, count, "N", "epochs at most"),
    Setting(TRAIN, "epoch_steps", 500, count, "N", "steps in an epoch at most"),
    Setting(TRAIN, "patience", 12, count, "N", "epochs without progress before training stops"),
    Setting(
        TRAIN,
        "validation",
        0.1,
        share_or_rows,
        "SHARE",
        "share of each series' end that early stopping watches",
    ),
    Setting(TRAIN, "gradient_clip", 1.0, number, "NORM", "largest norm of a gradient"),
    Setting(TRAIN, "averaging", 0.98, number, "DECAY", "of the running average of the weights"),
    Setting(TRAIN, "augment", (), names, "A,B", "changed copies: jitter, resize, mix, shorten"),
    Setting(TRAIN, "seed", 0, whole, "N", "decides every random number"),
    Setting(TRAIN, "device", "cpu", str, "NAME", "cpu, or a GPU when asked for"),
)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Give `parser` an option for every setting, in groups."""
    groups = {name: parser.add_argument_group(name) for name in (TABLE, SAYS, MODEL, WINDOW, TRAIN)}
    for one in SETTINGS:
        how: dict[str, Any] = {"action": "append"} if one.name == "options" else {}
        groups[one.group].add_argument(
            one.option, dest=one.name, type=one.kind, metavar=one.shown, help=one.help, **how
        )


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that were given, as keywords of `Forecaster`."""
    found = {one.name: getattr(arguments, one.name) for one in SETTINGS}
    found = {name: value for name, value in found.items() if value is not None}
    if "options" in found:
        found["options"] = dict(found["options"])
    return found
