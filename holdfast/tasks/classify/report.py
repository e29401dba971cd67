"""The report of any classifier: how good it is, what it reads, how it learned, in one HTML file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from holdfast.tasks import page
from holdfast.tasks.classify import figures
from holdfast.tasks.classify.card import calibration_sentence, facts
from holdfast.tasks.classify.estimator import SequenceClassifier
from holdfast.tasks.classify.evaluate import OURS, Evaluation, show
from holdfast.tasks.classify.metrics import SCORES

LESS_IS_BETTER = ("log loss", "calibration error")
EACH = 2
"""Examples of each kind that are explained."""
NOTE = (
    "Accuracy and F1 are in percent; macro F1 is the mean over the classes; log loss is natural. "
    "The calibration error is how far probabilities are from how often they are right. The best "
    "value of each column is shaded."
)


def report(model: SequenceClassifier, evaluation: Evaluation, warned: Sequence[str] = ()) -> str:
    """The page of a fitted model and its scores; `warned` are warnings given on the way."""
    counts = f"{len(evaluation.truth):,} examples, {len(evaluation.labels.classes)} classes"
    parts = [
        page.cards(_first_facts(model, evaluation)),
        page.warnings_section(_warnings(evaluation, warned)),
        page.section("Scores", _scores(evaluation), page.note(NOTE), *_notes(evaluation)),
        page.beside(
            page.section(
                "Classes",
                page.picture(
                    figures.confusion_figure(evaluation), _said_of_classes(evaluation), wide=False
                ),
            ),
            page.section(
                "Reliability",
                page.picture(
                    figures.reliability_figure(evaluation),
                    "how often answers are right, by the probability that was said",
                    wide=False,
                ),
                page.note("On the dashed line, probabilities are right; below, they are too sure."),
            ),
        ),
        page.section("By class", _by_class(evaluation)),
        page.section("What it reads", *_explained(model, evaluation)),
        page.section(
            "Learning curve",
            page.picture(
                figures.learning_figure(model),
                f"loss and accuracy by epoch; the weights of epoch {model.best_epoch_} are kept",
            ),
            page.note(calibration_sentence(model.config())),
        ),
        page.section("Data", page.facts(facts(model.data_))),
        page.section("Settings", page.facts({n: repr(v) for n, v in model.get_params().items()})),
    ]
    return page.page("A classifier and its answers", counts, parts)


def _first_facts(model: SequenceClassifier, evaluation: Evaluation) -> list[tuple[str, str]]:
    ours = evaluation.scores[OURS]
    margin = f"± {100 * evaluation.margin:.1f}"
    members = f", {model.members} networks" if model.members > 1 else ""
    return [
        (f"{show('accuracy', ours['accuracy'])} %", f"accuracy, {margin} points (95 %)"),
        (f"{show('macro F1', ours['macro F1'])} %", "macro F1"),
        (f"{ours['calibration error']:.3f}", "calibration error"),
        (f"{len(model.history_)}", f"epochs, best {model.best_epoch_}{members}"),
    ]


def _warnings(evaluation: Evaluation, warned: Sequence[str]) -> list[str]:
    found = [*warned, evaluation.verdict]
    sentences = [words.rstrip(".") + "." for words in found if words]
    return list(dict.fromkeys(words[0].upper() + words[1:] for words in sentences))


def _notes(evaluation: Evaluation) -> list[str]:
    return [page.note(f"{note[0].upper()}{note[1:]}.") for note in evaluation.notes]


def _scores(evaluation: Evaluation) -> str:
    methods = list(evaluation.scores)
    rows = [[m, *(show(n, evaluation.scores[m][n]) for n in SCORES)] for m in methods]
    best = []
    for column, name in enumerate(SCORES, 1):
        values = np.array([evaluation.scores[method][name] for method in methods])
        top = values.min() if name in LESS_IS_BETTER else values.max()
        best += [(int(row), column) for row in np.flatnonzero(values == top)]
    return page.table("Scores by method", ("method", *SCORES), rows, best, methods.index(OURS))


def _by_class(evaluation: Evaluation) -> str:
    rows = [
        [
            str(label),
            *(f"{100 * v:.1f}" for v in (row.precision, row.recall, row.f1)),
            f"{row.support:,}",
        ]
        for label, row in zip(evaluation.labels.classes, evaluation.rows, strict=True)
        if row is not None
    ]
    head = ("class", "precision", "recall", "F1", "examples")
    return page.table("Precision, recall and F1 of every class", head, rows)


def _said_of_classes(evaluation: Evaluation) -> str:
    if evaluation.labels.several:
        return "F1 of every label"
    return "which class was taken for which"


def _explained(model: SequenceClassifier, evaluation: Evaluation) -> list[str]:
    """Some examples with what speaks for the answer: sure and right, sure and wrong, unsure."""
    truth, found = evaluation.truth, evaluation.found
    right = evaluation.said == truth if truth.ndim == 1 else (evaluation.said == truth).all(1)
    sure = found.max(1)
    order = np.argsort(-sure, kind="stable")
    kinds = (
        ("Sure, and right", order[right[order]][:EACH]),
        ("Sure, and wrong", order[~right[order]][:EACH]),
        ("Least sure", order[::-1][:EACH]),
    )
    parts = [
        page.note(
            "Blue speaks for the label, orange against it: integrated gradients of its log-odds, "
            "from an input of zeros to the example. The deeper the color, the more."
        )
    ]
    for kind, places in kinds:
        for at, one in zip(places, model.explain(evaluation.examples.take(places)), strict=True):
            words = f"{kind}: {one.label} with {100 * one.probability:.1f} %"
            if truth.ndim == 1:
                words += f", is {evaluation.labels.classes[truth[at]]}"
            gain = one.value - one.baseline
            odds = f"log-odds {gain:+.2f} from zeros, missed by {one.error:+.4f}"
            parts.append(page.paragraph(f"{words} ({odds})."))
            if one.tokens:
                parts.append(one.html())
            if one.numbers is not None and evaluation.examples.series is not None:
                figure = figures.attribution_figure(one, evaluation.examples.series[at])
                parts.append(page.picture(figure, f"the channels of an example, {words}"))
    return parts
