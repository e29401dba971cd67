"""Many networks with one unit train as one layer, and each as if it were alone."""

from __future__ import annotations

import dataclasses
import doctest
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from benchmarks.papers import folder, memory, memory_cells, memory_nets
from benchmarks.papers.memory import EPOCHS, autoregress, train
from benchmarks.papers.memory_cells import LAGS, coefficients, filtered, fractional
from benchmarks.papers.memory_nets import MODELS, Networks
from benchmarks.papers.registry import Settings
from holdfast.cells.fractional import memory_lstm, memory_lstm_fixed
from holdfast.data.long_memory import LongSeries, Split, read_series
from tests.helpers import assert_same


@pytest.fixture
def series(generator: torch.Generator) -> LongSeries:
    """A slow wave with noise."""
    waves = (torch.arange(60) / 3).sin() + torch.rand(60, generator=generator)
    return LongSeries(waves.double(), Split(30, 12))


FEW = 4
"""Lags of the memory in tests: a hundred take long to compile."""


@pytest.fixture
def _few_lags(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, make in (("MLSTMF", memory_lstm_fixed), ("MLSTM", memory_lstm)):
        short = dataclasses.replace(MODELS[name], cell=partial(make, FEW))
        monkeypatch.setitem(MODELS, name, short)


@pytest.mark.parametrize("module", [folder, memory_cells, memory_nets])
def test_examples_run(module: object) -> None:
    assert not doctest.testmod(module).failed  # pyright: ignore[reportArgumentType] -- a module


def test_the_weights_of_the_filter_are_binomial_coefficients() -> None:
    d = torch.tensor([0.1, 0.3], dtype=torch.float64)
    found = fractional(d, 4)
    for k in range(1, 5):
        for column, value in enumerate(d.tolist()):
            product = math.prod((j - value) / (j + 1) for j in range(k))
            assert float(found[k - 1, column]) == pytest.approx(product)


def test_the_filter_goes_back_in_time() -> None:
    x = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=torch.float64)
    w = fractional(torch.tensor(0.4, dtype=torch.float64), 3)
    expected = torch.stack([w[0], w[1], w[2], 2 * w[0]])
    assert_same(filtered(x, torch.tensor(0.4, dtype=torch.float64), 3), expected)


@pytest.mark.parametrize("d", [0.001, 0.1, 0.25, 0.49])
def test_few_terms_give_the_filter_for_every_d(d: float, generator: torch.Generator) -> None:
    x = torch.rand(300, generator=generator, dtype=torch.float64)
    terms = coefficients(x)
    basis = (torch.arange(terms.shape[1]) * math.acos(4 * d - 1)).cos().double()
    expected = filtered(x, torch.tensor(d, dtype=torch.float64), LAGS)
    assert_same((terms @ basis).float(), expected.float())


def alone(kind: Callable[[int, int], nn.RNNBase], seed: int) -> tuple[nn.RNNBase, nn.Linear]:
    """The network of that seed, made as the paper's code makes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(1, 1), nn.Linear(1, 1)


def error_alone(
    kind: Callable[[int, int], nn.RNNBase], seed: int, series: LongSeries, epochs: int
) -> float:
    """The protocol for one network, with torch's own modules."""
    layer, head = alone(kind, seed)
    x, y = series.scaled[:-1, None].float(), series.scaled[1:, None].float()
    fit, check, test = series.parts
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], memory.RATE)
    best, result = math.inf, math.nan
    for _ in range(epochs):
        predictions = head(layer(x)[0])
        valid = float((predictions - y)[check].detach().square().mean())
        if valid < best:
            best = valid
            result = float((predictions - y)[test].detach().square().mean().sqrt()) * series.span
        optimizer.zero_grad()
        (predictions - y)[fit].square().mean().backward()
        optimizer.step()
    return result


@pytest.mark.parametrize(("model", "kind"), [("RNN", nn.RNN), ("LSTM", nn.LSTM)])
def test_each_network_is_the_one_that_torch_would_train_alone(
    model: str, kind: Callable[[int, int], nn.RNNBase], series: LongSeries
) -> None:
    expected = [error_alone(kind, seed, series, epochs=12) for seed in (3, 0, 8)]
    found = train(series, model, [3, 0, 8], epochs=12)
    assert_same(torch.tensor(found), torch.tensor(expected))
    assert len(set(found)) == 3


@pytest.mark.usefixtures("_few_lags")
@pytest.mark.parametrize("model", ["MRNN", "MLSTM"])
def test_networks_side_by_side_do_not_see_each_other(model: str, series: LongSeries) -> None:
    together = train(series, model, range(4), epochs=6)
    assert_same(torch.tensor(train(series, model, [2], epochs=6)), torch.tensor(together[2:3]))


def column(networks: Networks, seed: int) -> dict[str, Tensor]:
    found = networks.columns()
    return {
        name.removeprefix("layer.").removesuffix("_l0"): value[:, seed].double()
        for name, value in found.items()
    }


def mrnn_alone(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """The paper's MRNN step by step, and MRNNF where nothing moves d."""
    h = m = d = torch.zeros(1, dtype=torch.float64)
    zero = torch.zeros(1, dtype=torch.float64)
    d_d, h_d, m_d, x_d = (p.get(name, zero) for name in ("d_d", "h_d", "m_d", "x_d"))
    results = []
    for step, value in enumerate(x):
        d = torch.sigmoid(d_d * d + h_d * h + m_d * m + x_d * value + p["bias_d"]) / 2
        past = x[max(0, step + 1 - LAGS) : step + 1].flip(0)
        f = (fractional(d, LAGS)[: len(past), 0] * past).sum()
        h = torch.tanh(p["w_h"] * value + p["r_h"] * h + p["bias_h"])
        m = torch.tanh(p["w_m"] * f + p["r_m"] * m + p["bias_m"])
        results.append(p["weight"][0] * h + p["weight"][1] * m + p["bias"])
    return torch.cat(results)


def mlstm_alone(p: dict[str, Tensor], x: Tensor) -> Tensor:
    """The paper's MLSTM step by step, and MLSTMF where nothing moves d."""
    h = d = torch.zeros(1, dtype=torch.float64)
    memories = torch.zeros(0, dtype=torch.float64)
    moves = "u_e" in p
    names = "igoe" if moves else "igo"
    results = []
    for value in x:
        sums = {
            name: p["weight_ih"][n] * value + p[f"u_{name}"] * h + p["bias_ih"][n]
            for n, name in enumerate(names)
        }
        d = torch.sigmoid(sums["e"] + p["u_e_d"] * d if moves else p["b_d"]) / 2
        past = memories.flip(0)[:FEW]
        c = torch.sigmoid(sums["i"]) * torch.tanh(sums["g"])
        c = c - (fractional(d, FEW)[: len(past), 0] * past).sum()
        h = torch.sigmoid(sums["o"]) * torch.tanh(c)
        memories = torch.cat([memories, c])
        results.append(p["weight"][0] * h + p["bias"])
    return torch.cat(results)


@pytest.mark.usefixtures("_few_lags")
@pytest.mark.parametrize("model", ["MRNNF", "MRNN", "MLSTMF", "MLSTM"])
def test_networks_with_filters_are_those_of_the_paper(
    model: str, generator: torch.Generator
) -> None:
    networks = Networks(model, range(2))
    x = torch.rand(130, generator=generator)
    with torch.no_grad():
        found = networks(networks.prepare(x))[0][:, 1]
    alone = mrnn_alone if model.startswith("MRNN") else mlstm_alone
    assert_same(found, alone(column(networks, 1), x.double()), dtype=torch.float32)


def test_a_seed_that_has_stopped_is_left_alone(
    series: LongSeries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "PATIENCE", 2)
    monkeypatch.setattr(memory, "GAIN", 4e-3)
    together = train(series, "RNN", range(6), epochs=40)
    alone = [train(series, "RNN", [seed], epochs=40)[0] for seed in range(6)]
    assert_same(torch.tensor(together), torch.tensor(alone))
    monkeypatch.setattr(memory, "GAIN", -1e9)
    went_on = train(series, "RNN", range(6), epochs=40)
    assert together != went_on


def test_a_linear_model_finds_a_linear_series() -> None:
    values = [1.0, 2.0]
    for _ in range(50):
        values.append(0.7 - 0.3 * values[-1] + 0.6 * values[-2])
    series = LongSeries(torch.tensor(values, dtype=torch.float64), Split(20, 10))
    assert autoregress(series, 2) == pytest.approx(0, abs=1e-9)
    assert autoregress(series, 1) > 0.01


def test_every_model_and_series_has_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, series: LongSeries
) -> None:
    def fake(series: LongSeries, model: str, seeds: range, epochs: int) -> list[float]:
        assert epochs == EPOCHS
        worse = 0.0001 if model == "MRNN" else -0.0001
        return [memory.PUBLISHED["dji"][model][0] / 100 + worse] * len(seeds)

    (tmp_path / memory.FOLDER).mkdir()
    text = "\n".join(["x", *map(str, series.values.tolist())])
    (tmp_path / memory.FOLDER / "dji.csv").write_text(text, encoding="utf-8")
    monkeypatch.setenv(folder.VARIABLE, str(tmp_path))
    monkeypatch.setattr(memory, "SPLITS", {"dji": Split(30, 12)})
    monkeypatch.setattr(memory, "train", fake)
    rows = list(memory.memory(Settings(seeds=100)))
    assert [row.task for row in rows if row.note.startswith("not run")] == [
        f"long memory: {name}" for name in ("arfima", "traffic", "tree")
    ]
    run = [row for row in rows if row.values]
    assert [row.model.partition(",")[0] for row in run] == [*MODELS, "AR(1)", "AR(25)"]
    assert {row.measure for row in run} == {"RMSE × 100"}
    assert [row.reached for row in run] == [name != "MRNN" for name in MODELS] + [None, None]
    assert run[0].values == (pytest.approx(0.2605 - 0.01),) * 100


@pytest.mark.slow
@pytest.mark.parametrize("model", ["RNN", "LSTM", "MRNN"])
def test_the_numbers_of_the_paper_come_out(data_dir: Path, model: str) -> None:
    series = read_series(data_dir / memory.FOLDER / "arfima.csv")
    errors = torch.tensor(train(series, model, range(100), EPOCHS))
    mean, spread = memory.PUBLISHED["arfima"][model]
    assert float(errors.mean()) == pytest.approx(mean, abs=2e-3)
    assert float(errors.std(correction=0)) == pytest.approx(spread, abs=2e-3)
