"""Sentences as numbers: what a tagger knows of words, and what a batch is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.text import Vocabulary
from holdfast.tasks.tag.features import context_keys, frequent, numbers_of, spelling_keys
from holdfast.tasks.tag.labels import Labels
from holdfast.tasks.tag.sentences import Sentences
from holdfast.tasks.tag.words import Forms, Normal, hashed, number_forms

UNKNOWN = 1
"""The number of the unknown word, character and label in every vocabulary."""


@dataclass(frozen=True, eq=False)
class Lexicon:
    """Everything that turns texts into numbers, learned from training data.

    columns: a vocabulary for each further input. keys: of the features, see `features`. kinds: of
    features, of `features.KINDS`.
    """

    normal: Normal
    words: Vocabulary
    characters: Vocabulary
    columns: Mapping[str, Vocabulary]
    labels: Labels
    keys: np.ndarray
    kinds: tuple[str, ...] = ()

    @classmethod
    def learn(cls, sentences: Sentences, labels: Labels, settings: Mapping[str, Any]) -> Lexicon:
        """The lexicon of training data, by a tagger's settings."""
        normal = Normal(settings["lower"], settings["digits"])
        words = Vocabulary.build(
            ([normal(word) for word in row] for row in sentences.words),
            min_count=settings["min_count"],
            max_size=settings["max_words"],
        )
        characters = Vocabulary.build(word for row in sentences.words for word in row)
        columns = {name: Vocabulary.build(column) for name, column in sentences.inputs.items()}
        kinds = tuple(settings["features"])
        lexicon = cls(normal, words, characters, columns, labels, np.zeros(0, np.uint64), kinds)
        if not kinds:
            return lexicon
        forms, tokens = number_forms(sentences.words, normal, words, characters)
        times = np.bincount(tokens, minlength=len(forms.names))
        found = lexicon._found(sentences, forms, tokens, _starts(sentences))
        keys = frequent([(found[0], times), (found[1], None)], settings["feature_count"])
        return replace(lexicon, keys=keys)

    def encode(self, sentences: Sentences, tags: np.ndarray | None = None) -> Encoded:
        """Sentences as numbers, with the numbers of their `tags`, `[N]`, where they are known."""
        forms, tokens = number_forms(sentences.words, self.normal, self.words, self.characters)
        columns = [
            np.array(vocabulary.encode(chain.from_iterable(sentences.inputs[name])), np.int64)
            for name, vocabulary in self.columns.items()
        ]
        starts = _starts(sentences)
        spelling, context = self._found(sentences, forms, tokens, starts)
        return Encoded(
            forms=forms,
            tokens=tokens,
            columns=np.stack(columns) if columns else np.zeros((0, len(tokens)), np.int64),
            spelling=numbers_of(spelling, self.keys),
            context=numbers_of(context, self.keys),
            starts=starts,
            tags=tags,
        )

    def _found(
        self, sentences: Sentences, forms: Forms, tokens: np.ndarray, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The features of words, `[F, S]`, and of tokens, `[N, X]`, that are used."""
        spelling = np.zeros((len(forms.names), 0), np.uint64)
        if "spelling" in self.kinds:
            spelling = spelling_keys(forms)
        columns = {}
        if "words" in self.kinds:
            columns[""] = forms.hashes()[tokens]
        if "inputs" in self.kinds:
            for name, rows in sentences.inputs.items():
                known: dict[str, int] = {}
                at = [known.setdefault(text, len(known)) for row in rows for text in row]
                columns[name] = np.array([hashed(text) for text in known], np.uint64)[at]
        return spelling, context_keys(columns, starts)


def _starts(sentences: Sentences) -> np.ndarray:
    return np.cumsum([0, *map(len, sentences.words)])


@dataclass(frozen=True, eq=False)
class Batch:
    """What the network reads, and the tags that it should find.

    lengths: of the B sentences, `[B]`. words: the distinct ones, `[V]`; word_at: which of them each
    token is, `[T, B]`. characters, spelled: of U distinct spellings, `[L, U]`, and how many
    characters they have, `[U]`; form_at: which of them each token has, `[T, B]`. columns:
    `[C, T, B]`. rows: the distinct features, `[R]`, 0 the first; spelling: which of them are those
    of each spelling, `[U, S]`; context: and of each token, `[T, B, X]`. tags: `[T, B]`, -1 where
    they are not known.
    """

    lengths: Tensor
    words: Tensor
    word_at: Tensor
    characters: Tensor
    spelled: Tensor
    form_at: Tensor
    columns: Tensor
    rows: Tensor
    spelling: Tensor
    context: Tensor
    tags: Tensor

    def to(self, device: str) -> Batch:
        """The same on another device; lengths of spellings stay where PyTorch wants them."""
        if device == "cpu":
            return self
        moved = {field.name: getattr(self, field.name).to(device) for field in fields(self)}
        return Batch(**{**moved, "spelled": self.spelled})


@dataclass(frozen=True, eq=False)
class Encoded:
    """Sentences as numbers, all tokens in a row.

    tokens: which of the `forms` each is, `[N]`. columns: labels of further inputs, `[C, N]`.
    spelling: features of each form, `[F, S]`. context: features of each token, `[N, X]`. starts:
    where sentences begin, `[S + 1]`. tags: `[N]`, or None.
    """

    forms: Forms
    tokens: np.ndarray
    columns: np.ndarray
    spelling: np.ndarray
    context: np.ndarray
    starts: np.ndarray
    tags: np.ndarray | None

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each sentence."""
        return np.diff(self.starts)

    def batch(self, numbers: np.ndarray, hidden: np.ndarray | None = None) -> Batch:
        """The sentences of these numbers as a batch.

        Arguments:
            hidden: for each token of the whole the probability with which its word is taken for an
                unknown one, `[N]`; drawn from PyTorch's CPU generator.
        """
        at, there, lengths = self._places(numbers)
        if not len(self.tokens):
            return _blank(lengths, len(self.columns), self.spelling, self.context)
        forms, form_at = np.unique(self.tokens[at], return_inverse=True)
        words = self.forms.words[self.tokens[at]]
        if hidden is not None:
            words = np.where(torch.rand(at.shape).numpy() < hidden[at], UNKNOWN, words)
        distinct, word_at = np.unique(words, return_inverse=True)
        characters, spelled = self.forms.spelled(forms)
        rows, spelling, context = self._features(forms, at)
        tags = np.full(at.shape, -1) if self.tags is None else np.where(there, self.tags[at], -1)
        return Batch(
            lengths=torch.from_numpy(lengths),
            words=torch.from_numpy(distinct),
            word_at=torch.from_numpy(word_at.reshape(at.shape)),
            characters=torch.from_numpy(characters),
            spelled=torch.from_numpy(spelled),
            form_at=torch.from_numpy(form_at.reshape(at.shape)),
            columns=torch.from_numpy(self.columns[:, at]),
            rows=torch.from_numpy(rows),
            spelling=torch.from_numpy(spelling),
            context=torch.from_numpy(context),
            tags=torch.from_numpy(tags),
        )

    def forms_of(self, numbers: np.ndarray) -> np.ndarray:
        """The distinct words in the batch of these sentences, in the order of its spellings."""
        return np.unique(self.tokens[self._places(numbers)[0]])

    def _places(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which token stands where in a batch, `[T, B]`, where there is one, and the lengths."""
        lengths = self.lengths[numbers]
        steps = np.arange(max(1, int(lengths.max(initial=0))))[:, None]
        there = steps < lengths
        return np.where(there, self.starts[numbers] + steps, 0), there, lengths

    def _features(
        self, forms: np.ndarray, at: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        spelling, context = self.spelling[forms], self.context[at]
        if not spelling.size + context.size:
            return np.zeros(1, np.int64), spelling, context
        whole = np.concatenate([[0], spelling.ravel(), context.ravel()])
        rows, places = np.unique(whole, return_inverse=True)
        places = places.ravel()[1:]
        first, second = places[: spelling.size], places[spelling.size :]
        return rows, first.reshape(spelling.shape), second.reshape(context.shape)


def _blank(lengths: np.ndarray, columns: int, spelling: np.ndarray, context: np.ndarray) -> Batch:
    """A batch of sentences without any token."""
    none = torch.zeros(1, len(lengths), dtype=torch.int64)
    one = torch.zeros(1, dtype=torch.int64)
    return Batch(
        lengths=torch.from_numpy(lengths),
        words=one,
        word_at=none,
        characters=torch.zeros(1, 1, dtype=torch.int64),
        spelled=one + 1,
        form_at=none,
        columns=none.expand(columns, -1, -1),
        rows=one,
        spelling=one.expand(1, spelling.shape[1]),
        context=none.unsqueeze(2).expand(-1, -1, context.shape[1]),
        tags=none - 1,
    )


def counts_of(encoded: Encoded, size: int) -> np.ndarray:
    """How often each word of a vocabulary of that size occurs, `[V]`."""
    return np.bincount(encoded.forms.words[encoded.tokens], minlength=size)
