"""What every network of the forecaster shares: the contract, covariates as numbers, the layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from holdfast.data.covariates import Covariate, Schema
from holdfast.data.windows import Batch, Recipe
from holdfast.data.words import BUCKETS
from holdfast.errors import DataError
from holdfast.tasks.forecast.heads import Head

PLAIN_CELLS = ("lstm", "gru", "rnn")
# The share of labels that training hides, so that a new label is not met unprepared.
HIDDEN_LABELS = 0.02


@dataclass(frozen=True)
class Shape:
    """What a network is built from: the windows, the covariates, the head, and the settings.

    `calendar` is how many of the future numbers are the calendar's, `series` how many series
    training has, and `options` what the model has beyond the others' settings.
    """

    recipe: Recipe
    schema: Schema
    calendar: int
    series: int
    head: Head
    cell: str = "lstm"
    hidden_size: int = 64
    num_layers: int = 1
    dropout: float = 0.1
    options: dict[str, Any] | None = None

    def option(self, name: str, default: Any) -> Any:
        """An option of the model, or its default."""
        return (self.options or {}).get(name, default)


class Features(NamedTuple):
    """Covariates as numbers: past (B, R, P), future (B, R+H, F), static (B, Z)."""

    past: Tensor
    future: Tensor
    static: Tensor


class Outlook(NamedTuple):
    """What a network says of H steps: `raw` (B, S, H, P) for the head, and `base` (B, S, H)."""

    raw: Tensor
    base: Tensor


class ForecastNet(nn.Module, ABC):
    """A network of the forecaster; `forward` is all that a model without feedback defines.

    `spans` says whether the windows of neighboring origins can share a pass, `joint` whether a
    batch holds every series at the same times, one after the other, and `weighted` whether training
    draws windows in proportion to the size of their series.
    """

    spans = False
    joint = False
    weighted = False
    # Names of `Shape.options` that the network reads, and what they mean.
    options: ClassVar[dict[str, str]] = {}

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        unknown = set(shape.options or {}) - set(self.options)
        if unknown:
            known = ", ".join(self.options) or "none"
            raise DataError(f"options: {sorted(unknown)[0]!r} is unknown; this model has {known}")
        self.shape = shape
        self.head = shape.head
        self.covariates = Covariates(shape.schema, shape.calendar)

    @abstractmethod
    def forward(self, batch: Batch) -> Outlook:
        """What is said of the H steps after each of the S origins."""

    def loss(self, batch: Batch) -> Tensor:
        """What training makes small."""
        outlook = self(batch)
        scale = batch.scale[:, None, None]
        return self.head.loss(outlook.raw, outlook.base, batch.target, batch.weight, scale)

    def paths(self, batch: Batch, count: int, generator: torch.Generator) -> Tensor | None:
        """`count` sampled futures (B, count, H), where steps depend on each other; else None."""
        return None


class Covariates(nn.Module):
    """Labels become learned vectors beside the numbers; label 0 stands for an unknown one."""

    def __init__(self, schema: Schema, calendar: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict()
        self.sizes: dict[str, int] = {}
        # Of each labelled column, which of the batch's texts holds its words; None for labels.
        self.texts: dict[str, list[int | None]] = {}
        order = [covariate for covariate in schema.covariates if covariate.is_text]
        self.labelled = False
        for role in ("past", "future", "static"):
            labelled = schema.of(role, "category", "text")
            tables = nn.ModuleList(make_table(covariate) for covariate in labelled)
            self.tables[role] = tables
            self.texts[role] = [order.index(c) if c.is_text else None for c in labelled]
            width = sum(int(table.embedding_dim) for table in tables)  # type: ignore[arg-type]
            self.labelled |= bool(labelled)
            self.sizes[role] = width + schema.numbers(role) + calendar * (role == "future")

    def forward(self, batch: Batch) -> Features:
        """The covariates of a batch as numbers alone."""
        if not self.labelled:
            return Features(batch.past, batch.future, batch.static)
        return Features(
            self._join("past", batch.past, batch.past_codes, batch.texts),
            self._join("future", batch.future, batch.future_codes, batch.texts),
            self._join("static", batch.static, batch.static_codes, batch.texts),
        )

    def _join(self, role: str, numbers: Tensor, codes: Tensor, texts: tuple[Tensor, ...]) -> Tensor:
        tables: Any = self.tables[role]
        if not len(tables):
            return numbers
        if self.training:
            codes = codes.masked_fill(torch.rand(codes.shape) < HIDDEN_LABELS, 0)
        vectors = []
        for place, (table, text) in enumerate(zip(tables, self.texts[role], strict=True)):
            column = codes[..., place]
            vectors.append(table(column) if text is None else table(column, texts[text]))
        return torch.cat([numbers, *vectors], dim=-1)


class Words(nn.Module):
    """Vectors for texts: the average of those of their words and of the pieces of these.

    They begin at zero, so that words which training has not seen say nothing.
    """

    def __init__(self, size: int = 16) -> None:
        super().__init__()
        self.embedding_dim = size
        self.bag = nn.EmbeddingBag(BUCKETS, size, mode="mean", padding_idx=0)
        nn.init.zeros_(self.bag.weight)

    def forward(self, codes: Tensor, bags: Tensor) -> Tensor:
        """Vectors (..., size) of `codes` (...), of which `bags` (n, K) holds the words."""
        distinct, places = codes.unique(return_inverse=True)
        return self.bag(bags[distinct].long())[places]


def make_table(covariate: Covariate) -> nn.Module:
    """Vectors for the labels of a column, one more for an unknown label; or for its texts."""
    if covariate.is_text:
        return Words()
    count = len(covariate.labels) + 1
    return nn.Embedding(count, min(16, 1 + round(1.6 * count**0.56)))


def make_recurrent(cell: str, input_size: int, hidden_size: int, **options: Any) -> nn.Module:
    """The compiled layer for a cell of the catalogue, batch first.

    >>> make_recurrent("lstm", 4, 8)(torch.zeros(2, 5, 4))[0].shape
    torch.Size([2, 5, 8])
    """
    from holdfast import nn as layers

    if cell in PLAIN_CELLS:
        layer = getattr(layers, cell.upper())
        return layer(input_size, hidden_size, batch_first=True, **options)
    return layers.Recurrent(cell, input_size, hidden_size, batch_first=True, **options)


def open_forget_gates(layer: nn.Module, hidden_size: int) -> None:
    """An LSTM begins with forget-gate bias 1 and no other bias (Jozefowicz et al. 2015)."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("bias"):
                parameter.zero_()
            if name.startswith("bias_ih"):
                parameter[hidden_size : 2 * hidden_size] = 1.0
