"""What the steps of ``holdfast translate`` do, given their parsed arguments."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from holdfast.data.atomic import write_file
from holdfast.errors import DataError
from holdfast.nn.sampling import Sampling
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
from holdfast.tasks.translate import figures
from holdfast.tasks.translate.alignment import Translation
from holdfast.tasks.translate.estimator import Translator

# How many sentences from standard input are translated together.
BLOCK = 64


def fit(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Train, score the test pairs when asked, and write the model folder in one step."""
    check_suffix(arguments.plot, "--plot", (".png",))
    attempt = Attempt(Path(arguments.out), arguments.resume, arguments.restart)
    if attempt.finished():
        print(NOTHING_LEFT.format(attempt.out))
        return 0
    model = Translator(**settings)
    pairs = model.read(*_given(arguments, ""))
    valid = _given(arguments, "valid_")
    watched = None if valid is None else model.read(*valid)
    test = _given(arguments, "test_")
    tested = None if test is None else model.read(*test)

    def train() -> None:
        with training_bar(model) as watcher:
            how: dict[str, Any] = {"checkpoint": attempt.checkpoint, "resume": arguments.resume}
            model.fit(pairs, valid=watched, report=watcher, **how)

    with kept_warnings():
        if not uninterrupted(attempt, train):
            return INTERRUPTED
    scores = ""
    if tested is not None:
        with working("scoring the test pairs"):
            result = model.evaluate(tested)
        print(result.text())
        scores = f"On {result.pairs:,} pairs of {tested.name}:\n\n{result.table()}"
    model.save(attempt.out, scores)
    attempt.clear()
    if arguments.plot:
        write_file(arguments.plot, plots.png(figures.learning_figure(model)))
    print(
        f"{attempt.out}: trained {len(model.history_)} epochs, best {model.best_epoch_}; see "
        "card.md there"
    )
    return 0


def predict(arguments: Namespace) -> int:
    """Write a target for each source, to a file or to stdout, and a picture when asked."""
    check_suffix(arguments.attention, "--attention", (".png",))
    model = Translator.load(arguments.model)
    if arguments.beam:
        model.set_params(beam=arguments.beam)
    if arguments.device:
        model.set_params(device=arguments.device)
    if arguments.attention and model.attention is None:
        raise DataError("--attention: this model has no attention, so there is no picture of it")
    if arguments.sources == "-" and not arguments.out:
        return _stream(model, arguments)
    sources = _standard_input() if arguments.sources == "-" else arguments.sources
    with working("translating"):
        found = _translations(model, sources, arguments)
    lines = "".join(line for row in found for line in _lines(row, arguments.n_best))
    if arguments.out:
        write_file(arguments.out, lines.encode("utf-8", "surrogatepass"))
    else:
        sys.stdout.write(lines)
    _picture(arguments, found)
    return 0


def evaluate(arguments: Namespace) -> int:
    """Print BLEU and chrF with their signatures, and perplexity."""
    model = Translator.load(arguments.model)
    if arguments.beam:
        model.set_params(beam=arguments.beam)
    if arguments.device:
        model.set_params(device=arguments.device)
    given = _given(arguments, "")
    pairs = model.read(*given)
    with working("translating"):
        result = model.evaluate(pairs)
    print(f"{result.pairs:,} pairs, beam {model.beam}\n{result.text()}")
    if arguments.out:
        said = "".join(f"{_line(text)}\n" for text in result.said)
        write_file(arguments.out, said.encode("utf-8", "surrogatepass"))
    return 0


def _stream(model: Translator, arguments: Namespace) -> int:
    """Translate standard input as it comes: at a terminal line by line, else in blocks."""
    block: list[str] = []
    most = 1 if sys.stdin.isatty() else BLOCK
    first: list[list[Translation]] = []

    def flush() -> None:
        if block:
            found = _translations(model, list(block), arguments)
            first.extend(found[: max(0, plots.MOST_PANELS - len(first))])
            for row in found:
                sys.stdout.writelines(_lines(row, arguments.n_best))
            sys.stdout.flush()
            block.clear()

    for line in sys.stdin:
        block.append(line.rstrip("\r\n"))
        if len(block) >= most:
            flush()
    flush()
    _picture(arguments, first)
    return 0


def _translations(model: Translator, sources: Any, arguments: Namespace) -> list[list[Translation]]:
    how = None
    if arguments.temperature:
        how = Sampling(
            arguments.temperature,
            arguments.top_k,
            arguments.top_p,
            samples=arguments.n_best or 1,
        )
    return model.translations(
        sources,
        n_best=arguments.n_best or 1,
        how=how,
        seed=arguments.seed,
        attention=bool(arguments.attention),
    )


def _standard_input() -> list[str]:
    return [line.rstrip("\r\n") for line in sys.stdin]


def _lines(row: list[Translation], n_best: int | None) -> list[str]:
    """A line for the best target; of several each with its score, and a blank line behind."""
    if n_best is None:
        return [f"{_line(row[0].text)}\n"]
    return [*(f"{one.score:.4f}\t{_line(one.text)}\n" for one in row), "\n"]


def _line(text: str) -> str:
    """A text that stays on one line."""
    return " ".join(text.splitlines())


def _picture(arguments: Namespace, found: list[list[Translation]]) -> None:
    if not arguments.attention:
        return
    there = [row[0].alignment for row in found if row[0].alignment is not None and row[0].text]
    if not there:
        raise DataError("--attention: nothing was translated, so there is no picture of it")
    write_file(arguments.attention, plots.png(figures.attention_figure(there)))


def _given(arguments: Namespace, part: str) -> Any:
    """Two files, or a table, that were given for a part; None where neither was.

    Errors: `DataError` for one file without the other, and for both kinds.
    """
    source, target, table = (
        getattr(arguments, f"{part}{name}", None) for name in ("source", "target", "table")
    )
    shown = f"--{part.replace('_', '-')}"
    if table is not None and (source or target):
        raise DataError(f"give {shown}table, or {shown}source and {shown}target, not both")
    if table is not None:
        return (table,)
    if (source is None) != (target is None):
        raise DataError(f"{shown}source and {shown}target go together; give both")
    if source is None:
        if part:
            return None
        raise DataError("give --source and --target, or --table with both columns")
    return source, target
