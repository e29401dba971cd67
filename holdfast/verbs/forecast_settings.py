"""The forecaster's settings, as the table from which options of the command line are made."""

from __future__ import annotations

from holdfast.verbs.parser import count, counts, names, number, numbers, pair, share_or_rows, whole
from holdfast.verbs.settings import Setting

TABLE, MODEL, SAYS, WINDOW, TRAIN = (
    "the table",
    "the model",
    "what is forecast",
    "windows",
    "training",
)

SETTINGS = (
    Setting(
        TABLE,
        "id_column",
        None,
        str,
        "COLUMN",
        "id column (default: unique_id, if any)",
        called="--id",
    ),
    Setting(TABLE, "time_column", "ds", str, "COLUMN", "time column", called="--time"),
    Setting(TABLE, "target_column", "y", str, "COLUMN", "column to forecast", called="--target"),
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
        called="--option",
        repeated=True,
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
    Setting(
        TRAIN,
        "schedule",
        "constant",
        str,
        "KIND",
        "of it: constant, cosine, linear or plateau",
    ),
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
