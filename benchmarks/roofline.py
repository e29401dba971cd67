"""The picture of the roofs: what was reached, under what this machine could do."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.layers_report import CORE, rows_of
from benchmarks.registry import SHAPES
from benchmarks.report import threads_text
from holdfast.data.optional import require

PICTURE = Path(__file__).parent.parent / "docs" / "roofline.svg"

COLORS = {"ours": "#1b6ca8", "torch": "#c8553d"}
"""Of the contenders in the picture; each has a form of its own, too."""

FORMS = {"ours": "o", "torch": "s"}

LOW, HIGH = 0.125, 1024.0
"""The ends of the horizontal axis, operations a byte."""


def points(rows: Sequence[Mapping[str, Any]], threads: int) -> Iterator[Mapping[str, Any]]:
    """Forward passes of the plain LSTM on the core grid that have a place under the roofs."""
    for row in rows:
        place = row["cell"], row["setting"], row["pass"], row["threads"]
        known = row["shape"] in CORE and row["contender"] in COLORS and "intensity" in row
        if known and place == ("lstm", "plain", "forward", threads):
            yield row


def ceilings(runs: Sequence[Mapping[str, Any]]) -> dict[int, Mapping[str, Any]]:
    """The highest ceiling that was measured for each number of threads: others were disturbed."""
    found: dict[int, Mapping[str, Any]] = {}
    for run in runs:
        if "ceiling" in run and _peak(run["ceiling"]) > _peak(found.get(run["threads"])):
            found[run["threads"]] = run["ceiling"]
    return {threads: found[threads] for threads in sorted(found)}


def _peak(ceiling: Mapping[str, Any] | None) -> float:
    return 0.0 if ceiling is None else ceiling["gflops"]["float32"]


def draw(runs: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """Write the picture; False where no ceiling is recorded.

    Errors: `MissingExtraError` without matplotlib.
    """
    roofs = ceilings(runs)
    if not roofs:
        return False
    matplotlib = require("matplotlib")
    figures = require("matplotlib.figure")
    rows = rows_of(runs)
    # Text stays text, and nothing random or dated is in the file.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "roofline"}):
        figure = figures.Figure(figsize=(6.4 * len(roofs), 5.2), layout="constrained")
        axes = figure.subplots(1, len(roofs), sharey=True, squeeze=False)[0]
        for axis, (threads, ceiling) in zip(axes, roofs.items(), strict=True):
            _roofs(axis, ceiling)
            _points(axis, list(points(rows, threads)))
            axis.set_title(f"Plain LSTM, forward, {threads_text(threads)}")
        axes[0].set_ylabel("GFLOP/s of the matrix products")
        axes[0].legend(loc="lower center", frameon=False)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, metadata={"Date": None})
    return True


def _roofs(axis: Any, ceiling: Mapping[str, Any]) -> None:
    peak = ceiling["gflops"]["float32"]
    axis.set_xscale("log", base=2)
    axis.set_yscale("log", base=2)
    for number, (name, speed) in enumerate(ceiling["bandwidth"].items()):
        end = peak / speed
        axis.plot([LOW, end], [LOW * speed, peak], color="0.6", linewidth=1)
        # Levels of similar speed lie close together: one is named above its line, one below.
        axis.text(
            LOW * 1.1,
            LOW * 1.1 * speed,
            f" {name}, {speed:.0f} GB/s",
            rotation=math.degrees(math.atan(speed)),
            rotation_mode="anchor",
            transform_rotates_text=True,
            va="bottom" if number < 2 else "top",
            fontsize=7,
            color="0.35",
        )
    first = peak / max(ceiling["bandwidth"].values())
    axis.plot([first, HIGH], [peak, peak], color="0.3", linewidth=1.5)
    _label(axis, f"multiply-adds, {peak:.0f} GFLOP/s", (HIGH, peak), (-4, 8), "right")
    axis.set_xlim(LOW, HIGH)
    axis.set_xlabel("operations for each byte of weights read")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter("{x:g}")
    axis.spines[["top", "right"]].set_visible(False)


def _label(
    axis: Any, text: str, at: tuple[float, float], offset: tuple[int, int], align: str = "left"
) -> None:
    axis.annotate(
        text, at, textcoords="offset points", xytext=offset, ha=align, fontsize=7, color="0.3"
    )


def _points(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for name, color in COLORS.items():
        mine = [row for row in rows if row["contender"] == name]
        axis.scatter(
            [row["intensity"] for row in mine],
            [row["gflops"] for row in mine],
            s=28,
            color=color,
            marker=FORMS[name],
            label="torch.nn.LSTM" if name == "torch" else "ours",
            zorder=3,
        )
    key = []
    for number, shape in enumerate(map(str, SHAPES), start=1):
        found = [row for row in rows if (row["shape"], row["contender"]) == (shape, "ours")]
        for row in found:
            _label(axis, str(number), (row["intensity"], row["gflops"]), (5, 3))
            key.append(f"{number}  {shape}")
    axis.text(0.98, 0.03, "\n".join(key), transform=axis.transAxes, ha="right", fontsize=7)
