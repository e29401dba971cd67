"""The tagger: chunks of CoNLL-2000, parts of speech of English, and its speed."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import gate
from benchmarks.papers.folder import find, missing
from benchmarks.text.plain_tagger import PlainBatch, PlainTagger
from benchmarks.text.registry import Amount, Row, experiment
from benchmarks.timing import alternate
from holdfast.tasks import Tagger
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.tag.decoding import Decoder, Wanted
from holdfast.tasks.tag.encoded import Encoded, Lexicon
from holdfast.tasks.tag.fitting import divide, new_network
from holdfast.tasks.tag.labels import Labels
from holdfast.tasks.tag.sentences import Sentences
from holdfast.tasks.tag.training import Held, Tagging
from holdfast.tasks.trainer import Plan, Trainer

CONLL = "conll2000/conll2000.zip"
EWT = "ud_english_ewt"
KEEP = "HOLDFAST_KEEP"
"""A variable that names a folder in which trainings are kept, to go on after an interruption."""

FEATURES: dict[str, Any] = {
    "inputs": ("pos",),
    "features": ("spelling", "words", "inputs"),
    "feature_dropout": 0.3,
    "word_size": 50,
    "characters": None,
    "hidden_size": 100,
    "max_epochs": 6,
}
ROWS: dict[str, dict[str, Any]] = {
    "LSTM": {**FEATURES, "bidirectional": False, "output": "softmax"},
    "BI-LSTM": {**FEATURES, "output": "softmax"},
    "CRF": {**FEATURES, "num_layers": 0, "feature_dropout": 0.5, "max_epochs": 10},
    "LSTM-CRF": {**FEATURES, "bidirectional": False},
    "BI-LSTM-CRF": FEATURES,
    "BI-LSTM-CRF, characters": {
        **FEATURES,
        "word_size": 100,
        "characters": "lstm",
        "hidden_size": 150,
        "max_epochs": 16,
    },
}
"""The rows of Huang, Xu & Yu 2015, and one that also reads characters."""

PARTS: dict[str, Any] = {
    "column": "upos",
    "columns": ("form", "upos", "xpos"),
    "scheme": None,
    "hidden_size": 150,
    "character_units": 50,
    "features": ("spelling", "words"),
    "feature_dropout": 0.5,
    "max_epochs": 10,
}

QUICK = {"max_epochs": 1, "hidden_size": 8, "word_size": 8, "characters": None}
ROUNDS, TURN = 5, 2.0


@experiment(
    "tag-conll2000",
    "Chunks of CoNLL-2000: F1 on the test set, random embeddings",
    published=(
        "Huang, Xu & Yu 2015, table 2, random embeddings: LSTM 92.88, BI-LSTM 93.64, CRF 93.69, "
        "LSTM-CRF 93.80, BI-LSTM-CRF 94.13"
    ),
)
def chunks(amount: Amount) -> Iterator[Row]:
    """Every row of the paper's table, from the same features; the last 1,000 sentences validate."""
    archive = find(CONLL)
    if archive is None:
        yield Row("holdfast", note=missing(CONLL))
        return
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(archive).extractall(folder)
        files = {part: Path(folder) / "conll2000" / f"{part}.txt" for part in ("train", "test")}
        for name, settings in ROWS.items():
            settings = {**settings, **(QUICK if amount.quick else {})}
            found: dict[str, list[float]] = {"F1": [], "strict": [], "accuracy": [], "valid": []}
            for seed in amount.range(3):
                model = trained(
                    name, {**settings, "seed": seed, "validation": 1000}, files["train"]
                )
                scored = model.evaluate(files["test"])
                assert scored.chunks is not None
                assert scored.strict is not None
                best = model.history_[model.best_epoch_ - 1]
                found["F1"].append(100 * scored.chunks.overall.f1)
                found["strict"].append(100 * scored.strict.overall.f1)
                found["accuracy"].append(100 * scored.accuracy)
                found["valid"].append(100 * best["valid_f1"])
            yield Row(name, {n: tuple(v) for n, v in found.items()}, note=_note(settings))


@experiment(
    "tag-ewt",
    "Parts of speech (UPOS) of UD English EWT: accuracy on the test set, no pretrained vectors",
    published="a transformer (en_udv25_englishewt_trf): 96.94",
)
def parts(amount: Amount) -> Iterator[Row]:
    """Words and characters; the official development set chooses the epoch."""
    folder = find(EWT)
    if folder is None:
        yield Row("holdfast", note=missing(EWT))
        return
    train, dev, test = (
        folder / f"en_ewt-{part}.form-upos-xpos.tsv.xz" for part in ("train", "dev", "test")
    )
    settings = {**PARTS, **(QUICK if amount.quick else {})}
    found: dict[str, list[float]] = {"accuracy": [], "known words": [], "others": [], "valid": []}
    for seed in amount.range(3):
        model = trained("ewt", {**settings, "seed": seed}, train, dev)
        scored = model.evaluate(test)
        best = model.history_[model.best_epoch_ - 1]
        found["accuracy"].append(100 * scored.accuracy)
        found["known words"].append(100 * scored.known.accuracy)
        found["others"].append(100 * scored.unknown.accuracy)
        found["valid"].append(100 * best["valid_accuracy"])
    yield Row("BI-LSTM-CRF", {n: tuple(v) for n, v in found.items()}, note=_note(settings))


def trained(name: str, settings: dict[str, Any], train: Path, valid: Path | None = None) -> Tagger:
    """A tagger with these settings; kept, and gone on with, where `KEEP` names a folder."""
    kept = os.environ.get(KEEP)
    if not kept:
        return Tagger(**settings).fit(train, valid=valid)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
    place = Path(kept) / f"tag {name} {settings['seed']} {digest}".replace(" ", "-")
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        model, file = Tagger(**settings), place.with_name(place.name + ".checkpoint")
        model.fit(train, valid=valid, checkpoint=file, resume=True, report=_say(name))
        model.save(place)
        file.unlink()
    return Tagger.load(place)


def _say(name: str) -> Callable[[Progress], None]:
    def report(progress: Progress) -> None:
        row = progress.history[-1]
        score = row.get("valid_f1", row["valid_accuracy"])
        print(f"{name}: epoch {progress.epochs}, held out {100 * score:.2f}", flush=True)

    return report


def _note(settings: dict[str, Any]) -> str:
    """The settings that differ from the defaults."""
    usual = Tagger().get_params()
    changed = {name: value for name, value in settings.items() if usual[name] != value}
    return ", ".join(f"{name}={value!r}" for name, value in changed.items())


@experiment(
    "tag-speed",
    "BiLSTM-CRF with characters on CoNLL-2000: milliseconds a batch of 32 sentences",
    kind="speed",
)
def speed(amount: Amount) -> Iterator[Row]:
    """Training steps and decoding, beside a plain PyTorch BiLSTM-CRF of the same weights."""
    archive = find(CONLL)
    if archive is None:
        yield Row("holdfast", note=missing(CONLL))
        return
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(archive).extractall(folder)
        model = Tagger(validation=200, hidden_size=20 if amount.quick else 100)
        sentences = model.read(Path(folder) / "conll2000" / "train.txt", target=True)
        race = Race(model, sentences[:2200] if amount.quick else sentences)
    race.agree()
    rounds = 3 if amount.quick else ROUNDS
    found: dict[str, dict[str, tuple[float, ...]]] = {name: {} for name in ("ours", "plain")}
    for what, calls in (("train", race.training), ("decode", race.decoding)):
        timed = alternate(calls(), rounds, TURN)
        for name in found:
            times = timed[name].rounds.values()
            found[name][f"{what}, ms"] = tuple(1e3 * value for value in times)
        ratio = timed["ours"].ratio(timed["plain"])
        found["plain"][f"{what}, times ours"] = (ratio.low, ratio.median, ratio.high)
    yield Row(
        "holdfast Tagger",
        found["ours"],
        "a step as `Trainer` makes it: batch, loss, gradient, clip, Adam, average of the weights; "
        "decoding from token lists to tags",
    )
    yield Row(
        "plain PyTorch",
        found["plain"],
        "nn.LSTM on packed rows, a CRF in logarithms step by step, torch.optim.Adam; same weights, "
        "sizes and batches; in training its tensors are ready beforehand",
    )


class Race:
    """Our network and the plain one of the same weights, over the same batches."""

    def __init__(self, model: Tagger, sentences: Sentences) -> None:
        settings = model.get_params()
        training, held = divide(sentences, None, model.validation)
        labels = Labels.learn(training, None, model.output)
        self.lexicon = Lexicon.learn(training, labels, settings)
        self.encoded, self.held = (
            self.lexicon.encode(part, labels.encode(labels.inward(part)))
            for part in (training, held)
        )
        self.texts, self.trained = held, training
        self.net = new_network(settings, self.lexicon, model.word_size)
        self.plain = PlainTagger(self.net, model.dropout)
        self.work = Tagging(
            self.net,
            labels,
            self.encoded,
            Held(self.held, held.known()),
            model.batch_size,
            model.rare,
            0,
        )
        self.plan = Plan(learning_rate=1e-3, max_epochs=1, patience=1, seed=0, averaging=0.998)

    def plain_batch(
        self, sentences: Sentences, numbers: np.ndarray, tagged: Encoded | None = None
    ) -> PlainBatch:
        """Sentences as the plain one reads them, with their tags where they are learned."""
        words = [sentences.words[number] for number in numbers]
        tags: list[list[int]] = []
        if tagged is not None:
            assert tagged.tags is not None
            ends = zip(tagged.starts[numbers], tagged.starts[numbers + 1], strict=True)
            tags = [tagged.tags[start:end].tolist() for start, end in ends]
        return PlainBatch(self.lexicon, words, tags)

    def agree(self) -> None:
        """Refuse to measure where losses, gradients or tags differ."""
        self.net.eval()
        self.plain.eval()
        numbers = self.work.batches.epoch(0)[0]
        batch = self.encoded.batch(numbers)
        ours = -self.net.likelihood(self.net(batch), batch) / int(batch.lengths.sum())
        precise = PlainTagger(self.net, 0.0).double()
        plain = self.plain_batch(self.trained, numbers, self.encoded)
        theirs = precise.loss(plain)
        ours.backward()
        theirs.backward()
        assert self.net.layer is not None
        mine = self.net.layer.weight_hh_l0.grad  # type: ignore[union-attr] (a parameter)
        wanted = precise.layer.weight_hh_l0.grad
        assert isinstance(mine, torch.Tensor)
        assert isinstance(wanted, torch.Tensor)
        gate.check(
            "ours",
            {"loss": ours.detach(), "gradient": mine},
            {"loss": theirs.detach(), "gradient": wanted},
        )
        self.net.zero_grad()
        with torch.no_grad():
            found = self.net.decode(self.net(batch), batch.lengths).T.tolist()
            paths = precise.crf.decode(precise(plain), plain.mask)
        short = [row[:length] for row, length in zip(found, plain.lengths.tolist(), strict=True)]
        if short != paths:
            raise gate.GateError("ours found other tags than the plain one")

    def training(self) -> dict[str, Callable[[], object]]:
        """A step of each."""
        trainer = Trainer(self.work, self.plan, Progress({}))
        optimizer = torch.optim.Adam(self.plain.parameters(), lr=1e-3)
        batches = self.work.batches.epoch(0)[:40]
        ready = cycle([self.plain_batch(self.trained, n, self.encoded) for n in batches])
        mine = cycle(batches)

        def ours() -> None:
            self.work.order = 0, [next(mine)]
            trainer._train()

        def plain() -> None:
            self.plain.train()
            optimizer.zero_grad()
            self.plain.loss(next(ready)).backward()
            torch.nn.utils.clip_grad_norm_(self.plain.parameters(), 1.0)
            optimizer.step()

        return {"ours": ours, "plain": plain}

    def decoding(self) -> dict[str, Callable[[], object]]:
        """All held-out sentences by each."""
        decoder = Decoder(self.net.eval(), self.lexicon)
        self.plain.eval()
        sizes = np.argsort(-self.held.lengths, kind="stable")
        parts = np.array_split(sizes, max(1, len(sizes) // 32))
        names = self.lexicon.labels.tags

        @torch.no_grad()
        def plain() -> None:
            for part in parts:
                batch = self.plain_batch(self.texts, part)
                for path in self.plain.crf.decode(self.plain(batch), batch.mask):
                    [names[number] for number in path]

        def ours() -> None:
            for _ in decoder.run(self.texts, Wanted()):
                pass

        return {"ours": ours, "plain": plain}
