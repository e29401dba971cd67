"""Long memory: one hidden unit on four series, beside a plain autoregression (Zhao et al. 2020)."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.papers.folder import find, missing
from benchmarks.papers.memory_nets import MODELS, Networks
from benchmarks.papers.registry import Row, Settings, experiment
from holdfast.data.long_memory import SPLITS, LongSeries, read_series

EPOCHS = 1000
PATIENCE = 100
GAIN = 1e-5
"""A training loss has become better when it is lower by more than this."""

RATE = 0.01
SEEDS = 100

FOLDER = "zhao_long_memory"

PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    "arfima": {
        "RNN": (1.1620, 0.1980),
        "LSTM": (1.1340, 0.1200),
        "MRNNF": (1.1010, 0.1000),
        "MRNN": (1.0880, 0.1140),
        "MLSTMF": (1.1580, 0.1660),
        "MLSTM": (1.1490, 0.1660),
    },
    "dji": {
        "RNN": (0.2605, 0.0171),
        "LSTM": (0.2492, 0.0128),
        "MRNNF": (0.2472, 0.0109),
        "MRNN": (0.2487, 0.0105),
        "MLSTMF": (0.2540, 0.0139),
        "MLSTM": (0.2531, 0.0130),
    },
    "traffic": {
        "RNN": (336.44, 10.401),
        "LSTM": (337.60, 8.146),
        "MRNNF": (333.36, 8.453),
        "MRNN": (333.72, 10.157),
        "MLSTMF": (337.78, 9.020),
        "MLSTM": (337.83, 9.440),
    },
    "tree": {
        "RNN": (0.2871, 0.0086),
        "LSTM": (0.2833, 0.0070),
        "MRNNF": (0.2822, 0.0048),
        "MRNN": (0.2818, 0.0053),
        "MLSTMF": (0.2859, 0.0082),
        "MLSTM": (0.2859, 0.0083),
    },
}
"""Mean and standard deviation of 100 seeds: Zhao et al. 2020, table 2."""

UNITS = {"dji": 100.0}
"""The paper's table shows errors on the returns times 100."""


def train(
    series: LongSeries, model: str, seeds: Sequence[int], epochs: int = EPOCHS
) -> list[float]:
    """The test error of each seed, in the unit of the series: all seeds train at once.

    The protocol is the authors': the whole training part is one step of Adam; the validation goes
    on from its last state, and so does the test; the weights with the best validation are scored.
    """
    networks = Networks(model, seeds)
    scaled = series.scaled.float()
    inputs, y = networks.prepare(scaled[:-1]), scaled[1:].unsqueeze(1)
    fit, check, _ = series.parts
    optimizer = torch.optim.Adam(networks.groups(RATE))
    best_valid = torch.full((len(seeds),), torch.inf)
    best_train, waited = best_valid.clone(), torch.zeros(len(seeds))
    active = torch.ones(len(seeds), dtype=torch.bool)
    kept = networks.columns()
    for _ in range(epochs):
        predictions, state = networks(inputs[fit])
        errors = (predictions - y[fit]).square().mean(0)
        with torch.no_grad():
            valid = (networks(inputs[check], state)[0] - y[check]).square().mean(0)
            better = active & (valid < best_valid)
            best_valid = torch.where(better, valid, best_valid)
            kept = networks.columns(better, kept)
            gained = best_train - errors > GAIN
            best_train = torch.where(gained, errors, best_train)
            waited = torch.where(gained, 0, waited + 1)
            active &= waited < PATIENCE
        if not active.any():
            break
        optimizer.zero_grad()
        errors.sum().backward()
        optimizer.step()
    networks.load_columns(kept)
    return _score(networks, inputs, y, series)


@torch.no_grad()
def _score(networks: Networks, inputs: Tensor, y: Tensor, series: LongSeries) -> list[float]:
    test = series.parts[2]
    predictions = networks(inputs)[0]
    errors = (predictions[test] - y[test]).square().mean(0).sqrt()
    return (errors * series.span).tolist()


def autoregress(series: LongSeries, lags: int) -> float:
    """The test error of a linear model on so many values before, by least squares on the training
    part, in the unit of the series.
    """
    past = series.values[:-1].unfold(0, lags, 1)  # [N - lags, lags]
    past = torch.cat([past, torch.ones(len(past), 1, dtype=past.dtype)], 1)
    target = series.values[lags:]
    fit, _, test = series.parts
    trained = slice(0, fit.stop - lags + 1)
    weights = torch.linalg.lstsq(past[trained], target[trained]).solution
    errors = (past @ weights - target)[test.start - lags + 1 :]
    return float(errors.square().mean().sqrt())


@experiment("memory", "Long memory, one hidden unit: Zhao et al. 2020, table 2")
def memory(settings: Settings) -> Iterator[Row]:
    """Every model of the table on every series, then linear models on 1 and 25 values before."""
    seeds = settings.range(SEEDS)
    epochs = 3 if settings.quick else EPOCHS
    for name, published in PUBLISHED.items():
        task, unit = f"long memory: {name}", UNITS.get(name, 1.0)
        measure = "RMSE" if unit == 1 else f"RMSE × {unit:g}"
        path = find(f"{FOLDER}/{name}.csv")
        if path is None:
            yield Row(task, "all", 0, note=missing(f"{FOLDER}/{name}.csv"))
            continue
        series = read_series(path, SPLITS[name])
        for model in MODELS:
            errors = tuple(unit * error for error in train(series, model, seeds, epochs))
            yield _row(task, model, measure, errors, published[model])
        for lags in (1, 25):
            error = _figure(unit * autoregress(series, lags))
            yield Row(task, f"AR({lags}), least squares", 1, measure=measure, values=(error,))


def _row(
    task: str, model: str, measure: str, errors: tuple[float, ...], published: tuple[float, float]
) -> Row:
    mean, spread = published
    error = (statistics.pvariance(errors) / len(errors) + spread**2 / SEEDS) ** 0.5
    return Row(
        task,
        f"{model}, H=1, Adam {RATE:g}",
        len(errors),
        measure=measure,
        values=tuple(map(_figure, errors)),
        published=f"{mean:g} ± {spread:g}, {SEEDS} seeds",
        reached=statistics.fmean(errors) <= mean + 2 * error,
    )


def _figure(value: float) -> float:
    return float(f"{value:.6g}")
