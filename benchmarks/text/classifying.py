"""Classification: sentiment of sentences, exercises and motions from sensors, beside the simple."""

from __future__ import annotations

import io
import itertools
import lzma
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.papers.folder import find, missing
from benchmarks.text.registry import Amount, Row, experiment
from holdfast.data.examples import Examples, read_examples
from holdfast.data.text import read_lines
from holdfast.data.text.words import split_words
from holdfast.tasks import SequenceClassifier
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.classify.answers import chances, joint_scores
from holdfast.tasks.classify.baselines import NUMBERS, LinearBaseline
from holdfast.tasks.classify.metrics import all_scores

FEATURES = "TF-IDF of words and pairs + logistic regression"
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
MEMBERS = 3

# Each chosen on the dev part, by one network with it and one without.
SST2 = {
    "embedding_size": 200,
    "hidden_size": 100,
    "min_count": 2,
    "pooling": ("mean", "max"),
    "word_dropout": 0.3,
    "embedding_dropout": 0.3,
    "dropout": 0.5,
    "averaging": 0.99,
    "max_epochs": 10,
    "patience": 3,
    "monitor": "accuracy",
}
SENSORS = {
    "hidden_size": 64,
    "pooling": ("mean", "max"),
    "dropout": 0.3,
    "learning_rate": 2e-3,
    "averaging": 0.98,
    "max_epochs": 25,
    "patience": 8,
    "validation": 0.15,
}

WINDOW, STRIDE = 200, 100
"""Steps of a window at 50 Hz, four seconds, and from one to the next."""


@experiment(
    "classify-sst2",
    "SST-2, sentences alone, no pretrained vectors: test part of 1,821 sentences, in percent",
    published="An LSTM with GloVe vectors and the labels of phrases: 84.9 (Tai et al. 2015)",
)
def sst2(amount: Amount) -> Iterator[Row]:
    """The classifier, one network and several, beside a linear model on words."""
    if find("sst2") is None:
        yield Row("SST-2", note=missing("sst2"))
        return
    train, dev, test = (_sentences(part, amount) for part in ("train", "dev", "test"))
    settings = {**SST2, **({"max_epochs": 1, "members": 1} if amount.quick else {})}
    settings = {"members": MEMBERS, **settings}
    one: list[dict[str, float]] = []
    all_: list[dict[str, float]] = []
    for seed in amount.range(3):
        model = SequenceClassifier(**settings, seed=seed)
        model.fit(*train, held_out=dev, report=_told(f"sst2, seed {seed}"))
        encoded, truth = model.encode(read_examples(test[0])), np.array(test[1])
        for nets, kept in ((model.nets_[:1], one), (model.nets_, all_)):
            found = chances(joint_scores(nets, encoded, several=False), 1.0, several=False)
            kept.append(all_scores(found, found.argmax(1), truth))
            print(f"sst2, seed {seed}, {len(nets)} networks: {kept[-1]}", file=sys.stderr)
    note = ", ".join(f"{name} {value}" for name, value in SST2.items())
    yield Row("Holdfast, one network", _figures(one), f"{note}; the dev part chooses the epoch")
    yield Row(f"Holdfast, {settings['members']} networks", _figures(all_), "their mean probability")
    figures, strength = _linear(train, dev, test)
    said = f"C = {strength:g}, chosen on the dev part; fitted to the same sentences"
    yield Row(FEATURES, figures, said)


@experiment(
    "classify-watch",
    "Exercises from a watch, windows of 4 s, subjects left out in turn: accuracy, in percent",
    published="A convolutional and recurrent network: 88.9 on unseen subjects (Burns et al. 2018)",
)
def watch(amount: Amount) -> Iterator[Row]:
    """The classifier beside statistics of every channel; figures are one for each subject."""
    if find("har_watch") is None:
        yield Row("the watch", note=missing("har_watch"))
        return
    series, labels, subjects = _windows()
    people = sorted(set(subjects.tolist()))
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    for subject in people[: 1 if amount.quick else None]:
        out = subjects == subject
        train = [values for values, left in zip(series, out, strict=True) if not left]
        test = [values for values, left in zip(series, out, strict=True) if left]
        settings = {**SENSORS, **({"max_epochs": 1} if amount.quick else {})}
        model = SequenceClassifier(**settings, seed=0)
        model.fit(train, labels[~out], report=_told(f"watch, without subject {subject}"))
        found = model.predict_proba(test)
        ours.append(all_scores(found, found.argmax(1), labels[out]))
        theirs.append(_statistics(train, labels[~out], test, labels[out], labels.max() + 1))
        print(f"watch, subject {subject}: {ours[-1]} {theirs[-1]}", file=sys.stderr)
    note = ", ".join(f"{name} {value}" for name, value in SENSORS.items())
    yield Row("Holdfast", _figures(ours), f"{note}; one network, one figure for each subject")
    yield Row(NUMBERS, _figures(theirs), "one figure for each subject")


@experiment(
    "classify-motions",
    "BasicMotions, 40 sequences of 100 steps and 6 channels: test part of 40, in percent",
    published="MLSTM-FCN: 95.0 (Karim et al. 2019)",
)
def motions(amount: Amount) -> Iterator[Row]:
    """The classifier beside statistics of every channel."""
    if find("basic_motions") is None:
        yield Row("BasicMotions", note=missing("basic_motions"))
        return
    train, test = (_motions(part) for part in ("TRAIN", "TEST"))
    names = sorted(set(train[1]))
    truth = np.array([names.index(label) for label in test[1]])
    settings = {**SENSORS, "batch_size": 8, "validation": 0.2, "max_epochs": 60}
    settings |= {"patience": 20, **({"max_epochs": 1} if amount.quick else {})}
    ours = []
    for seed in amount.range(5):
        model = SequenceClassifier(**settings, seed=seed)
        found = model.fit(*train, report=_told(f"motions, seed {seed}")).predict_proba(test[0])
        ours.append(all_scores(found, found.argmax(1), truth))
    numbers = np.array([names.index(label) for label in train[1]])
    theirs = _statistics(train[0], numbers, test[0], truth, len(names))
    note = ", ".join(f"{name} {value}" for name, value in settings.items())
    yield Row("Holdfast", _figures(ours), f"{note}; one network")
    yield Row(NUMBERS, _figures([theirs]))


def _figures(scores: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Columns of figures, accuracy and F1 in percent."""
    columns = {"accuracy": 100, "macro F1": 100, "log loss": 1}
    return {name: tuple(by * row[name] for row in scores) for name, by in columns.items()}


def _told(what: str) -> Any:
    """Says on stderr where a training is: runs take minutes."""

    def report(progress: Progress) -> None:
        row = progress.history[-1]
        member = progress.identity["member"]
        print(
            f"{what}, network {member + 1}, epoch {progress.epochs}: held out "
            f"{row['valid_loss']:.4f}, accuracy {row['accuracy']:.4f}",
            file=sys.stderr,
            flush=True,
        )

    return report


def _sentences(part: str, amount: Amount) -> tuple[list[str], list[int]]:
    """Texts and labels of a part of SST-2."""
    lines = read_lines(_file("sst2", f"stsa.binary.{part}.xz"))
    pairs = [line.split(" ", 1) for line in lines if line]
    pairs = pairs[:200] if amount.quick else pairs
    return [text for _, text in pairs], [int(label) for label, _ in pairs]


def _linear(train: Any, dev: Any, test: Any) -> tuple[dict[str, tuple[float, ...]], float]:
    """scikit-learn's scores, with the strength that is best on the dev part."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    how: dict[str, Any] = {"tokenizer": split_words, "token_pattern": None, "ngram_range": (1, 2)}
    words = TfidfVectorizer(**how, sublinear_tf=True).fit(train[0])
    features, held, asked = (words.transform(part[0]) for part in (train, dev, test))
    models = [
        LogisticRegression(C=strength, max_iter=2000).fit(features, train[1])
        for strength in STRENGTHS
    ]
    best = max(range(len(models)), key=lambda at: models[at].score(held, dev[1]))
    found = models[best].predict_proba(asked)
    return _figures([all_scores(found, found.argmax(1), np.array(test[1]))]), STRENGTHS[best]


def _file(folder: str, name: str) -> Path:
    """A file of a data set that is there."""
    found = find(f"{folder}/{name}")
    assert found is not None, f"there is no {name} in {folder}"
    return found


def _statistics(train: Any, labels: np.ndarray, test: Any, truth: np.ndarray, count: int) -> Any:
    model = LinearBaseline(several=False)
    model.fit(_series(train), torch.from_numpy(labels))
    found = model.predict_proba(_series(test), int(count))
    return all_scores(found, found.argmax(1), truth)


def _series(values: Sequence[np.ndarray]) -> Examples:
    return read_examples(list(values))


def _windows() -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Windows `[200, 6]` of the watch's recordings, their exercises and their subjects."""
    content = lzma.decompress(_file("har_watch", "watch.npz.xz").read_bytes())
    file = np.load(io.BytesIO(content), allow_pickle=False)
    series, labels, subjects = [], [], []
    offsets = file["offsets"]
    for at, (first, last) in enumerate(itertools.pairwise(offsets)):
        for begin in range(int(first), int(last) - WINDOW + 1, STRIDE):
            series.append(file["X"][begin : begin + WINDOW].astype(np.float64))
            labels.append(int(file["y"][at]))
            subjects.append(int(file["subject"][at]))
    return series, np.array(labels), np.array(subjects)


def _motions(part: str) -> tuple[list[np.ndarray], list[str]]:
    """Sequences `[100, 6]` and labels of a part of BasicMotions; colons part dimensions."""
    series, labels = [], []
    for line in read_lines(_file("basic_motions", f"BasicMotions_{part}.ts.xz")):
        if not line.strip() or line.startswith(("#", "@")):
            continue
        *channels, label = line.split(":")
        series.append(np.array([[float(v) for v in one.split(",")] for one in channels]).T)
        labels.append(label.strip())
    return series, labels
