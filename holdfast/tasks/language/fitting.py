"""From texts to a trained network."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from holdfast.errors import DataError
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.language.net import LanguageNet
from holdfast.tasks.language.reading import Parts, Text
from holdfast.tasks.language.settings import FREE_TO_CHANGE, shape_of
from holdfast.tasks.language.starting import Start
from holdfast.tasks.language.tokens import Tokens, learn_tokens
from holdfast.tasks.language.training import LanguageWork
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.trainer import Plan, Trainer


@dataclass(frozen=True)
class Fitted:
    """What training leaves."""

    tokens: Tokens
    net: LanguageNet
    progress: Progress
    data: dict[str, Any]


def fit_network(
    settings: dict[str, Any],
    parts: Parts,
    run: Run,
    start: Start | None = None,
) -> Fitted:
    """Learn the tokens of a text, and train a network on it.

    Arguments:
        start: what to begin with; then the tokens are those of it.

    Errors: `DataError` for a text that is too short, `ModelError` for a checkpoint that does not
    fit.
    """
    if start is None:
        tokens = learn_tokens(parts.train.text, settings, parts.folder)
    else:
        tokens = start.tokens
    train, valid = (tokens.encode(part.text) for part in (parts.train, parts.valid))
    _check_length(parts.train, train, settings)
    if not len(valid):
        raise DataError(f"{parts.valid.name}: no token to watch; give more text")
    digest = hashlib.sha256()
    digest.update(parts.train.text.encode("utf-8", "surrogatepass"))
    digest.update(b"\0" + parts.valid.text.encode("utf-8", "surrogatepass"))
    identity = {k: v for k, v in settings.items() if k not in FREE_TO_CHANGE}
    # A schedule that goes down to the last epoch is another one when that moves.
    if settings["schedule"] in ("cosine", "linear"):
        identity["max_epochs"] = settings["max_epochs"]
    identity["data"] = digest.hexdigest()
    if start is not None:
        identity["start"] = start.digest
    progress = run.progress(identity)
    net = new_network(settings, len(tokens))
    if start is not None:
        net.load_state_dict(start.net.state_dict())
    work = LanguageWork(
        net,
        train,
        valid,
        rows=settings["batch_size"],
        begin=tokens.end,
        length=settings["steps"],
        random=settings["random_steps"],
        ar=settings["ar"],
        tar=settings["tar"],
        seed=settings["seed"],
        device=settings["device"],
    )
    trained = Trainer(work, Plan.of(settings), progress).run(run.checkpoint, run.report)
    data = {
        "name": Path(parts.train.name).name if parts.train.is_file else parts.train.name,
        "sha256": digest.hexdigest(),
        "characters": len(parts.train.text),
        "tokens": len(train),
        "unknown": int((train == tokens.unknown).sum()),
        "watched": len(valid),
        "watched_unknown": int((valid == tokens.unknown).sum()),
        "vocabulary": len(tokens),
    }
    if start is not None:
        data["start"] = identity["start"]
    assert isinstance(trained, LanguageNet)
    return Fitted(tokens, trained.cpu(), progress, data)


def new_network(settings: dict[str, Any], tokens: int) -> LanguageNet:
    """A network before training; its numbers come from the seed alone."""
    with own_random_numbers():
        seed_everything_of_ours(settings["seed"], 0)
        return LanguageNet(shape_of(settings, tokens))


def _check_length(text: Text, stream: np.ndarray, settings: dict[str, Any]) -> None:
    """Refuse a text of which a row would have no second token."""
    least = 2 * settings["batch_size"]
    if len(stream) < least:
        raise DataError(
            f"{text.name}: {len(stream)} tokens to train on are too few for batch_size="
            f"{settings['batch_size']} rows, which need {least}; give more text, or fewer rows"
        )
