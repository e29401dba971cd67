"""The columns that windows are cut from: scaled, encoded, one series after the other.

They are written in groups of series into arrays that were made before, in memory or on disk, so
that nothing stands in memory twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from holdfast.data.covariates import ROLES, Schema
from holdfast.data.filling import carry_on
from holdfast.data.panel import Panel, Series
from holdfast.data.scaling import Scale, Scaling

# Rows that are scaled and encoded at a time.
GROUP_ROWS = 1 << 18


def write_columns(
    panel: Panel, scaling: Scaling, schema: Schema, scales: Sequence[Scale], H: int
) -> dict[str, np.ndarray]:
    """Every column of `holdfast.data.windows.Windows`, each series followed by H future rows.

    Roles without a covariate are left out.
    """
    rows = len(panel) + H * len(panel.series)
    count = len(panel.series)
    columns = {
        "z": panel.array((rows,), np.float32),
        "observed": panel.array((rows,), np.float32),
    }
    for role in (role for role in ROLES if schema.of(role)):
        n = count if role == "static" else rows
        coded = len(schema.of(role, "category", "text"))
        columns[role] = panel.array((n, schema.numbers(role)), np.float32)
        columns[f"{role}_codes"] = panel.array((n, coded), np.int32)
    group = _Group(panel, scaling, schema, H)
    row = 0
    for first, series in groups(panel.series, H):
        own = scales[first : first + len(series)]
        for name, values in group.columns(series, own).items():
            at = first if name.startswith("static") else row
            columns[name][at : at + len(values)] = values
        row += sum(map(len, series)) + H * len(series)
    return columns


def groups(
    series: Sequence[Series], H: int, rows: int = GROUP_ROWS
) -> Iterator[tuple[int, list[Series]]]:
    """Neighboring series of some `rows` together, with the place of the first."""
    held: list[Series] = []
    first = size = 0
    for place, one in enumerate(series):
        held.append(one)
        size += len(one) + H
        if size >= rows:
            yield first, held
            first, held, size = place + 1, [], 0
    if held:
        yield first, held


class _Group:
    """Some series as columns."""

    def __init__(self, panel: Panel, scaling: Scaling, schema: Schema, H: int) -> None:
        self.panel, self.scaling, self.schema, self.H = panel, scaling, schema, H

    def columns(self, series: Sequence[Series], scales: Sequence[Scale]) -> dict[str, np.ndarray]:
        """The rows of `series`, each with H more; roles without a column are left out."""
        lengths = np.array([len(one) for one in series])
        z, observed = self._targets(series, scales, lengths)
        found: dict[str, np.ndarray] = {"z": z, "observed": observed}
        roles = [role for role in ROLES if self.schema.of(role)]
        if not roles:
            return found
        owner = np.repeat(np.arange(len(series)), lengths + self.H)
        local = np.arange(len(owner)) - (np.cumsum(lengths + self.H) - lengths - self.H)[owner]
        for role in roles:
            given = [getattr(one, role) for one in series]
            if role == "static":
                numbers, codes = self._encode(role, np.stack(given), np.arange(len(series)))
            else:
                sizes = lengths if role == "past" else lengths + self.H
                given = [values[:size] for values, size in zip(given, sizes, strict=True)]
                there = np.array([len(values) for values in given])
                starts = np.cumsum(there) - there
                numbers, codes = self._encode(role, np.concatenate(given), starts)
                rows = starts[owner] + np.minimum(local, there[owner] - 1)
                numbers, codes = numbers[rows], codes[rows]
            found[role], found[f"{role}_codes"] = numbers, codes
        return found

    def _targets(
        self, series: Sequence[Series], scales: Sequence[Scale], lengths: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The scaled targets, each series followed by H zeros, and which were observed."""
        size = int(lengths.sum()) + self.H * len(series)
        z, observed = np.zeros(size), np.zeros(size)
        inside: Any = slice(lengths[0])
        if len(series) > 1:
            ends = np.cumsum(lengths + self.H)
            inside = np.ones(size, dtype=bool)
            inside[(ends[:, None] - np.arange(1, self.H + 1)).reshape(-1)] = False
        z[inside] = _scaled([one.y for one in series], scales, lengths)
        observed[inside] = np.concatenate([one.observed for one in series])
        return z, observed

    def _encode(
        self, role: str, values: np.ndarray, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Scaled numbers with their flags of absence, and codes counted from 1; 0 is unknown.

        An empty number takes the last one there was, so that no forecast sees its own future, and
        the mean before the first.
        """
        covariates = self.schema.of(role)
        nothing = np.zeros((len(values), 0))
        values = self.schema.translate(role, values, self.panel.schema)
        numbers, codes = [nothing], [nothing]
        scaled = carry_on(self.scaling.covariates(role, values), starts)
        for place, covariate in enumerate(covariates):
            missing = np.isnan(values[:, place])
            if covariate.kind == "number":
                numbers.append(scaled[:, place, None])
                if covariate.gaps:
                    numbers.append(missing[:, None])
            else:
                codes.append(np.where(missing, 0, values[:, place] + 1)[:, None])
        return np.concatenate(numbers, axis=1), np.concatenate(codes, axis=1)


def _scaled(y: list[np.ndarray], scales: Sequence[Scale], lengths: np.ndarray) -> np.ndarray:
    """The targets of some series below each other, each in its own scale."""
    if len(y) == 1:
        return scales[0].apply(y[0])
    mean = np.repeat([scale.mean for scale in scales], lengths)
    std = np.repeat([scale.std for scale in scales], lengths)
    values = np.concatenate(y)
    return ((np.log(values) if scales[0].log else values) - mean) / std
