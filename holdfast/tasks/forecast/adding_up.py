"""Forecasts that add up on the command line: groups and residuals from files."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from holdfast.data.tables import ID
from holdfast.errors import DataError
from holdfast.tasks.forecast.coherent import reconcile
from holdfast.tasks.forecast.estimator import Forecaster


def added_up(model: Forecaster, frame: Any, arguments: Namespace) -> Any:
    """The forecasts `frame` of a model, made to add up as ``--groups`` says; as they are without.

    Raises `DataError` for groups that cannot be read, and as `reconcile` does.
    """
    if not arguments.groups:
        for option in ("reconcile", "residuals"):
            if getattr(arguments, option):
                raise DataError(f"--{option} needs --groups, which says what sums are made of")
        return frame
    return reconcile(
        frame,
        read_groups(arguments.groups),
        arguments.reconcile or "bottom_up",
        residuals=arguments.residuals,
        id_column=model.id_column or ID,
        time_column=model.time_column,
    )


def read_groups(path: str) -> Any:
    """What a file says of sums: a JSON object of sums and their parts, or the path of a table."""
    if Path(path).suffix.lower() != ".json":
        return path
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); correct it, or give a table") from error
    fine = isinstance(found, dict) and all(
        isinstance(parts, list) and parts and all(isinstance(part, str) for part in parts)
        for parts in found.values()
    )
    if not fine:
        raise DataError(
            f'{path}: expected an object of sums and their parts, such as {{"all": ["a", "b"]}}'
        )
    return found
