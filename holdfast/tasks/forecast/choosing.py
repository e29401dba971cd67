"""An automatic choice that an interruption does not undo: it is written beside the checkpoint.

How far a choice gets depends on the clock, so a training that goes on must not choose anew: it
would go on with another network than it began with.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from holdfast.data.atomic import write_file
from holdfast.data.panel import Panel
from holdfast.errors import ModelError
from holdfast.tasks.forecast.auto import Trial, choose
from holdfast.tasks.forecast.settings import FREE_TO_CHANGE

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster


def chosen(
    model: Forecaster,
    panel: Panel,
    checkpoint: Path | None,
    resume: bool,
    report: Callable[[Trial], None] | None = None,
) -> dict[str, Any]:
    """What `choose` finds, as it goes into a model; that of before, where training goes on.

    Raises `ModelError` for an earlier choice on other data, or with other settings.
    """
    file = None if checkpoint is None else checkpoint.with_name(f"{checkpoint.name}.choice")
    settings = {k: v for k, v in model.get_params().items() if k not in FREE_TO_CHANGE}
    identity = json.loads(json.dumps({**settings, "data": panel.digest}))
    if file is not None and resume and file.exists():
        return _read(file, identity)
    found = choose(model, panel, model.budget, report).as_json()
    if file is not None:
        write_file(file, json.dumps({"identity": identity, "chosen": found}).encode())
    return found


def _read(file: Path, identity: dict[str, Any]) -> dict[str, Any]:
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        theirs, found = kept["identity"], kept["chosen"]
        changes = found["changes"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file}: the choice is damaged ({error}); pass --restart to begin again"
        ) from error
    for name in sorted(identity.keys() | theirs.keys()):
        if identity.get(name) != theirs.get(name):
            raise ModelError(
                f"{file}: made with {name} = {theirs.get(name)!r}, now {identity.get(name)!r}; use "
                "the same settings and data, or pass --restart to begin again"
            )
    # JSON has no tuples.
    lists = {name: tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
    return {**found, "changes": lists}
