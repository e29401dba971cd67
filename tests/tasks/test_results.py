"""The figures of docs/results.md hold: real data, minutes, not run by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from examples.ett import run
from holdfast.data import Columns, read_panel


@pytest.mark.slow
@pytest.mark.parametrize(("name", "limit"), [("ETTh1", 0.034), ("ETTh2", 0.075)])
def test_ett_is_forecast_better_than_by_every_baseline(
    name: str, limit: float, data_dir: Path
) -> None:
    panel = read_panel(data_dir / "ett" / f"{name}.csv.xz", Columns(time="date", target="OT"))
    evaluation, model, _ = run(panel, tiny=False)
    assert len(evaluation.rolled.forecast) == 2857
    ours, *others = (row["MSE"] for row in evaluation.scores.values())
    assert ours < min(others)
    assert ours / model.scaling_.targets[""].std ** 2 < limit
