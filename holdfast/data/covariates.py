"""What is known beside the target: numbers, labels and texts, of the past, the future or a series.

A `Schema` is made by training and kept in the model: which columns there are, what labels they had,
which of them had gaps. Later tables are read through it, so that a label means the same again and a
new one is known to be new.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from holdfast.errors import DataError

ROLES = ("past", "future", "static")


@dataclass(frozen=True)
class Covariate:
    """One column: its role (`ROLES`), its kind, its labels, and whether numbers were missing.

    `kind` is ``"number"``, ``"category"`` or ``"text"``; a text's labels are its distinct texts.
    """

    name: str
    role: str
    kind: str
    labels: tuple[str, ...] = ()
    gaps: bool = False

    @property
    def width(self) -> int:
        """Numbers a row: the value, and a flag where values were missing; none for labels."""
        return 1 + self.gaps if self.kind == "number" else 0

    @property
    def is_text(self) -> bool:
        """Whether it holds words."""
        return self.kind == "text"


@dataclass(frozen=True)
class Schema:
    """The covariates of a panel, in the order of their columns."""

    covariates: tuple[Covariate, ...] = ()

    def of(self, role: str, *kinds: str) -> tuple[Covariate, ...]:
        """Those of a role, of some kinds only if any is named."""
        return tuple(
            c for c in self.covariates if c.role == role and (not kinds or c.kind in kinds)
        )

    def numbers(self, role: str) -> int:
        """How many numbers a row of this role gives to a network."""
        return sum(c.width for c in self.of(role))

    def as_json(self) -> list[dict[str, Any]]:
        """What goes into a model's configuration; texts are read anew, so none is kept."""
        return [
            {**asdict(covariate), **({"labels": ()} if covariate.kind == "text" else {})}
            for covariate in self.covariates
        ]

    @staticmethod
    def from_json(found: list[dict[str, Any]]) -> Schema:
        """Undo `as_json`."""
        return Schema(tuple(Covariate(**{**c, "labels": tuple(c["labels"])}) for c in found))

    def translate(self, role: str, values: np.ndarray, other: Schema) -> np.ndarray:
        """`values` (n, columns of the role) of a panel with schema `other`, coded as in this one.

        A label that this schema does not have becomes NaN; texts keep the places they have in
        `other`.
        """
        mine, theirs = self.of(role), other.of(role)
        if tuple(c.name for c in mine) != tuple(c.name for c in theirs):
            raise DataError(
                f"got {role} columns {[c.name for c in theirs]}, the model was trained with "
                f"{[c.name for c in mine]}; give the same columns"
            )
        out = values.astype(np.float64, copy=True)
        for place, (one, given) in enumerate(zip(mine, theirs, strict=True)):
            if one.kind != "category" or one.labels == given.labels:
                continue
            out[:, place] = recode(out[:, place], given.labels, one.labels)
        return out


def recode(codes: np.ndarray, given: tuple[str, ...], wanted: tuple[str, ...]) -> np.ndarray:
    """`codes` of the labels `given` as places in `wanted`; NaN stays, and stands for others.

    >>> recode(np.array([0.0, np.nan, 1.0]), ("b", "c"), ("a", "b"))
    array([ 1., nan, nan])
    """
    if given == wanted:
        return codes
    places = {label: float(place) for place, label in enumerate(wanted)}
    table = np.array([places.get(label, np.nan) for label in given] + [np.nan])
    return table[np.where(np.isnan(codes), len(given), codes).astype(int)]
