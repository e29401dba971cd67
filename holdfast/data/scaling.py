"""Each series on its own scale, covariates on one for all series, from the rows of training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from holdfast.data.covariates import ROLES
from holdfast.data.panel import Panel, Series
from holdfast.errors import DataError

# A scaled covariate beyond what training has seen is held at this many standard deviations.
COVARIATE_LIMIT = 4.0
KINDS = ("standard", "robust", "mean", "log")


@dataclass(frozen=True)
class Scale:
    """What a series' target is shifted and divided by; in logarithms when `log`."""

    mean: float
    std: float
    log: bool = False

    def apply(self, y: np.ndarray) -> np.ndarray:
        """`y` in standard deviations from the mean."""
        return ((np.log(y) if self.log else y) - self.mean) / self.std

    def undo(self, z: np.ndarray) -> np.ndarray:
        """Scaled values back in the user's unit."""
        y = z * self.std + self.mean
        return np.exp(y) if self.log else y


@dataclass(frozen=True)
class Scaling:
    """The scales of training: one for each series, and mean and deviation of every covariate.

    `kind` is ``"standard"`` (mean and standard deviation), ``"robust"`` (median and quartiles),
    ``"mean"`` (divided by 1 + the mean size, as in DeepAR, Salinas et al. 2017) or ``"log"``
    (standard in logarithms, for values above 0).
    """

    kind: str
    targets: dict[str, Scale]
    columns: dict[str, tuple[tuple[float, ...], tuple[float, ...]]]

    def of(self, series: Series, panel: Panel) -> Scale:
        """The scale of a series: that of training, or of its own rows where it is new."""
        known = self.targets.get(series.id)
        return known if known is not None else fit_scale(series, panel, self.kind, alone=False)

    def covariates(self, role: str, values: np.ndarray) -> np.ndarray:
        """Numbers (n, C) scaled, and held within what a network can take."""
        mean, std = self.columns[role]
        return np.clip((values - mean) / np.array(std), -COVARIATE_LIMIT, COVARIATE_LIMIT)

    def as_json(self) -> dict[str, Any]:
        """What goes into a model's configuration."""
        targets = {id: [s.mean, s.std] for id, s in self.targets.items()}
        return {**asdict(self), "targets": targets}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Scaling:
        """Undo `as_json`."""
        log = found["kind"] == "log"
        targets = {id: Scale(mean, std, log) for id, (mean, std) in found["targets"].items()}
        columns = {
            role: (tuple(mean), tuple(std)) for role, (mean, std) in found["columns"].items()
        }
        return Scaling(found["kind"], targets, columns)


def fit_scales(panel: Panel, counts: dict[str, int], kind: str = "standard") -> Scaling:
    """The scale of every series over its first `counts[id]` rows, observed ones only.

    Raises `DataError` for a panel of one series that is constant there, which has nothing to learn,
    and for values that the kind of scale cannot take.
    """
    if kind not in KINDS:
        raise DataError(f"scaling={kind!r}; expected one of {', '.join(map(repr, KINDS))}")
    alone = len(panel.series) == 1
    targets = {s.id: fit_scale(s[: counts[s.id]], panel, kind, alone) for s in panel.series}
    return Scaling(kind, targets, {role: _columns(panel, counts, role) for role in ROLES})


def fit_scale(series: Series, panel: Panel, kind: str, alone: bool) -> Scale:
    """The scale of the rows of one series."""
    y = series.y[series.observed]
    where = f" (series {series.id!r})" if series.id else ""
    if kind == "log" and len(y) and y.min() <= 0:
        raise DataError(
            f'{panel.name}{where}: scaling="log" needs values above 0, got {y.min():g}; choose '
            "another scaling"
        )
    if kind == "mean":
        return Scale(0.0, 1.0 + float(np.abs(y).mean()) if len(y) else 1.0)
    y = np.log(y) if kind == "log" else y
    mean, std = (float(y.mean()), float(y.std())) if len(y) else (0.0, 0.0)
    if kind == "robust" and len(y):
        low, mean, high = map(float, np.quantile(y, (0.25, 0.5, 0.75)))
        std = (high - low) / 1.349 or std
    if std <= 1e-12 * max(1.0, abs(mean)):
        if alone:
            raise DataError(
                f"{panel.name}{where}: column {panel.columns.target!r} is constant ({mean:g}) in "
                "the rows used for training, so there is nothing to learn; give another table"
            )
        std = max(abs(mean), 1.0) if kind != "log" else 1.0
    return Scale(mean, std, kind == "log")


def _columns(
    panel: Panel, counts: dict[str, int], role: str
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each column of a role over the training rows of all series.

    The sums of each series are added exactly, so that their order does not matter.
    """
    means, deviations = [], []
    for place, covariate in enumerate(panel.schema.of(role)):
        if covariate.kind != "number":
            means.append(0.0)
            deviations.append(1.0)
            continue
        static = role == "static"
        sums = []
        for one in panel.series:
            values = getattr(one, role)
            values = values[place : place + 1] if static else values[: counts[one.id], place]
            values = values[~np.isnan(values)]
            if len(values):
                sums.append((len(values), float(values.mean()), float(values.var())))
        rows = sum(count for count, _, _ in sums) or 1
        mean = math.fsum(count * own for count, own, _ in sums) / rows
        spread = (count * (variance + (own - mean) ** 2) for count, own, variance in sums)
        deviation = math.sqrt(math.fsum(spread) / rows)
        means.append(mean)
        deviations.append(deviation if deviation > 1e-9 else 1.0)
    return tuple(means), tuple(deviations)
