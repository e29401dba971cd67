"""From checked sentences to a trained network."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from holdfast.data.text import Vocabulary, WordVectors, read_vectors
from holdfast.errors import DataError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.tag.encoded import Lexicon
from holdfast.tasks.tag.labels import Labels
from holdfast.tasks.tag.net import Shape, TagNet
from holdfast.tasks.tag.sentences import Sentences
from holdfast.tasks.tag.settings import FREE_TO_CHANGE
from holdfast.tasks.tag.training import Held, Tagging
from holdfast.tasks.tag.words import Normal
from holdfast.tasks.trainer import Plan, Trainer


@dataclass(frozen=True)
class Fitted:
    """What training leaves: how texts become numbers, the network, its losses, and the data."""

    lexicon: Lexicon
    net: TagNet
    word_size: int
    progress: Progress
    data: dict[str, Any]


def fit_network(
    settings: dict[str, Any], sentences: Sentences, valid: Sentences | None, run: Run
) -> Fitted:
    """Train on sentences; without `valid`, their end is held out.

    Raises `DataError` for data that nothing can be learned from.
    """
    training, held_out = divide(sentences, valid, settings["validation"])
    labels = Labels.learn(training, settings["scheme"], settings["output"])
    lexicon = Lexicon.learn(training, labels, settings)
    vectors = None
    if settings["vectors"] is not None:
        vectors, words = with_vectors(settings["vectors"], lexicon.words, lexicon.normal)
        lexicon = Lexicon(**{**vars(lexicon), "words": words})
    word_size = settings["word_size"] if vectors is None else vectors.shape[1]
    data = facts_of(training, held_out, valid is not None)
    identity = {name: value for name, value in settings.items() if name not in FREE_TO_CHANGE}
    # As JSON has it: tuples and paths would differ from what the checkpoint gives back.
    identity = json.loads(json.dumps({**identity, "data": data["sha256"]}, default=str))
    progress = run.progress(identity)
    net = new_network(settings, lexicon, word_size)
    if vectors is not None and net.layer is not None:
        with torch.no_grad():
            net.words.weight.copy_(vectors)
    encoded = lexicon.encode(training, labels.encode(labels.inward(training)))
    held = Held(lexicon.encode(held_out, labels.encode(labels.inward(held_out))), held_out.known())
    work = Tagging(
        net,
        labels,
        encoded,
        held,
        settings["batch_size"],
        settings["rare"],
        settings["seed"],
        settings["device"],
    )
    trained = Trainer(work, Plan.of(settings), progress).run(run.checkpoint, run.report)
    trained.cpu()
    return Fitted(lexicon, net, word_size, progress, data)


def new_network(settings: dict[str, Any], lexicon: Lexicon, word_size: int) -> TagNet:
    """A network before training; its numbers come from the seed alone."""
    labels = lexicon.labels
    shape = Shape(
        words=len(lexicon.words),
        characters=len(lexicon.characters),
        columns=tuple(len(vocabulary) for vocabulary in lexicon.columns.values()),
        features=len(lexicon.keys),
        tags=len(labels.tags),
        allowed=labels.allowed,
        word_size=word_size,
        settings=settings,
    )
    with own_random_numbers():
        seed_everything_of_ours(settings["seed"], 0)
        return TagNet(shape)


def divide(
    sentences: Sentences, valid: Sentences | None, share: float | int
) -> tuple[Sentences, Sentences]:
    """Sentences to train on and sentences held out; those without a token are left out."""
    training, held = _filled(sentences), None if valid is None else _filled(valid)
    if held is None:
        count = len(training)
        last = share if isinstance(share, int) else max(1, round(share * count))
        if not 0 < last < count:
            raise DataError(
                f"{sentences.name}: {count} sentences, of which validation={share} holds out "
                f"{last}; give more sentences, or fewer of them"
            )
        training, held = training[: count - last], training[count - last :]
    for part in (training, held):
        if not len(part):
            raise DataError(f"{part.name}: there is no sentence with a token")
    return training, held


def _filled(sentences: Sentences) -> Sentences:
    if all(sentences.words):
        return sentences
    kept = [n for n, row in enumerate(sentences.words) if row]
    return sentences.take(kept)


def with_vectors(path: Any, words: Vocabulary, normal: Normal) -> tuple[torch.Tensor, Vocabulary]:
    """The vectors of words of training and of all others in a file, `[V, D]`, and all these words.

    A word is looked up as the tagger looks it up; of several spellings the first in the file
    counts.
    """
    vectors = read_vectors(path)
    first: dict[str, int] = {}
    for number, word in enumerate(vectors.words):
        first.setdefault(normal(word), number)
    rows = torch.tensor(list(first.values()))
    renamed = WordVectors(tuple(first), vectors.values[rows], vectors.name)
    more = [word for word in first if word not in words and word not in words.words]
    whole = Vocabulary((*words.words, *more), words.specials, words.unknown)
    return renamed.matrix(whole)[0], whole


def facts_of(training: Sentences, held_out: Sentences, given: bool) -> dict[str, Any]:
    """What is told of the data on the card."""
    digest = hashlib.sha256()
    for part in (training, held_out):
        for columns in zip(part.words, part.known(), *part.inputs.values(), strict=True):
            digest.update(json.dumps(columns).encode())
        digest.update(b"\n")
    return {
        "name": Path(training.name).name,
        "sha256": digest.hexdigest(),
        "sentences": len(training),
        "tokens": training.tokens,
        "held_out": Path(held_out.name).name if given else "the last sentences",
        "held_out_sentences": len(held_out),
        "held_out_tokens": held_out.tokens,
    }
