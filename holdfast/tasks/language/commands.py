"""What the steps of ``holdfast language`` do, given their parsed arguments."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from holdfast.data.atomic import write_file
from holdfast.tasks import plots
from holdfast.tasks.attempt import Attempt
from holdfast.tasks.command import INTERRUPTED, NOTHING_LEFT, check_suffix, uninterrupted
from holdfast.tasks.language import figures
from holdfast.tasks.language.estimator import LanguageModel
from holdfast.tasks.language.reading import read_part
from holdfast.tasks.language.scoring import Dynamic, Score
from holdfast.tasks.language.settings import PRESETS, check_settings, preset
from holdfast.tasks.progress import training_bar, working
from holdfast.tasks.terminal import aligned


def fit(arguments: Namespace, settings: dict[str, Any]) -> int:
    """Train, score the text held out when there is one, and write the model folder in one step."""
    check_suffix(arguments.plot, "--plot", (".png",))
    attempt = Attempt(Path(arguments.out), arguments.resume, arguments.restart)
    if attempt.finished():
        print(NOTHING_LEFT.format(attempt.out))
        return 0
    start = None if arguments.start is None else LanguageModel.load(arguments.start)
    base = {} if start is None else start.get_params()
    base |= preset(arguments.preset) if arguments.preset else {}
    model = LanguageModel(**{**base, **settings})
    check_settings(model.get_params())

    def train() -> None:
        with training_bar(model) as watcher:
            model.fit(
                arguments.data,
                valid=arguments.valid,
                start=start,
                checkpoint=attempt.checkpoint,
                resume=arguments.resume,
                report=watcher,
            )

    if not uninterrupted(attempt, train):
        return INTERRUPTED
    scores = ""
    found = _held_out(model, arguments)
    if found is not None:
        name, score = found
        print(f"{name}\n{score.text()}\n")
        scores = f"On `{name}`, which nothing was trained on or chosen by:\n\n{_table(score)}"
    model.save(attempt.out, scores)
    attempt.clear()
    if arguments.plot:
        figure = figures.learning_figure(model.history_, model.best_epoch_, model.level)
        write_file(arguments.plot, plots.png(figure))
    best = model.history_[model.best_epoch_ - 1]["valid_loss"]
    print(
        f"{attempt.out}: trained {len(model.history_)} epochs, best {model.best_epoch_} "
        f"({best:.4f} nats per {model.level}); see card.md there"
    )
    return 0


def score(arguments: Namespace) -> int:
    """Print how well a model knows a text, and write a picture when asked."""
    check_suffix(arguments.plot, "--plot", (".png",))
    model = LanguageModel.load(arguments.model)
    dynamic: Dynamic | bool = arguments.dynamic
    if arguments.dynamic_rate is not None:
        dynamic = Dynamic(learning_rate=arguments.dynamic_rate)
    with working("scoring"):
        pieces, found = model.read(
            arguments.data,
            after=arguments.after,
            rows=arguments.rows,
            cache=arguments.cache,
            dynamic=dynamic,
            statistics=arguments.statistics,
        )
    print(found.text())
    if arguments.plot:
        figure = figures.surprise_figure(pieces, -found.losses, model.level)
        write_file(arguments.plot, plots.png(figure))
    return 0


def generate(arguments: Namespace) -> int:
    """Print what a model writes, token by token."""
    model = LanguageModel.load(arguments.model)
    how = {
        "temperature": arguments.temperature,
        "top_k": arguments.top_k,
        "top_p": arguments.top_p,
        "seed": arguments.seed,
    }
    prefix = arguments.prefix
    if arguments.samples > 1:
        for text in model.sample(arguments.samples, prefix, arguments.length, **how):
            print(f"{prefix}{text}\n---")
        return 0
    pieces = model.generate(prefix, arguments.length, **how)
    sys.stdout.write(prefix)
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")
    return 0


def presets(_: Namespace) -> int:
    """List the presets."""
    rows = []
    for name in PRESETS:
        model = LanguageModel.preset(name)
        size = f"{model.num_layers} x {model.hidden_size}"
        rows.append([name, model.level, size, str(model.max_epochs), WHAT[name]])
    head = ["preset", "level", "layers x units", "epochs", "what it is"]
    print(aligned(head, [[*row[:-1], "  " + row[-1]] for row in rows]))
    return 0


WHAT = {
    "char-small": "characters, quick on a laptop",
    "char-medium": "characters",
    "char-large": "characters",
    "word-small": "words, quick on a laptop",
    "zaremba-small": "Zaremba, Sutskever & Vinyals 2014",
    "zaremba-medium": "the same, with dropout",
    "awd": "Merity, Keskar & Socher 2018",
}


def _held_out(model: LanguageModel, arguments: Namespace) -> tuple[str, Score] | None:
    """The score on the text that --test names, or on a folder's, after the text watched."""
    folder = Path(arguments.data)
    if arguments.test is not None:
        with working(f"scoring {arguments.test}"):
            return arguments.test, model.evaluate(arguments.test)
    if folder.is_dir() and (folder / "test.txt").is_file():
        test = read_part(folder, "test", model.encoding)
        with working(f"scoring {test.name}"):
            return test.name, model.evaluate(test)
    return None


def _table(score: Score) -> str:
    rows = {
        "tokens": f"{len(score.losses):,}",
        "unknown": f"{score.unknown:,}",
        "perplexity": f"{score.perplexity:.2f}",
        f"nats per {score.level}": f"{score.nats:.4f}",
        "bits per character": f"{score.bits_per_character:.4f}",
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items()]
    return "\n".join(["| | |", "|---|---|", *lines])
