"""What other libraries' models see: how far back, and what of the calendar ahead."""

from __future__ import annotations

from benchmarks.forecast.task import Task

WINDOWS = {"h": 168, "D": 90, "7D": 52, "MS": 24}
"""Rows, by the frequency of a task that does not say."""


def window(task: Task) -> int:
    """Rows that a forecast looks back."""
    shortest = min(len(t.y) - task.test - task.valid for t in task.tracks)
    return task.window or min(WINDOWS[task.frequency], shortest - task.horizon - 1)


PARTS = {"hour": 24, "dayofweek": 7, "month": 12}
"""Parts of a time that go round, and how many there are."""


def known_ahead(task: Task) -> tuple[str, ...]:
    """The parts of a time that other libraries are told, since ours reads its calendar by itself.

    None where the times are made up, or where the protocol has but the window.
    """
    if not task.calendar or task.window is not None:
        return ()
    return {"h": ("hour", "dayofweek"), "MS": ("month",)}.get(task.frequency, ())
