"""From pairs of texts to trained networks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from holdfast.errors import DataError, LongTextWarning
from holdfast.nn.sampling import Sampling
from holdfast.tasks.checkpoint import Progress, Run
from holdfast.tasks.trainer import Plan, Trainer
from holdfast.tasks.translate.codec import Codec
from holdfast.tasks.translate.corpus import Corpus, make_corpus
from holdfast.tasks.translate.network import STRIDE, new_network
from holdfast.tasks.translate.pairs import Pairs
from holdfast.tasks.translate.scores import bleu
from holdfast.tasks.translate.searching import search
from holdfast.tasks.translate.settings import FREE_TO_CHANGE, least_count, never_said
from holdfast.tasks.translate.training import Translating


@dataclass(frozen=True)
class Fitted:
    """What training leaves: the codecs of both sides, the networks, their losses, the counts."""

    source: Codec
    target: Codec
    nets: nn.ModuleList
    progress: list[Progress]
    data: dict[str, Any]


def fit_networks(settings: dict[str, Any], pairs: Pairs, watched: Pairs | None, run: Run) -> Fitted:
    """Train the networks of a translator, one for each of its members."""
    identity = {k: v for k, v in settings.items() if k not in FREE_TO_CHANGE}
    identity["data"] = pairs.digest
    identity["watched"] = watched.digest if watched is not None else ""
    training, held = pairs.whole(), None if watched is None else watched.whole()
    blank = len(pairs) - len(training)
    if not len(training):
        raise DataError(f"{pairs.name}: every pair has an empty side; there is nothing to learn")
    if held is None:
        training, held = training.split(settings["validation"], settings["seed"])
    if not len(held):
        raise DataError(f"{held.name}: every pair to watch has an empty side")
    source, target = learn_codecs(training, settings)
    corpus = make_corpus(training, source, target, settings["max_length"])
    _tell_of_long(corpus, training, settings["max_length"])
    seen = make_corpus(held, source, target, settings["max_length"])
    if not len(corpus) or not len(seen):
        raise DataError(
            f"{pairs.name}: no pair has at most max_length={settings['max_length']} pieces on both "
            "sides; raise it, or cut the texts"
        )
    nets, progresses = nn.ModuleList(), []
    for member in range(settings["members"]):
        watch = Watch(held, source, target, settings)
        net, progress = _fit_member(settings, identity, corpus, seen, watch, run, member)
        nets.append(net)
        progresses.append(progress)
    data = {
        "name": pairs.name,
        "sha256": pairs.digest,
        "pairs": len(corpus),
        "watched": len(seen),
        "watched_from": "a share of the pairs" if watched is None else held.name,
        "blank": blank,
        "long": len(corpus.left_out),
        "source_pieces": sum(map(len, corpus.sources)),
        "target_pieces": sum(map(len, corpus.targets)),
    }
    return Fitted(source, target, nets, progresses, data)


def learn_codecs(pairs: Pairs, settings: Mapping[str, Any]) -> tuple[Codec, Codec]:
    """The pieces of both sides; the same for both where they are joint."""
    how: dict[str, Any] = {
        "level": settings["level"],
        "size": settings["vocabulary"],
        "kind": settings["subwords"],
        "min_count": least_count(settings),
        "lower_case": settings["lower_case"],
    }
    if settings["joint"]:
        both = Codec.learn([*pairs.sources, *pairs.targets], **how)
        return both, both
    return Codec.learn(pairs.sources, **how), Codec.learn(pairs.targets, **how)


@dataclass(frozen=True)
class Watch:
    """What the pairs that are watched are translated to while training, greedily, and its BLEU."""

    pairs: Pairs
    source: Codec
    target: Codec
    settings: Mapping[str, Any]

    def __call__(self, net: Any) -> float:
        """BLEU of a network in evaluation mode."""
        settings = self.settings
        found = search(
            [net],
            self.source.encode_all(self.pairs.sources),
            Sampling(temperature=0, banned=never_said(settings)),
            batch_size=settings["batch_size"],
            device=settings["device"],
        )
        said = [self.target.decode(one[0].ids) for one in found]
        return bleu(said, self.pairs.targets, lower_case=settings["lower_case"]).score


def _fit_member(
    settings: dict[str, Any],
    identity: dict[str, Any],
    corpus: Corpus,
    watched: Corpus,
    watch: Watch,
    run: Run,
    member: int,
) -> tuple[nn.Module, Progress]:
    """Train one network."""
    identity = {**identity, "member": member}
    progress = run.progress(identity, member)
    net = new_network(settings, len(watch.source), len(watch.target), member)
    seed = settings["seed"] + STRIDE * member
    own = {**settings, "seed": seed}
    watching = watch if settings["watch"] == "bleu" else None
    work = Translating(net, corpus, watched, own, watching)
    plan = Plan.of(settings, seed=seed)
    trained = Trainer(work, plan, progress).run(run.file(member), run.report)
    return trained.cpu(), progress


def _tell_of_long(corpus: Corpus, pairs: Pairs, longest: int) -> None:
    if not corpus.left_out:
        return
    first = ", ".join(map(str, corpus.left_out[:3]))
    warnings.warn(
        f"{pairs.name}: {len(corpus.left_out)} pairs have more than max_length={longest} pieces on "
        f"a side and are left out of training (pair {first}{', ...' * (len(corpus.left_out) > 3)})",
        LongTextWarning,
        stacklevel=3,
    )
