"""Labels as numbers and back: one of several classes, or any number of labels at once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.examples import (
    Examples,
    Fields,
    is_table,
    place,
    read_labels,
    read_labels_by_id,
)
from holdfast.errors import DataError, did_you_mean

ONE, LISTS, COLUMNS = "one", "lists", "columns"
TRUTHS = {"0": 0, "1": 1, "false": 0, "true": 1, "False": 0, "True": 1, "0.0": 0, "1.0": 1}
SHOWN = 12


@dataclass(frozen=True, eq=False)
class Given:
    """Labels as they were given, one entry for each example.

    form: `"one"` label each; `"lists"` of labels; or `"columns"` of 0 and 1, `[n, K]`, called
    `names`. where: names an example for messages.
    """

    form: str
    values: list[Any]
    names: tuple[Any, ...] = ()
    name: str = ""
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    def place(self, at: int) -> str:
        """An example as messages name it."""
        return place(self.name, self.ids, at)

    def take(self, places: Iterable[int]) -> Given:
        """Some of them, in that order."""
        return Given(self.form, [self.values[at] for at in places], self.names, self.name)

    @property
    def digest(self) -> str:
        """The SHA-256 of all of them."""
        return hashlib.sha256(repr((self.form, self.names, self.values)).encode()).hexdigest()


def given_labels(X: Any, y: Any, examples: Examples, fields: Fields) -> Given:
    """The labels of examples: y itself, or the columns of the table X or y.

    Errors: `DataError` for another number of labels than of examples, and for what is missing.
    """
    if y is None:
        if not is_table(X):
            raise DataError("got no labels; give y, or a table with a column of labels")
        return _of_columns(read_labels(X, fields), fields, examples)
    if isinstance(y, str) or hasattr(y, "__fspath__"):
        return _of_columns(read_labels_by_id(y, fields, examples.ids), fields, examples)
    if hasattr(y, "columns"):
        if fields.id is not None and fields.id in y.columns:
            return _of_columns(read_labels_by_id(y, fields, examples.ids), fields, examples)
        names = tuple(map(str, y.columns))
        found = _indicator(np.asarray(y), names, examples)
    else:
        found = _in_memory(y, examples)
    if len(found) != len(examples):
        raise DataError(
            f"got {len(examples)} examples and {len(found)} labels; give one label for each"
        )
    return found


def _of_columns(columns: dict[str, list[str]], fields: Fields, examples: Examples) -> Given:
    if isinstance(fields.label, str):
        return Given(ONE, columns[fields.label], name=examples.name, ids=examples.ids)
    rows = np.stack([np.array(columns[name], dtype=object) for name in fields.labels], axis=1)
    return _indicator(rows, fields.labels, examples)


def _in_memory(y: Any, examples: Examples) -> Given:
    if getattr(y, "ndim", 1) == 2:
        array = np.asarray(y)
        return _indicator(array, tuple(range(array.shape[1])), examples)
    values = [one.item() if isinstance(one, np.generic) else one for one in y]
    several = [isinstance(one, (list, tuple, set, frozenset)) for one in values]
    if any(several) and not all(several):
        at = several.index(False)
        raise DataError(f"{examples.place(at)}: got a label, expected a list of labels")
    for at, one in enumerate(values):
        for label in one if any(several) else [one]:
            if label is None or label != label:
                raise DataError(
                    f"{examples.place(at)}: the label is missing; give it, or leave the example out"
                )
            if not isinstance(label, (str, int, float, bool)):
                raise DataError(
                    f"{examples.place(at)}: got a label of the type {type(label).__name__}, "
                    "expected a text or a number"
                )
    if any(several):
        values = [sorted(set(one), key=str) for one in values]
    return Given(LISTS if any(several) else ONE, values, name=examples.name, ids=examples.ids)


def _indicator(rows: np.ndarray, names: tuple[Any, ...], examples: Examples) -> Given:
    """Rows `[n, K]` of 0 and 1, whatever they are written as."""
    values = []
    for at, row in enumerate(rows.tolist()):
        for name, value in zip(names, row, strict=True):
            if str(value) not in TRUTHS:
                raise DataError(
                    f"{examples.place(at)}: label {name!r} is {value!r}; where labels are "
                    "columns, they hold 0 or 1"
                )
        values.append(tuple(TRUTHS[str(value)] for value in row))
    return Given(COLUMNS, values, names, examples.name, examples.ids)


@dataclass(frozen=True)
class Labels:
    """What can be said of an example.

    >>> labels = Labels.learn(Given("one", ["no", "yes", "no"]))
    >>> labels.classes, labels.encode(Given("one", ["yes"])).tolist()
    (('no', 'yes'), [1])

    classes: in their order. form: as `Given` has it; all but `"one"` are several at once.
    """

    classes: tuple[Any, ...]
    form: str

    @classmethod
    def learn(cls, given: Given) -> Labels:
        """From the labels of training.

        Errors: `DataError` where there is nothing to tell apart.
        """
        if given.form == COLUMNS:
            return cls(given.names, COLUMNS)
        labels = {
            label for one in given.values for label in (one if given.form == LISTS else [one])
        }
        kinds = {type(label).__name__ for label in labels}
        if len(kinds) > 1 and not kinds <= {"int", "float"}:
            raise DataError(f"labels are of one type, got {' and '.join(sorted(kinds))}")
        classes = tuple(sorted(labels))
        if given.form == ONE and len(classes) == 1:
            raise DataError(
                f"all examples have the label {labels.pop()!r}; to tell classes apart there must "
                "be at least two"
            )
        if not classes:
            raise DataError("no example has a label; to learn one there must be some with it")
        return cls(classes, given.form)

    @property
    def several(self) -> bool:
        """Whether an example can have any number of labels."""
        return self.form != ONE

    def encode(self, given: Given) -> Tensor:
        """Classes `[n]` int64, or labels `[n, K]` float32 where they are several.

        Errors: `DataError` for a label that training has not seen, and for labels of another form.
        """
        if (given.form == ONE) == self.several:
            want, got = (
                ("lists of labels", "one label each")
                if self.several
                else (
                    "one label each",
                    "several labels",
                )
            )
            raise DataError(f"got {got}, expected {want}, as in training")
        if not self.several:
            return torch.tensor(
                [self._number(one, given, at) for at, one in enumerate(given.values)]
            )
        found = torch.zeros(len(given), len(self.classes))
        for at, one in enumerate(given.values):
            chosen = one
            if given.form == COLUMNS:
                chosen = [n for n, there in zip(given.names, one, strict=True) if there]
            for label in chosen:
                found[at, self._number(label, given, at)] = 1.0
        return found

    def decode(self, chosen: np.ndarray) -> Any:
        """What `predict` returns: labels `(n,)`, lists of labels, or an array `(n, K)` of 0 and 1.

        `chosen` are classes `(n,)`, or labels `(n, K)` where they are several.
        """
        if self.form == ONE:
            return np.array(self.classes)[chosen]
        if self.form == COLUMNS:
            return chosen.astype(np.int64)
        return [[self.classes[k] for k in np.flatnonzero(row)] for row in chosen]

    def count(self, targets: Tensor) -> Tensor:
        """How many examples have each class or label, `[K]`."""
        if targets.dim() == 2:
            return targets.sum(0)
        return torch.bincount(targets, minlength=len(self.classes)).float()

    def _number(self, label: Any, given: Given, at: int) -> int:
        # True is 1 to Python, and so it is here.
        if label in self.classes:
            return self.classes.index(label)
        known = [str(one) for one in self.classes]
        some = ", ".join(map(repr, self.classes[:SHOWN]))
        more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
        raise DataError(
            f"{given.place(at)}: the label {label!r} was never seen in training"
            f"{did_you_mean(str(label), known)}; known are {some}{more}"
        )


def class_weights(how: Any, labels: Labels, targets: Tensor) -> Tensor | None:
    """The weight of every class, `[K]`, in the loss: `"balanced"`, a dict by label, or None.

    Balanced classes weigh n / (K count), as in scikit-learn. Where labels are several, the examples
    that have one weigh as much as those that do not.

    Errors: `DataError` for a label that is no class, and a weight that is not above 0.
    """
    if how is None:
        return None
    counts = labels.count(targets)
    if how == "balanced":
        if labels.several:
            return (len(targets) - counts).clamp(min=1) / counts.clamp(min=1)
        return len(targets) / (len(labels.classes) * counts.clamp(min=1))
    if not isinstance(how, dict):
        raise DataError(f'class_weight={how!r}; expected None, "balanced" or a dict by label')
    weights = torch.ones(len(labels.classes))
    for label, weight in how.items():
        if label not in labels.classes:
            hint = did_you_mean(str(label), [str(one) for one in labels.classes])
            raise DataError(f"class_weight: {label!r} is no class of the labels{hint}")
        if not weight > 0:
            raise DataError(f"class_weight: got {weight!r} for {label!r}, expected more than 0")
        weights[labels.classes.index(label)] = float(weight)
    return weights


def split_held_out(targets: Tensor, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Places that train and places that are held out, the same share of every class.

    Where labels are several, every combination of them counts as a class. A class of one example
    is trained on; one of two or more has at least one held out.
    """
    rows = targets.tolist()
    keys = [tuple(row) if isinstance(row, list) else row for row in rows]
    order = np.random.default_rng([seed, 0]).permutation(len(keys))
    counts = Counter(keys)
    room = {key: _held(count, share) for key, count in counts.items()}
    held = []
    for at in order.tolist():
        if room[keys[at]]:
            room[keys[at]] -= 1
            held.append(at)
    if not held:  # no two examples are alike, as where labels are many
        held = order[: max(1, round(share * len(keys)))].tolist()
    out = np.zeros(len(keys), dtype=bool)
    out[held] = True
    return np.flatnonzero(~out), np.flatnonzero(out)


def _held(count: int, share: float) -> int:
    return 0 if count < 2 else min(count - 1, max(1, round(share * count)))


def rare(labels: Labels, counts: Sequence[float], fewest: int = 2) -> list[tuple[Any, int]]:
    """Classes that fewer examples have than can be both learned and held out."""
    return [(label, int(n)) for label, n in zip(labels.classes, counts, strict=True) if n < fewest]
