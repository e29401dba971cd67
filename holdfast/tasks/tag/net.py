"""The network of a tagger: words, characters and features to the scores of tags, and to tags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.errors import DataError
from holdfast.nn import CRF, Recurrent
from holdfast.nn.tag_schemes import Allowed
from holdfast.tasks.tag.characters import KINDS, Characters
from holdfast.tasks.tag.dropping import dropped
from holdfast.tasks.tag.encoded import Batch

HIDDEN_LABELS = 0.01
"""The share of labels of further columns that training takes for unknown ones."""


@dataclass(frozen=True)
class Shape:
    """What a network is built from: sizes of vocabularies, and a tagger's settings.

    words, characters, columns: entries. features: how many, without the one for none. tags: K.
    word_size: numbers of a word's vector; the other names are settings.
    """

    words: int
    characters: int
    columns: tuple[int, ...]
    features: int
    tags: int
    allowed: Allowed | None
    word_size: int
    settings: Mapping[str, Any]


class TagNet(nn.Module):
    """Scores of tags for every token, and the chain over them.

    The layer reads a word's vector, the one made from its characters, and those of further columns.
    Features add to the scores directly. Without layers, they are all that there is.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        settings = shape.settings
        self.layer: Recurrent | None = None
        self.characters: Characters | None = None
        if settings["num_layers"]:
            self._make_layer(shape)
        self.features: FeatureScores | None = None
        if shape.features:
            dropout = settings["feature_dropout"]
            self.features = FeatureScores(shape.features, shape.tags, dropout)
        self.bias = nn.Parameter(torch.zeros(shape.tags))
        self.crf: CRF | None = None
        if settings["output"] == "crf":
            self.crf = CRF(shape.tags, allowed=shape.allowed)

    def _make_layer(self, shape: Shape) -> None:
        settings = shape.settings
        self.words = nn.Embedding(shape.words, shape.word_size, padding_idx=0, sparse=True)
        spread_(self.words)
        size = shape.word_size
        kind = settings["characters"]
        if kind is not None:
            sizes = settings["character_size"], settings["character_units"]
            self.characters = KINDS[kind](shape.characters, *sizes, settings["dropout"])
            size += self.characters.output_size
        self.columns = nn.ModuleList(
            nn.Embedding(count, settings["input_size"], padding_idx=0) for count in shape.columns
        )
        for table in self.columns:
            spread_(table)
        size += settings["input_size"] * len(shape.columns)
        self.layer = make_layer(settings, size)
        width = settings["hidden_size"] * (1 + settings["bidirectional"])
        self.emit = nn.Linear(width, shape.tags, bias=False)

    def spell(self, characters: Tensor, lengths: Tensor) -> Tensor | None:
        """The vectors of words from their characters, `[U, C]`, where there are such."""
        return None if self.characters is None else self.characters(characters, lengths)

    def forward(self, batch: Batch, spelled: Tensor | None = None) -> Tensor:
        """The scores of tags, `[T, B, K]`.

        Arguments:
            spelled: what `spell` gives for the batch, if it is known already.
        """
        scores = self.bias.expand(*batch.word_at.shape, -1)
        if self.layer is not None:
            scores = scores + self.emit(self._read(batch, spelled))
        if self.features is not None:
            scores = scores + self.features(batch)
        return scores

    def _read(self, batch: Batch, spelled: Tensor | None) -> Tensor:
        assert self.layer is not None
        parts = [take(self.words(batch.words), batch.word_at)]
        if spelled is None:
            spelled = self.spell(batch.characters, batch.spelled)
        if spelled is not None:
            parts.append(take(spelled, batch.form_at))
        for table, ids in zip(self.columns, batch.columns, strict=True):
            if self.training:
                hidden = dropped(ids.shape, HIDDEN_LABELS)
                ids = ids.masked_fill(hidden.to(ids.device), 1)
            parts.append(table(ids))
        return self.layer(torch.cat(parts, 2), lengths=batch.lengths)[0]

    def likelihood(self, scores: Tensor, batch: Batch) -> Tensor:
        """The logarithm of the probability of the tags, summed over all sentences."""
        if self.crf is not None:
            return self.crf(scores, batch.tags, lengths=batch.lengths).sum()
        flat = scores.flatten(0, 1)
        return -functional.cross_entropy(
            flat, batch.tags.flatten(), ignore_index=-1, reduction="sum"
        )

    def decode(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """The most likely tags, `[T, B]`; what stands beyond the end of a row means nothing."""
        return scores.argmax(2) if self.crf is None else self.crf.decode(scores, lengths=lengths)

    def marginals(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """The probability of each tag at each step, `[T, B, K]`."""
        return (
            scores.softmax(2) if self.crf is None else self.crf.marginals(scores, lengths=lengths)
        )


class FeatureScores(nn.Module):
    """What features add to the scores of tags: a row of K numbers each, which begin at zero."""

    def __init__(self, count: int, tags: int, dropout: float) -> None:
        super().__init__()
        self.table = nn.Embedding(count + 1, tags, sparse=True)
        nn.init.zeros_(self.table.weight)
        self.dropout = dropout

    def forward(self, batch: Batch) -> Tensor:
        """Scores, `[T, B, K]`."""
        rows = self.table(batch.rows)
        steps, count = batch.form_at.shape
        found = self._sum(batch.context.flatten(0, 1), rows).view(steps, count, -1)
        if batch.spelling.shape[1]:
            found = found + take(self._sum(batch.spelling, rows), batch.form_at)
        return found

    def _sum(self, places: Tensor, rows: Tensor) -> Tensor:
        """The sums of some rows each, `[n, K]`, of `places` `[n, X]`."""
        if not places.shape[1]:
            return rows.new_zeros(len(places), rows.shape[1])
        scale = 1.0
        if self.training and self.dropout:
            gone = dropped(places.shape, self.dropout)
            places = places.masked_fill(gone.to(places.device), 0)
            scale = 1 / (1 - self.dropout)
        return functional.embedding_bag(places, rows, mode="sum", padding_idx=0) * scale


def take(rows: Tensor, at: Tensor) -> Tensor:
    """Rows, `[n, F]`, by their numbers `[T, B]`, as `[T, B, F]`."""
    return rows.index_select(0, at.flatten()).view(*at.shape, -1)


def spread_(table: nn.Module) -> None:
    """Vectors from U(-s, s), s such that they are as long whatever their size; padding is zero."""
    weight: Any = table.weight
    bound = (3 / weight.shape[1]) ** 0.5
    with torch.no_grad():
        weight.uniform_(-bound, bound)
        weight[0] = 0.0


def make_layer(settings: Mapping[str, Any], size: int) -> Recurrent:
    """The recurrent layer over vectors of `size` numbers.

    Raises `DataError` for a cell that cannot do what the settings ask.
    """
    options: dict[str, Any] = {
        "input_dropout": settings["dropout"],
        "output_dropout": settings["dropout"],
        **(settings["options"] or {}),
    }
    if settings["cell"] == "lstm":
        options.setdefault("forget_bias", 1.0)
    try:
        return Recurrent(
            settings["cell"],
            size,
            settings["hidden_size"],
            settings["num_layers"],
            bidirectional=settings["bidirectional"],
            **options,
        )
    except (TypeError, ValueError) as error:
        raise DataError(f"cell={settings['cell']!r}, options={options}: {error}") from error
