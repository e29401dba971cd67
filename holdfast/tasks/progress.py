"""What one sees while training: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from holdfast.data.optional import require
from holdfast.tasks.checkpoint import Progress

# Off a terminal: a line after so many epochs, or after so many seconds without one.
PLAIN_EVERY, PLAIN_SECONDS = 10, 60.0


class Watcher:
    """Called after every epoch with its `Progress`; `steps` and `trial` tell of what is between.

    >>> Watcher(max_epochs=10, members=2).done(Progress({"member": 1}), step=0.5)
    10.5
    """

    def __init__(self, max_epochs: int, members: int = 1) -> None:
        self.max_epochs = max_epochs
        self.members = members

    def __call__(self, progress: Progress) -> None:
        """An epoch is done."""

    def steps(self, progress: Progress, done: int, of: int) -> None:
        """So many steps of an epoch are done."""

    def trial(self, trial: Any) -> None:
        """An automatic choice has tried a candidate."""

    def done(self, progress: Progress, step: float = 0.0) -> float:
        """Epochs of all members so far, the broken one included."""
        return self._member(progress) * self.max_epochs + progress.epochs + step

    def _member(self, progress: Progress) -> int:
        return int(progress.identity.get("member", 0))

    def _of_member(self, progress: Progress) -> str:
        if self.members == 1:
            return ""
        return f"network {self._member(progress) + 1} of {self.members}, "


class Lines(Watcher):
    """A plain line now and then."""

    def __init__(self, max_epochs: int, members: int = 1) -> None:
        super().__init__(max_epochs, members)
        self.last = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        """A line after the first epoch, every tenth, and every minute."""
        late = time.monotonic() - self.last > PLAIN_SECONDS
        if late or progress.epochs % PLAIN_EVERY == 0 or progress.epochs == 1:
            self._say(
                f"{self._of_member(progress)}epoch {progress.epochs}: held-out error "
                f"{progress.history[-1]['valid_loss']:.4f}, best {progress.best_loss:.4f} (epoch "
                f"{progress.best_epoch})"
            )

    def steps(self, progress: Progress, done: int, of: int) -> None:
        """A line in an epoch that takes minutes."""
        if time.monotonic() - self.last > PLAIN_SECONDS:
            self._say(
                f"{self._of_member(progress)}epoch {progress.epochs + 1}: step {done} of {of}"
            )

    def trial(self, trial: Any) -> None:
        """A line for each candidate."""
        self._say(f"tried {describe_trial(trial)}")

    def _say(self, line: str) -> None:
        self.last = time.monotonic()
        print(line, file=sys.stderr, flush=True)


class Bar(Watcher):
    """A bar with the time left, at most: training often stops before the last epoch."""

    def __init__(self, bar: Any, max_epochs: int, members: int = 1, choosing: bool = False) -> None:
        super().__init__(max_epochs, members)
        self.bar = bar
        text = "choosing a model" if choosing else f"epoch 0/{max_epochs}"
        # How long a choice takes is told by the clock, so the bar only moves to and fro.
        total = None if choosing else max_epochs * members
        self.task = bar.add_task("training", total=total, text=text)
        self.trials: list[Any] = []

    def __call__(self, progress: Progress) -> None:
        """An epoch further."""
        self._show(progress, 0.0)

    def steps(self, progress: Progress, done: int, of: int) -> None:
        """A part of an epoch further."""
        self._show(progress, done / max(1, of))

    def trial(self, trial: Any) -> None:
        """The best candidate so far."""
        self.trials.append(trial)
        best = min(self.trials, key=lambda one: one.error)
        self.bar.update(self.task, text=f"tried {len(self.trials)}, best: {describe_trial(best)}")

    def _show(self, progress: Progress, step: float) -> None:
        best = f", best error {progress.best_loss:.4f}" if progress.epochs else ""
        epoch = f"epoch {progress.epochs}/{self.max_epochs}"
        self.bar.update(
            self.task,
            total=self.max_epochs * self.members,
            completed=self.done(progress, step),
            text=f"{self._of_member(progress)}{epoch}{best}",
        )


def describe_trial(trial: Any) -> str:
    """A candidate and its error, or why it could not be tried."""
    if trial.refused:
        return f"{trial.name}: {trial.refused}"
    return f"{trial.name} ({trial.error:.4f}, {trial.seconds:.0f} s)"


@contextlib.contextmanager
def training_bar(settings: Any) -> Iterator[Callable[[Progress], None]]:
    """A `Watcher` for an estimator's training, to be called after every epoch; draws on stderr.

    `settings` has `max_epochs`, and `members` and `model` where there are such.
    """
    members, model = getattr(settings, "members", 1), getattr(settings, "model", "")
    if not sys.stderr.isatty():
        yield Lines(settings.max_epochs, members)
        return
    console = require("rich.console").Console(stderr=True)
    bars = require("rich.progress")
    columns = (
        bars.TextColumn("training"),
        bars.BarColumn(bar_width=30),
        bars.TextColumn("{task.fields[text]}"),
        bars.TimeElapsedColumn(),
        bars.TextColumn("left at most"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console) as bar:
        yield Bar(bar, settings.max_epochs, members, model == "auto")


@contextlib.contextmanager
def working(what: str) -> Iterator[None]:
    """A sign of life on a terminal while something takes its time; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    console = require("rich.console").Console(stderr=True)
    with console.status(what):
        yield
