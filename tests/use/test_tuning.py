"""Tiles are measured and remembered; whatever is chosen, no result changes by a bit."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from holdfast import cli
from holdfast.compiler import build, choices
from holdfast.compiler.choices import Choice
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.errors import TuneError
from holdfast.nn import LSTM, Recurrent, tuning
from tests.helpers import unequal_

T, B, I, H = 5, 7, 3, 40


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of its own; kernels in memory are those without choices again afterwards."""
    monkeypatch.setenv("HOLDFAST_CACHE_DIR", str(tmp_path))
    kernels = dict(build._kernels)
    build._kernels.clear()
    yield
    build._kernels.clear()
    build._kernels.update(kernels)


def _everything(layer: Recurrent, x: Tensor) -> list[Tensor]:
    with torch.inference_mode():
        inferred = layer(x)[0].clone()
    out, _ = layer(x)
    weights = [torch.arange(out.numel()).view(out.shape).cos()]
    return [inferred, out, *torch.autograd.grad([out], list(layer.parameters()), weights)]


@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_2014", "rnn"])
def test_every_tile_gives_the_same_bits(
    cell: str, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = unequal_(Recurrent(cell, I, H), generator)
    x = torch.randn(T, B, I, generator=generator)
    expected = _everything(layer, x)
    default = {}
    for mode, number in itertools.product(("infer", "train", "backward"), range(1, 9)):
        tiles = build.tiles(layer.varied, mode, torch.float32, Sizes(I, H))
        default[mode] = tiles[0]
        if number >= len(tiles):
            continue
        about = (layer.varied, mode, torch.float32, Sizes(I, H))
        kernel = build.cut(tiles[number], *about)
        assert kernel.tile == tiles[number] != default[mode]
        build.install(kernel, *about)
        layer._direct = type(layer._direct)()
        for mine, reference in zip(_everything(layer, x), expected, strict=True):
            assert torch.equal(mine, reference)
        build.install(None, *about)


def test_a_faster_tile_is_remembered(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    layer = unequal_(LSTM(I, H), generator)
    turns = itertools.count(10, -1)
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    monkeypatch.setattr(tuning, "_seconds", lambda run, least: float(next(turns)))
    (found,) = tuning.tune(layer, T, B, training=False)
    assert found.choice is not None
    last = list(found.seconds)[-1]
    assert (found.choice.rows, found.choice.vectors) == last
    kept = json.loads((tmp_path / choices.FILE).read_text())
    assert [entry["shape"] for entry in kept.values()] == [f"B{B}-T{T}-I{I}-H{H}"]
    about = (layer.varied, "infer", torch.float32, Sizes(I, H))
    chosen = build.kernel(*about).tile
    assert (chosen.rows, chosen.vectors) == last
    assert "less time than the default" in found.reason
    monkeypatch.setenv(choices.SWITCH, "default")
    build.install(None, *about)
    assert build.kernel(*about).tile == build.tiles(*about)[0]


def test_a_slower_tile_is_forgotten(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = unequal_(LSTM(I, H), generator)
    about = (layer.varied, "infer", torch.float32, Sizes(I, H))
    choices.remember(build.label(*about), Choice(2, 1, 1.0, 2.0, "B1-T1-I1-H1"))
    assert build.kernel(*about).tile.rows == 2
    turns = itertools.count(10)
    monkeypatch.setattr(tuning, "_ROUNDS", 1)
    monkeypatch.setattr(tuning, "_seconds", lambda run, least: float(next(turns)))
    (found,) = tuning.tune(layer, T, B, training=False)
    assert found.choice is None
    assert "the default" in found.reason
    assert choices.find(build.label(*about)) is None
    assert build.kernel(*about).tile == build.tiles(*about)[0]


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 3}', '{"a": {"rows": 1}}'])
def test_a_damaged_file_counts_as_none(content: str, tmp_path: Path) -> None:
    (tmp_path / choices.FILE).write_text(content)
    default = Tile(16, 1, 6, 8)
    assert choices.pick("a", default) == default


def test_a_tile_that_does_not_fit_is_left_aside() -> None:
    choices.remember("a", Choice(6, 3, 1.0, 2.0, "B1-T1-I1-H1"))
    default = Tile(16, 1, 6, 8)
    assert choices.pick("a", default) == default


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(TuneError, match="residual"):
        tuning.tune(LSTM(5, 5, residual=True), 3, 2)


def test_the_verb_says_why_a_cell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tune", "phased", "--hidden", "8"]) == cli.FAILED
    assert capsys.readouterr().err.startswith("holdfast: error: the layer has no plain kernels")


def test_the_verb_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--batch", "2", "--steps", "3", "--input", "3", "--hidden", "5"]
    assert cli.main(["tune", "lstm", *sizes, "--inference"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("lstm, infer\n  6 x 1 ")
