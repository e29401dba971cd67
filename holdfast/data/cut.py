"""The beginning of a panel, as if nothing after it had been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from holdfast.data.covariates import ROLES, Covariate, Schema, recode
from holdfast.data.panel import Panel, Series


def cut(panel: Panel, rows: Sequence[int]) -> Panel:
    """The first `rows[i]` rows of series i; series with none of them observed are left out.

    Labels that appear later only are not known to the new panel's schema, gaps that come later are
    not either. What is known beforehand of the time after the cut stays with a series.

    >>> import polars
    >>> from holdfast.data import read_panel
    >>> days = ["2024-01-01", "2024-01-02", "2024-01-03"]
    >>> panel = read_panel(polars.DataFrame({"ds": days, "y": [1, 2, 4]}))
    >>> cut(panel, [2]).series[0].y
    array([1., 2.])
    """
    kept = tuple(
        one[:count]
        for one, count in zip(panel.series, rows, strict=True)
        if one.observed[:count].any()
    )
    covariates = []
    for role in ROLES:
        for place, covariate in enumerate(panel.schema.of(role)):
            seen = [_seen(one, role)[..., place].ravel() for one in kept]
            values = np.concatenate(seen) if seen else np.zeros(0)
            missing = np.isnan(values)
            if covariate.kind == "number":
                covariates.append(replace(covariate, gaps=bool(missing.any())))
                continue
            codes = np.unique(values[~missing]).astype(int)
            labels = tuple(covariate.labels[code] for code in codes)
            covariates.append(replace(covariate, labels=labels))
            kept = tuple(_recoded(one, role, place, covariate, labels) for one in kept)
    return replace(panel, series=kept, schema=Schema(tuple(covariates)))


def _seen(series: Series, role: str) -> np.ndarray:
    """The covariates of a role up to the end of a series."""
    values = getattr(series, role)
    return values if role == "static" else values[: len(series)]


def _recoded(
    series: Series, role: str, place: int, covariate: Covariate, labels: tuple[str, ...]
) -> Series:
    """The series with one of its columns coded by fewer labels."""
    values = getattr(series, role).copy()
    column = np.atleast_1d(values[..., place])
    values[..., place] = recode(column, covariate.labels, labels).reshape(values[..., place].shape)
    return replace(series, **{role: values})
