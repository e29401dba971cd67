"""Begin with what another model has learned."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import torch

from holdfast.errors import DataError, TransferWarning
from holdfast.tasks.forecast.nets import ForecastNet

if TYPE_CHECKING:
    from holdfast.data.panel import Panel
    from holdfast.tasks.forecast.estimator import Forecaster

SAME = ("horizon", "model", "cell", "hidden_size", "num_layers", "output", "scaling")


def check_start(start: Forecaster, model: Forecaster, panel: Panel) -> None:
    """Refuse a model that cannot be the beginning of another, naming the setting."""
    for name in SAME:
        theirs, ours = getattr(start, name), getattr(model, name)
        if theirs != ours:
            raise DataError(
                f"start: it was trained with {name}={theirs!r}, this Forecaster has {ours!r}; take "
                "the same"
            )
    if start.frequency_ != panel.frequency:
        raise DataError(
            f"start: it was trained on rows {start.frequency_} apart, {panel.name} has them "
            f"{panel.frequency} apart; resample the table"
        )


def take_over(start: ForecastNet, net: ForecastNet) -> int:
    """Copy every weight of `start` whose name and shape `net` has; the count of weights copied.

    What belongs to series or labels of the old table, or to covariates that differ, begins anew;
    when that is more than embeddings, a `TransferWarning` names it.
    """
    theirs, ours = start.state_dict(), net.state_dict()
    kept = {n: t for n, t in theirs.items() if n in ours and ours[n].shape == t.shape}
    anew = [n for n in ours if n not in kept and not n.startswith("covariates.")]
    if anew:
        warnings.warn(
            f"start: {', '.join(anew[:3])}{' and more' if len(anew) > 3 else ''} begin anew, "
            "because covariates, seasons or series differ from those of the earlier model",
            TransferWarning,
            stacklevel=3,
        )
    with torch.no_grad():
        for name, tensor in kept.items():
            ours[name].copy_(tensor)
    return sum(t.numel() for t in kept.values())
