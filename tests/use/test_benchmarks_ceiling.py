"""The ceiling: its kernels do what is counted, its model is the one that the page states."""

from __future__ import annotations

import json

import pytest
import torch

from benchmarks import ceiling, layers, layers_report
from benchmarks.ceiling import Ceiling
from benchmarks.registry import Point, Shape
from benchmarks.settings import SETTINGS
from holdfast.cells import CELLS
from holdfast.compiler.emit.target import host
from tests.helpers import assert_same

MACHINE = Ceiling(
    threads=1,
    gflops={"float32": 100.0, "float64": 50.0},
    bandwidth={"L1": 200.0, "L2": 100.0, "memory": 10.0},
    sizes={"L1": 1 << 15, "L2": 1 << 20},
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_chain_is_added_to_in_every_turn(dtype: torch.dtype) -> None:
    lanes, chains, turns = host().lanes(dtype.itemsize), 8, 5
    engine, run = ceiling._compiled(ceiling._multiply_adds(lanes, dtype, chains), "kernel")
    memory = torch.arange(1.0, (chains + 2) * lanes + 1, dtype=dtype)
    left, right, *sums = memory.clone().split(lanes)
    run(memory.data_ptr(), turns)
    assert_same(memory, torch.cat([left, right, *(one + turns * left * right for one in sums)]))
    assert engine is not None


def test_every_byte_is_read() -> None:
    width = host().vector_bytes
    size = 3 * ceiling.READS * width
    engine, run = ceiling._compiled(ceiling._reads(size), "kernel")
    memory = torch.zeros(size // 8 + 8, dtype=torch.int64)
    start = -memory.data_ptr() % 64 // 8
    bits = torch.arange(size // 8) % 61
    memory[start : start + size // 8] = 1 << bits
    run(memory[start:].data_ptr(), 2)
    every = memory[start : start + width // 8]
    expected = [
        sum(1 << int(bit) for bit in set(bits[lane :: width // 8].tolist()))
        for lane in range(width // 8)
    ]
    assert every.tolist() == expected
    assert engine is not None


def test_rates_are_summed_over_threads() -> None:
    rate = ceiling._together(lambda address, turns: None, [0, 0, 0], 1, 1)
    assert rate > 0
    assert list(ceiling.levels()) == sorted(ceiling.levels())
    assert all(size > 0 for size in ceiling.levels().values())


def test_the_model_takes_the_slower_of_both() -> None:
    cell, plain = CELLS["lstm"], SETTINGS["plain"]
    one = Shape(1, 10, 32, 128)  # R is 256 KiB: in L2
    W, R = 4 * 128 * 32, 4 * 128 * 128
    reading = 4 * (W + 10 * R) / 100e9
    assert MACHINE.seconds(cell, one, "forward", plain) == pytest.approx(reading)
    both = reading + 4 * 10 * R / 100e9 + 2 * 10 * (W + R) / 100e9
    assert MACHINE.seconds(cell, one, "forward+backward", plain) == pytest.approx(both)
    many = Shape(64, 10, 32, 128)
    computing = 2 * 64 * 10 * (W + R) / 100e9
    assert MACHINE.seconds(cell, many, "forward", plain) == pytest.approx(computing)
    double = MACHINE.seconds(cell, many, "forward", SETTINGS["float64"])
    assert double == pytest.approx(2 * computing)
    assert MACHINE.seconds(cell, many, "forward", plain, 0.5) == pytest.approx(computing / 2)
    assert MACHINE.level(4 * 1 << 20) == "memory"


def test_intensity_counts_the_state_once_a_step() -> None:
    found = ceiling.intensity(CELLS["lstm"], Shape(8, 10, 0, 128), SETTINGS["plain"])
    assert found == pytest.approx(2 * 8 / 4)


def test_rows_have_their_share(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every turn takes a second, so the share is the least time by the model."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr("benchmarks.timing.time.perf_counter", lambda: float(next(ticks)))
    shape = Shape(2, 3, 4, 5)
    found = list(layers.measure(["lstm"], [Point(shape)], 3, 1.0, ("torch",), MACHINE))
    line = layers_report.record(found, 1, {"rounds": 3}, MACHINE)
    run = json.loads(line)
    for rows in found:
        assert isinstance(rows, list)
        for row in rows:
            least = MACHINE.seconds(CELLS["lstm"], shape, row.which, SETTINGS["plain"])
            assert row.share == pytest.approx(least / row.seconds.median)
    assert run["ceiling"]["gflops"] == MACHINE.gflops
    assert all("intensity" in row for row in run["rows"])
