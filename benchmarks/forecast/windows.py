"""How far other libraries' models look back, so that they all look back equally far."""

from __future__ import annotations

from benchmarks.forecast.task import Task

WINDOWS = {"h": 168, "D": 90, "7D": 52, "MS": 24}
"""Rows, by the frequency of a task that does not say."""


def window(task: Task) -> int:
    """Rows that a forecast looks back."""
    shortest = min(len(t.y) - task.test - task.valid for t in task.tracks)
    return task.window or min(WINDOWS[task.frequency], shortest - task.horizon - 1)
