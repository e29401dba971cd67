"""What one sees while training: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from holdfast.data.optional import require
from holdfast.tasks.checkpoint import Progress

PLAIN_EVERY = 10


@contextlib.contextmanager
def training_bar(max_epochs: int) -> Iterator[Callable[[Progress], None]]:
    """A function to call with the `Progress` after every epoch; draws on stderr."""
    if not sys.stderr.isatty():
        yield _plain
        return
    console = require("rich.console").Console(stderr=True)
    bars = require("rich.progress")
    columns = (
        bars.TextColumn("training"),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("epoch {task.fields[text]}"),
        bars.TimeElapsedColumn(),
    )
    with bars.Progress(*columns, console=console) as bar:
        task = bar.add_task("training", total=max_epochs, text=f"0/{max_epochs}")

        def advance(progress: Progress) -> None:
            text = f"{progress.epochs}/{max_epochs}, best error {progress.best_loss:.4f}"
            bar.update(task, completed=progress.epochs, text=text)

        yield advance


def _plain(progress: Progress) -> None:
    if progress.epochs % PLAIN_EVERY == 0 or progress.epochs == 1:
        print(
            f"epoch {progress.epochs}: held-out error {progress.history[-1]['valid_loss']:.4f}, "
            f"best {progress.best_loss:.4f} (epoch {progress.best_epoch})",
            file=sys.stderr,
            flush=True,
        )
