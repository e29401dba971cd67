"""The card of a model: what it was trained on, how, how good it is, and what it is not for."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from holdfast import __version__


def write_card(
    title: str,
    lead: str,
    data: dict[str, Any],
    settings: dict[str, Any],
    training: str,
    scores: str,
    limits: Sequence[str],
) -> str:
    """The text of ``card.md``, in Markdown.

    `data` and `settings` are tables of names and values, `training` says how long it was trained
    and what chose the epoch, `scores` what was measured on data that training has not seen, and
    `limits` are sentences on what the model is for and where it ends.
    """
    points = "\n".join(f"- {sentence}" for sentence in limits)
    return f"""# {title}

{lead}

## Data

{table_of(data)}

## Settings

{table_of({f"`{name}`": f"`{value!r}`" for name, value in settings.items()}, "setting", "value")}

## Scores

{training}

{scores}

## Intended use and limits

{points}

{made_with()}
"""


def table_of(rows: dict[str, Any], name: str = "", value: str = "") -> str:
    """A table of two columns in Markdown.

    >>> print(table_of({"sentences": 3}))
    | | |
    |---|---|
    | sentences | 3 |
    """
    shown = [tuple(str(text).replace("|", "\\|") for text in pair) for pair in rows.items()]
    head = f"| {name} | {value} |" if name else "| | |"
    return "\n".join([head, "|---|---|", *(f"| {a} | {b} |" for a, b in shown)])


def made_with() -> str:
    """The versions of what a model was made with, as a sentence."""
    return (
        f"Made with Holdfast {__version__}, torch {torch.__version__}, numpy {np.__version__},\n"
        f"Python {platform.python_version()}."
    )
