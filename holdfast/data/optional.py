"""Optional libraries, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from holdfast.errors import MissingExtraError


def require(module: str, extra: str = "forecast") -> Any:
    """The module of that name, or an error that names the extra which brings it.

    >>> require("json").loads("[1]")
    [1]

    Raises `MissingExtraError` when the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(extra, package) from error
