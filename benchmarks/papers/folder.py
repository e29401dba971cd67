"""Where the data sets of experiments are."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "HOLDFAST_DATA"


def find(name: str) -> Path | None:
    """A folder or file below the folder that the variable HOLDFAST_DATA names; None without it.

    >>> find("no such data set") is None
    True
    """
    root = os.environ.get(VARIABLE)
    path = Path(root, name) if root else None
    return path if path is not None and path.exists() else None


def missing(name: str) -> str:
    """What a row says when its data is not there.

    >>> missing("music/JSB.mat")
    'not run: there is no music/JSB.mat in the folder that HOLDFAST_DATA names'
    """
    return f"not run: there is no {name} in the folder that {VARIABLE} names"
