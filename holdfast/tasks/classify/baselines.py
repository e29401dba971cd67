"""The simplest things that could work: the most frequent class, and logistic regression."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from holdfast.data.examples import Examples
from holdfast.data.optional import require
from holdfast.data.text.words import split_words

TEXT = "TF-IDF + logistic regression"
NUMBERS = "mean, std, min, max + logistic regression"
BOTH = "TF-IDF, mean, std, min, max + logistic regression"
FREQUENT = "most frequent class"
STRENGTH = 10.0
"""C of the regression on words: 1 is too tight for short texts, by SST-2's dev set."""


class LinearBaseline:
    """Logistic regression of scikit-learn on TF-IDF of words and pairs of words, or on statistics.

    Of numbers it sees the mean, standard deviation, least and largest value of every channel,
    scaled. One regression, or one for each label where they are several.
    """

    def __init__(self, several: bool) -> None:
        self.several = several
        self.name = ""
        self.words: Any = None
        self.scaler: Any = None
        self.models: list[Any] = []

    def fit(self, examples: Examples, targets: Tensor) -> LinearBaseline:
        """Fit to examples, and classes `[n]` or labels `[n, K]`."""
        features = self._learn(examples)
        linear = require("sklearn.linear_model", "text")
        strength = STRENGTH if examples.texts is not None else 1.0
        self.name = TEXT if examples.series is None else NUMBERS
        if examples.series is not None and examples.texts is not None:
            self.name = BOTH
        rows = targets.numpy()
        for column in rows.T if self.several else [rows]:
            model = None
            if len(set(column.tolist())) > 1:
                model = linear.LogisticRegression(C=strength, max_iter=2000).fit(features, column)
            self.models.append(model or float(column[0]))
        return self

    def predict_proba(self, examples: Examples, count: int) -> np.ndarray:
        """Probabilities `[n, K]`, K = `count`; classes that it has not seen have none."""
        features = self._features(examples)
        found = np.zeros((len(examples), count))
        if not self.several:
            (model,) = self.models
            found[:, model.classes_.astype(int)] = model.predict_proba(features)
            return found
        for at, model in enumerate(self.models):
            constant = isinstance(model, float)
            found[:, at] = model if constant else model.predict_proba(features)[:, 1]
        return found

    def _learn(self, examples: Examples) -> Any:
        if examples.texts is not None:
            text = require("sklearn.feature_extraction.text", "text")
            self.words = text.TfidfVectorizer(
                tokenizer=split_words, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True
            ).fit(examples.texts)
        if examples.series is not None:
            preprocessing = require("sklearn.preprocessing", "text")
            self.scaler = preprocessing.StandardScaler().fit(statistics(examples.series))
        return self._features(examples)

    def _features(self, examples: Examples) -> Any:
        parts = []
        if self.words is not None:
            parts.append(self.words.transform(examples.texts))
        if self.scaler is not None:
            scaled = self.scaler.transform(statistics(examples.series or []))
            parts.append(np.nan_to_num(scaled))
        return (
            parts[0] if len(parts) == 1 else require("scipy.sparse", "text").hstack(parts).tocsr()
        )


def statistics(series: list[np.ndarray]) -> np.ndarray:
    """Mean, standard deviation, least and largest value of every channel, `(n, 4 I)`.

    A channel without any value has NaN.
    """
    rows = []
    for values in series:
        known = ~np.isnan(values)
        count = known.sum(0)
        some = np.maximum(count, 1)
        mean = np.where(known, values, 0).sum(0) / some
        spread = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / some)
        low = np.where(known, values, np.inf).min(0)
        high = np.where(known, values, -np.inf).max(0)
        found = np.stack([mean, spread, low, high])
        rows.append(np.where(count > 0, found, np.nan).reshape(-1))
    return np.array(rows)


def frequent(counts: np.ndarray, examples: int, rows: int, several: bool) -> np.ndarray:
    """What is said where nothing is read: how often each class was in training, `[n, K]`."""
    shares = counts / (examples if several else counts.sum())
    return np.tile(shares, (rows, 1))
