"""Forecast the oil temperature of two transformers 24 hours ahead, and print the score table.

    HOLDFAST_DATA=../shared/data python examples/ett.py

Data: ETTh1 and ETTh2, column OT, hourly (Zhou et al. 2021, CC BY-ND 4.0), not part of the project.
The usual split: 12 months to train, 4 to stop early, 4 to test; scores are averages over all 2,857
windows of the test part, in units of the standard deviation of the training part, as is usual for
this set.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from holdfast.data import Columns, Panel, read_panel
from holdfast.tasks import Evaluation, Forecaster, evaluate

TRAIN, VALIDATION, TEST = 8640, 2880, 2880
HORIZON = 24
SCORES = ("MSE", "MAE", "R2", "MASE")


def head(panel: Panel, rows: int) -> Panel:
    """The first `rows` rows of every series."""
    return panel.map(lambda series: series[:rows])


def run(panel: Panel, tiny: bool) -> tuple[Evaluation, Forecaster, float]:
    """Train on one transformer and score the test part; `tiny` only shows that it runs."""
    model = Forecaster(
        HORIZON,
        time_column="date",
        target_column="OT",
        validation=VALIDATION / (TRAIN + VALIDATION),
        max_epochs=1 if tiny else 50,
    )
    start = time.perf_counter()
    model.fit(head(panel, TRAIN + VALIDATION))
    seconds = time.perf_counter() - start
    whole = head(panel, TRAIN + VALIDATION + TEST)
    return evaluate(model, whole, step=HORIZON * 30 if tiny else 1), model, seconds


def table(evaluation: Evaluation, std: float) -> str:
    """The scores as Markdown, errors in units of `std`."""
    lines = [f"| method | {' | '.join(SCORES)} |", "|---|" + "---:|" * len(SCORES)]
    for method, row in evaluation.scores.items():
        scaled = {**row, "MSE": row["MSE"] / std**2, "MAE": row["MAE"] / std}
        lines.append(f"| {method} | {' | '.join(f'{scaled[name]:.4f}' for name in SCORES)} |")
    return "\n".join(lines)


def main() -> None:
    """Print a section for each transformer."""
    parser = argparse.ArgumentParser(description="ETTh1 and ETTh2, column OT, horizon 24")
    parser.add_argument("--tiny", action="store_true", help="one epoch and few windows")
    arguments = parser.parse_args()
    folder = Path(os.environ.get("HOLDFAST_DATA", "../shared/data")) / "ett"
    for name in ("ETTh1", "ETTh2"):
        panel = read_panel(folder / f"{name}.csv.xz", Columns(time="date", target="OT"))
        evaluation, model, seconds = run(panel, arguments.tiny)
        print(f"### {name}\n\n{table(evaluation, model.scaling_.targets[''].std)}\n")
        print(
            f"{len(evaluation.rolled.forecast):,} windows; {len(model.history_)} epochs in "
            f"{seconds:.0f} s, epoch {model.best_epoch_} kept."
        )
        for note in evaluation.notes:
            print(f"{note}.")
        print()


if __name__ == "__main__":
    main()
