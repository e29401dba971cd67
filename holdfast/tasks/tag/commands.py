"""What the steps of ``holdfast tag`` do, given their parsed arguments."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import tee
from pathlib import Path
from typing import Any

from holdfast.data.atomic import growing_file, write_file
from holdfast.data.text import split_words
from holdfast.data.text.columns import conll_sentences
from holdfast.data.text.lines import numbered
from holdfast.errors import DataError
from holdfast.tasks import plots
from holdfast.tasks.attempt import Attempt
from holdfast.tasks.command import (
    INTERRUPTED,
    NOTHING_LEFT,
    check_suffix,
    kept_warnings,
    uninterrupted,
)
from holdfast.tasks.progress import training_bar, working
from holdfast.tasks.tag import figures
from holdfast.tasks.tag.decoding import Tagged
from holdfast.tasks.tag.estimator import Tagger
from holdfast.tasks.tag.report import report

PAGES = (".html", ".htm")
STDIN = "-"


def fit(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Train, and write the model folder in one step."""
    check_suffix(arguments.report, "--report", PAGES)
    if arguments.report and not arguments.valid:
        raise DataError("--report needs sentences to score; give --valid FILE")
    attempt = Attempt(Path(arguments.out), arguments.resume, arguments.restart)
    if attempt.finished():
        print(NOTHING_LEFT.format(attempt.out))
        return 0
    model = Tagger(**settings)

    def train() -> None:
        with training_bar(model) as watcher:
            model.fit(
                arguments.file,
                valid=arguments.valid,
                checkpoint=attempt.checkpoint,
                resume=arguments.resume,
                report=watcher,
            )

    with kept_warnings() as warned:
        if not uninterrupted(attempt, train):
            return INTERRUPTED
    model.save(attempt.out)
    attempt.clear()
    if arguments.report:
        sentences = model.read(arguments.valid, target=True)
        page = report(model, sentences, model.evaluate(sentences.table), warned=warned)
        write_file(arguments.report, page.encode())
    row = model.history_[model.best_epoch_ - 1]
    said = f"accuracy {row['valid_accuracy']:.2%}"
    if "valid_f1" in row:
        said = f"F1 {100 * row['valid_f1']:.2f}, {said}"
    print(
        f"{attempt.out}: trained {len(model.history_)} epochs, best {model.best_epoch_}: {said} on "
        "the sentences held out; see card.md there"
    )
    return 0


def predict(arguments: Namespace) -> int:
    """Write each line of the file with the tag of its token behind it."""
    model = Tagger.load(arguments.model)
    path = "/dev/stdin" if arguments.file == STDIN else arguments.file
    if arguments.text and model.inputs:
        raise DataError(
            f"{arguments.model}: reads the columns {', '.join(model.inputs)}, which plain text has "
            "not; give a file of columns"
        )
    read = _text_lines(path) if arguments.text else _file_lines(model, path)
    rows, items = tee(read)
    n = arguments.n_best or 0
    tagged = model.stream(
        (_item(model, row, arguments.text) for row in items),
        confidence=arguments.confidence,
        n_best=n,
    )
    separator = "\t" if model.columns == "conllu" else " "
    with _output(arguments.out) as write:
        for fields, one in zip(rows, tagged, strict=True):
            for line in _lines(fields, one, separator, n):
                write(line)
    return 0


def evaluate(arguments: Namespace) -> int:
    """Print the table of conlleval, and write a picture or a page when asked."""
    check_suffix(arguments.plot, "--plot", (".png",))
    check_suffix(arguments.report, "--report", PAGES)
    model = Tagger.load(arguments.model)
    sentences = model.read(arguments.file, target=True)
    with kept_warnings() as warned, working("scoring"):
        result = model.evaluate(sentences.table)
    print(result.text())
    if arguments.plot:
        write_file(arguments.plot, plots.png(figures.confusion_figure(result)))
    if arguments.report:
        page = report(model, sentences, result, warned=warned)
        write_file(arguments.report, page.encode())
    return 0


def _file_lines(model: Tagger, path: str) -> Iterator[list[list[str]]]:
    """The fields of every token, sentence by sentence."""
    layout = model.layout
    columns = "conllu" if layout.columns == "conllu" else layout.places(target=False)
    return (rows for rows, _ in conll_sentences(path, columns))


def _text_lines(path: str) -> Iterator[list[list[str]]]:
    """The words of every line, as files of columns have them; empty lines are sentences, too."""
    return ([[word] for word in split_words(line)] for _, line in numbered(path))


def _item(model: Tagger, rows: list[list[str]], text: bool) -> Any:
    """A sentence as `Tagger.stream` wants it."""
    if text:
        return [row[0] for row in rows]
    places = model.layout.places(target=False)
    return {name: [row[at] for row in rows] for name, at in places.items()}


def _lines(fields: list[list[str]], one: Tagged, separator: str, n: int) -> Iterator[str]:
    """The lines of a sentence, and the blank one behind it; n times where n are wanted."""
    ways: Iterable[tuple[list[str], str]] = [(one.tags, "")]
    if n:
        ways = [(tags, f"# {k} {share:.6f}\n") for k, (tags, share) in enumerate(one.best or ())]
    for tags, head in ways:
        yield head
        for place, row in enumerate(fields):
            more = [tags[place]]
            if one.confidence is not None and not n:
                more.append(f"{one.confidence[place]:.4f}")
            yield separator.join([*row, *more]) + "\n"
        yield "\n"


@contextmanager
def _output(path: str | None) -> Iterator[Callable[[str], None]]:
    """Where lines go: stdout, or a file that is there when all of it is."""
    if path is None:
        yield lambda line: print(line, end="", file=sys.stdout)
        return
    with growing_file(path) as file:

        def write(line: str) -> None:
            file.write(line.encode("utf-8", "surrogatepass"))

        yield write
