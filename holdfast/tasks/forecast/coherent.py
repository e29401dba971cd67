"""Forecasts that add up: of the whole, its parts, and the parts' parts.

Forecasts of every level are projected onto those that add up: y~ = S P y^, where S says which
bottom series each series is the sum of. Bottom up takes P from the bottom alone; the others are
weighted least squares, P = (S' W^-1 S)^-1 S' W^-1, with W the identity (``"ols"``), variances
(``"wls"``) or a shrunken covariance of errors (``"mint_shrink"``).

Source: Hyndman, Ahmed, Athanasopoulos & Shang 2011; Wickramasuriya, Athanasopoulos & Hyndman 2019,
Optimal forecast reconciliation through trace minimization; shrinkage: Schäfer & Strimmer 2005.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from holdfast.data.tables import ID, TIME, load_frame, make_frame
from holdfast.data.values import no_ids, read_numbers
from holdfast.errors import DataError

METHODS = ("bottom_up", "ols", "wls", "mint_shrink")
SAMPLE = "-sample-"


@dataclass(frozen=True)
class Hierarchy:
    """Which series are sums: `matrix` (N, M) of N series over M bottom ones, named by `ids`.

    The last rows are the bottom series themselves.
    """

    ids: tuple[str, ...]
    bottom: tuple[str, ...]
    matrix: np.ndarray


def hierarchy(groups: Any) -> Hierarchy:
    """The hierarchy of a mapping of sums to what they are sums of, or of a summing table.

    >>> hierarchy({"total": ["north", "south"], "north": ["a", "b"], "south": ["c"]}).ids
    ('total', 'north', 'south', 'a', 'b', 'c')

    A summing table (a frame) has one row for each series, its id in ``unique_id``, and one column
    for each bottom series, with the number of times that it is part of the row.

    Raises `DataError` for a sum that contains itself, and a table without its bottom series.
    """
    return _from_groups(groups) if isinstance(groups, Mapping) else _from_table(groups)


def _from_groups(groups: Mapping[str, Sequence[str]]) -> Hierarchy:
    parts = {str(name): tuple(map(str, members)) for name, members in groups.items()}
    bottom = tuple(
        dict.fromkeys(m for members in parts.values() for m in members if m not in parts)
    )
    places = {id: place for place, id in enumerate(bottom)}

    def row(id: str, above: tuple[str, ...]) -> np.ndarray:
        if id in above:
            raise DataError(f"groups: {id!r} is a part of itself; a sum cannot contain itself")
        if id in places:
            return np.eye(len(bottom))[places[id]]
        return np.sum([row(part, (*above, id)) for part in parts[id]], axis=0)

    if not bottom:
        raise DataError("groups: no series is a bottom one; name series that are no sums")
    matrix = np.stack([*(row(id, ()) for id in parts), *np.eye(len(bottom))])
    return Hierarchy((*parts, *bottom), bottom, matrix)


def _from_table(table: Any) -> Hierarchy:
    frame, name = load_frame(table)
    if ID not in frame.columns:
        raise DataError(f"{name} (groups): there is no column {ID!r}; it names the series of a row")
    bottom = tuple(column for column in frame.columns if column != ID)
    ids = [str(id) for id in frame[ID].to_list()]
    rows = np.array([frame[column].to_list() for column in bottom], dtype=np.float64).T
    for place, id in enumerate(bottom):
        if id not in ids or not np.array_equal(rows[ids.index(id)], np.eye(len(bottom))[place]):
            raise DataError(
                f"{name} (groups): bottom series {id!r} has no row of its own with a single 1; add"
            )
    upper = [row for row, id in enumerate(ids) if id not in bottom]
    matrix = np.concatenate([rows[upper], np.eye(len(bottom))])
    return Hierarchy((*(ids[row] for row in upper), *bottom), bottom, matrix)


def reconcile(
    frame: Any,
    groups: Any,
    method: str = "bottom_up",
    *,
    residuals: Any = None,
    id_column: str = ID,
    time_column: str = TIME,
    alias: str = "forecast",
) -> Any:
    """The frame of `predict` with forecasts that add up, rows and columns as they were.

    >>> import polars
    >>> ids, values = ["a", "b", "all"], [1.0, 2.0, 9.0]
    >>> frame = polars.DataFrame({"unique_id": ids, "ds": [1, 1, 1], "forecast": values})
    >>> reconcile(frame, {"all": ["a", "b"]}, "ols")["forecast"].round(9).to_list()
    [3.0, 4.0, 7.0]

    `groups` is what `hierarchy` takes. The point and every sample are reconciled, so that each
    sample adds up; the ends of intervals and quantiles move with the point and do not add up, as
    quantiles do not. ``"wls"`` weighs by the variance of `residuals` (as `Backtest.residuals`
    gives them), without them by how many bottom series a sum has; ``"mint_shrink"`` needs them.

    Raises `DataError` for series or times that are missing, and too few residuals.
    """
    if method not in METHODS:
        raise DataError(f"method={method!r}; expected one of {', '.join(map(repr, METHODS))}")
    tree = hierarchy(groups)
    table, name = load_frame(frame)
    order = _order(table, tree, name, id_column, time_column)
    matrix = tree.matrix @ _projection(tree, method, residuals, (id_column, time_column))
    columns = {column: table[column].to_list() for column in table.columns}
    before = table[alias].to_numpy().astype(np.float64)
    point = _added_up(before, order, tree, matrix)
    columns[alias] = point
    for column in table.columns:
        if not column.startswith(f"{alias}-"):
            continue
        values = table[column].to_numpy().astype(np.float64)
        apart = column.startswith(f"{alias}{SAMPLE}")
        columns[column] = (
            _added_up(values, order, tree, matrix) if apart else values + (point - before)
        )
    return make_frame(columns, table.implementation.value)


def _added_up(
    values: np.ndarray, order: np.ndarray, tree: Hierarchy, matrix: np.ndarray
) -> np.ndarray:
    """One column projected; `order` (N, times) are the rows of each series."""
    found = matrix @ values[order]
    # Sums are formed from the bottom series that go out, so that they hold to the last digit.
    found = tree.matrix @ found[len(tree.ids) - len(tree.bottom) :]
    out = values.copy()
    out[order] = found
    return out


def _order(table: Any, tree: Hierarchy, name: str, id_column: str, time_column: str) -> np.ndarray:
    """The row of every series (N) and time (T) of the hierarchy (N, T)."""
    for column in (id_column, time_column):
        if column not in table.columns:
            raise DataError(f"{name}: there is no column {column!r}")
    ids = [str(id) for id in table[id_column].to_list()]
    times = table[time_column].to_list()
    rows = {key: row for row, key in enumerate(zip(ids, times, strict=True))}
    unknown = sorted(set(ids) - set(tree.ids))
    if unknown:
        raise DataError(
            f"{name}: series {unknown[0]!r} is not in the groups; add it or leave it out"
        )
    steps = list(dict.fromkeys(times))
    missing = [(id, step) for id in tree.ids for step in steps if (id, step) not in rows]
    if missing:
        id, step = missing[0]
        raise DataError(f"{name}: series {id!r} has no forecast at {step}; every series needs one")
    return np.array([[rows[id, step] for step in steps] for id in tree.ids])


def _projection(tree: Hierarchy, method: str, residuals: Any, names: tuple[str, str]) -> np.ndarray:
    """P (M, N), from forecasts of all series to those of the bottom."""
    N, M = tree.matrix.shape
    if method == "bottom_up":
        return np.concatenate([np.zeros((M, N - M)), np.eye(M)], axis=1)
    if method == "ols":
        weights = np.eye(N)
    elif method == "wls" and residuals is None:
        weights = np.diag(1 / np.abs(tree.matrix).sum(axis=1))
    else:
        errors = _errors(tree, residuals, names)
        if method == "wls":
            variances = (errors**2).mean(axis=0)
            weights = np.diag(1 / np.maximum(variances, 1e-12 * variances.max()))
        else:
            weights = np.linalg.pinv(shrunken(errors))
    S = tree.matrix
    return np.linalg.lstsq(S.T @ weights @ S, S.T @ weights, rcond=None)[0]


def _errors(tree: Hierarchy, residuals: Any, names: tuple[str, str]) -> np.ndarray:
    """The residuals as (times, N), of the times that all series have."""
    if residuals is None:
        raise DataError('method="mint_shrink" needs `residuals`; give those of cross_validate')
    frame, name = load_frame(residuals)
    for column in (names[0], "residual"):
        if column not in frame.columns:
            raise DataError(f"{name} (residuals): there is no column {column!r}")
    keys = [column for column in frame.columns if column not in (names[0], "residual")]
    ids = [str(id) for id in frame[names[0]].to_list()]
    when = zip(*(frame[key].to_list() for key in keys), strict=True)
    values: dict[Any, dict[str, float]] = {}
    errors = read_numbers(frame["residual"], no_ids(len(frame), f"{name} (residuals)"))
    for id, key, value in zip(ids, when, errors.tolist(), strict=True):
        if np.isfinite(value):
            values.setdefault(key, {})[id] = value
    whole = [row for row in values.values() if all(id in row for id in tree.ids)]
    if len(whole) < 3:
        raise DataError(
            f"{name} (residuals): {len(whole)} time(s) at which all {len(tree.ids)} series have a "
            "residual; needs 3, give more windows"
        )
    return np.array([[row[id] for id in tree.ids] for row in whole])


def shrunken(errors: np.ndarray) -> np.ndarray:
    """The covariance (N, N) of errors (n, N), its correlations shrunken towards none.

    How far follows from how uncertain the correlations are (Schäfer & Strimmer 2005, equation (10)
    with target D), as in minimum trace reconciliation.
    """
    n = len(errors)
    deviation = np.sqrt((errors**2).mean(axis=0))
    deviation = np.maximum(deviation, 1e-12 * max(float(deviation.max()), 1e-300))
    z = errors / deviation
    correlation = z.T @ z / n
    products = (z**2).T @ (z**2) / n - correlation**2
    apart = ~np.eye(len(correlation), dtype=bool)
    uncertain, size = products[apart].sum() / (n - 1), (correlation[apart] ** 2).sum()
    share = float(np.clip(uncertain / size, 0, 1)) if size > 0 else 1.0
    correlation = np.where(apart, (1 - share) * correlation, 1.0)
    return correlation * np.outer(deviation, deviation)
