"""What `diagnose` found, as a table and as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from holdfast import diagnose
from holdfast.cells import CELLS
from holdfast.errors import MissingExtraError
from holdfast.nn import LSTM, Recurrent
from tests.helpers import unequal_

F64 = torch.float64
quiet = pytest.mark.filterwarnings("ignore::holdfast.errors.DiagnosisWarning")


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=F64)


def test_the_table(generator: torch.Generator) -> None:
    layer = LSTM(3, 5, num_layers=2, bidirectional=True, dtype=F64)
    unequal_(layer, generator)
    lines = str(diagnose(layer, _random(generator, 4, 2, 3))).splitlines()
    assert lines[0] == "lstm, 4 steps, 2 rows"
    assert lines[1].split() == ["first/last", "reach", "half-life", "saturated", "dead"]
    names = ("layer 0", "layer 0 reverse", "layer 1", "layer 1 reverse")
    for line, name in zip(lines[2:], names, strict=True):
        assert line.startswith(name)
        assert "4 of 4" in line
        assert line.endswith("none")
    assert max(map(len, lines)) <= 100


@quiet
@pytest.mark.parametrize("name", ["lstm", "rnn"])
def test_the_picture(name: str, tmp_path: Path, generator: torch.Generator) -> None:
    pytest.importorskip("matplotlib")
    layer = Recurrent(name, 3, 5, bidirectional=True, dtype=F64)
    unequal_(layer, generator)
    figure = diagnose(layer, _random(generator, 40, 2, 3)).plot(tmp_path / "layer.png")
    assert (tmp_path / "layer.png").read_bytes().startswith(b"\x89PNG")
    flow, memory, gates = figure.axes
    assert [text.get_text() for text in flow.get_legend().get_texts()] == [
        "layer 0",
        "layer 0 reverse",
    ]
    assert len(gates.get_xticks()) == 2 * len(CELLS[name].gates)
    if name == "lstm":
        assert sum(patch.get_height() for patch in memory.patches) == 10  # each unit once
    else:
        assert "nothing" in memory.texts[0].get_text()


@quiet
def test_endless_memory_is_drawn(generator: torch.Generator) -> None:
    pytest.importorskip("matplotlib")
    layer = LSTM(3, 4, dtype=F64)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    layer.get_parameter("bias_ih_l0").data[4:8] = torch.tensor([0.0, 3.0, 8.0, 60.0], dtype=F64)
    memory = diagnose(layer, _random(generator, 3, 2, 3)).plot().axes[1]
    assert memory.get_xscale() == "log"
    assert sum(patch.get_height() for patch in memory.patches) == 3
    assert "1 without end" in memory.get_legend().get_texts()[0].get_text()
    layer = Recurrent("lstm_1997_plain", 3, 4, dtype=F64)
    memory = diagnose(layer, _random(generator, 3, 2, 3)).plot().axes[1]
    assert "4 without end" in memory.get_legend().get_texts()[0].get_text()


def test_a_picture_needs_matplotlib(
    monkeypatch: pytest.MonkeyPatch, generator: torch.Generator
) -> None:
    diagnosis = diagnose(LSTM(3, 5, dtype=F64), _random(generator, 3, 2, 3))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r'pip install "holdfast\[plots\]"'):
        diagnosis.plot()
