"""The page of any tagger: what it is, how good it is, what it confuses, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.data.text import ChunkScores
from holdfast.tasks import page
from holdfast.tasks.tag import figures
from holdfast.tasks.tag.estimator import Tagger
from holdfast.tasks.tag.evaluation import TagEvaluation
from holdfast.tasks.tag.sentences import Sentences

MOST_SHOWN, FEWEST, MOST = 3, 5, 30
LEAST_SURE = 200
"""Sentences at the beginning among which the least certain ones are looked for."""


def report(
    model: Tagger,
    sentences: Sentences,
    evaluation: TagEvaluation,
    *,
    warned: Sequence[str] = (),
) -> str:
    """The page of a fitted tagger, with its scores on `sentences`.

    `warned` are warnings that were given on the way. The page needs no other file, no network and
    no script.
    """
    network = f"{model.hidden_size} {model.cell} units" if model.num_layers else "features"
    lead = f"{len(model.classes_)} tags; {network}, {model.output}; scored on {sentences.name}."
    found = [*warned]
    if evaluation.new:
        listed = ", ".join(evaluation.new)
        found.append(f"Tags that training never saw, all of them missed: {listed}.")
    parts = [
        page.cards(_facts(model, evaluation)),
        page.warnings_section(found),
        page.section("Scores", _table(evaluation), page.note(_rules(evaluation))),
        page.section(
            "Which tags are confused",
            page.picture(
                figures.confusion_figure(evaluation), "share of each true tag's tokens by tag given"
            ),
        ),
        page.section("Where it hesitates", *_doubts(model, sentences)),
        page.section(
            "Learning curve",
            page.picture(
                figures.learning_figure(model),
                f"loss and score by epoch; the weights of epoch {model.best_epoch_} are kept",
            ),
        ),
        page.section("Data", page.facts({str(k): v for k, v in model.data_.items()})),
        page.section(
            "Settings", page.facts({name: repr(v) for name, v in model.get_params().items()})
        ),
    ]
    return page.page(f"Tagger of {model.column}", lead, parts)


def _facts(model: Tagger, evaluation: TagEvaluation) -> list[tuple[str, str]]:
    found = []
    if evaluation.chunks is not None:
        whole = evaluation.chunks.overall
        found.append((f"{100 * whole.f1:.2f}", f"F1 of {whole.there:,} chunks, by conlleval"))
    if evaluation.strict is not None:
        f1 = evaluation.strict.overall.f1
        found.append((f"{100 * f1:.2f}", f"F1 strictly by {evaluation.scheme}"))
    found.append((f"{evaluation.accuracy:.2%}", f"of {evaluation.tokens:,} tags right"))
    if evaluation.unknown.tokens:
        said = f"right of {evaluation.unknown.tokens:,} tokens whose word is new"
        found.append((f"{evaluation.unknown.accuracy:.2%}", said))
    found.append((str(len(model.history_)), f"epochs, best {model.best_epoch_}"))
    return found


def _table(evaluation: TagEvaluation) -> str:
    if evaluation.chunks is not None:
        return _chunks(evaluation.chunks)
    rows = []
    for tag, (right, given, there) in evaluation.by_tag.items():
        shares = right / given if given else 0.0, right / there if there else 0.0
        f1 = 2 * right / (given + there)
        rows.append([tag, *(f"{share:.2%}" for share in shares), f"{100 * f1:.2f}", f"{there:,}"])
    return page.table("Scores by tag", ("tag", "precision", "recall", "F1", "tokens"), rows)


def _chunks(scores: ChunkScores) -> str:
    rows = []
    for kind, score in {"all": scores.overall, **scores.by_type}.items():
        shares = f"{score.precision:.2%}", f"{score.recall:.2%}", f"{100 * score.f1:.2f}"
        rows.append([kind, *shares, f"{score.there:,}", f"{score.found:,}"])
    head = ("type", "precision", "recall", "F1", "true", "found")
    return page.table("Scores by type of chunk", head, rows, ours=0)


def _rules(evaluation: TagEvaluation) -> str:
    if evaluation.chunks is None:
        return "Tokens whose true tag is not known do not count."
    return (
        "By the rules of conlleval any tags make chunks; a chunk is right if its first token, its "
        "last and its type are. Strictly, only chunks count that are written as the scheme wants."
    )


def _doubts(model: Tagger, sentences: Sentences) -> list[str]:
    """Pictures of the sentences with the least certain tags among the first ones."""
    few = [
        number
        for number, words in enumerate(sentences.words[:LEAST_SURE])
        if FEWEST <= len(words) <= MOST
    ]
    if not few:
        return []
    chosen = sentences.take(few)
    tagged = model.tag(chosen.table, confidence=True)
    shares = model.predict_proba(chosen.table)
    sure = np.array([np.mean(one.confidence or [1.0]) for one in tagged])
    parts = []
    for number in np.argsort(sure, kind="stable")[:MOST_SHOWN]:
        one = tagged[number]
        figure = figures.sentence_figure(one.words, shares[number], model.classes_, one.tags)
        parts.append(page.picture(figure, " ".join(one.words)))
    return parts
