"""Threads change the speed of a kernel and nothing else, whoever starts them."""

from __future__ import annotations

import ctypes
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import pytest
import torch
from torch import Tensor

from holdfast.cells import CELLS
from holdfast.compiler import build, threads
from holdfast.compiler.emit.llvm_loops import Sizes
from holdfast.nn import LSTM
from tests.emit.problems import Problem, problem
from tests.helpers import Shape, assert_same, unequal_

SIZE = Shape(9, 60, 24, 64)
"""Enough work for several threads, and a number of rows that they cannot share evenly."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Whatever a test does, the number of threads is what it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each call of a kernel by the number of threads it took."""
    found: list[int] = []
    real = threads.team

    def team(rows: int, blocks: int, steps: int, step_operations: int) -> threads.Team:
        made = real(rows, blocks, steps, step_operations)
        found.append(made.count)
        return made

    monkeypatch.setattr(threads, "team", team)
    return found


def _lengths(size: Shape, ragged: bool) -> Tensor | None:
    if not ragged:
        return None
    generator = torch.Generator().manual_seed(5)
    lengths = torch.randint(0, size.T + 1, (size.B,), generator=generator)
    lengths[0], lengths[3] = 0, size.T
    return lengths


def _everything(given: Problem, lengths: Tensor | None) -> list[Tensor]:
    """Outputs of both forward passes, and all gradients."""
    with torch.inference_mode():
        inferred = [one.clone() for one in given.run("llvm", lengths=lengths)]
    outputs = given.run("llvm", lengths=lengths)
    generator = torch.Generator().manual_seed(6)
    incoming = [torch.rand(one.shape, generator=generator).to(one.dtype) for one in outputs]
    gradients = given.gradients(outputs, incoming)
    return [*inferred, *(one.detach() for one in outputs), *gradients]


@pytest.mark.parametrize("pool", ["openmp", "python"])
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("cell", ["lstm", "peephole"])
def test_every_number_of_threads_gives_the_same(
    cell: str,
    ragged: bool,
    pool: str,
    generator: torch.Generator,
    counts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if pool == "openmp" and threads.pool() != "openmp":
        pytest.skip("PyTorch brought no OpenMP library")
    monkeypatch.setattr(threads, "pool", lambda: pool)
    given = problem(CELLS[cell], SIZE, generator)
    lengths = _lengths(SIZE, ragged)
    torch.set_num_threads(1)
    reference = _everything(given, lengths)
    assert set(counts) == {1}
    assert_same(reference[:3], given.run("eager", lengths=lengths))
    for number in (2, 3):
        torch.set_num_threads(number)
        del counts[:]
        found = _everything(given, lengths)
        assert set(counts) == {number}, "the kernels did not take the threads"
        assert_same(found, reference, f"{number} threads")


def test_small_work_stays_on_one_thread() -> None:
    torch.set_num_threads(4)
    alone = threads.Team(1)
    assert threads.team(rows=1, blocks=8, steps=1000, step_operations=10**4) == alone
    assert threads.team(rows=64, blocks=8, steps=1, step_operations=1000) == alone
    assert threads.team(rows=3, blocks=1, steps=1000, step_operations=10**5).count == 3
    assert threads.team(rows=64, blocks=8, steps=1000, step_operations=10**5).count == 4


def test_few_rows_and_long_steps_share_the_units(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "pool", lambda: "openmp")
    both = threads.Team(2, True)
    assert threads.team(rows=1, blocks=32, steps=9, step_operations=10**7) == both
    assert threads.team(rows=1, blocks=8, steps=100, step_operations=260_000) == both
    assert threads.team(rows=5, blocks=8, steps=100, step_operations=5 * 260_000) == both
    assert threads.team(rows=8, blocks=32, steps=9, step_operations=10**7) == threads.Team(2)
    assert threads.team(rows=1, blocks=1, steps=9, step_operations=10**7) == threads.Team(1)
    assert threads.team(rows=1, blocks=2, steps=1000, step_operations=16_000) == threads.Team(1)
    monkeypatch.setattr(threads, "pool", lambda: "python")
    assert threads.team(rows=1, blocks=32, steps=9, step_operations=10**7) == threads.Team(1)


def test_more_threads_share_units_where_a_step_is_long_enough(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.set_num_threads(8)
    monkeypatch.setattr(threads, "pool", lambda: "openmp")
    assert threads.team(rows=1, blocks=16, steps=500, step_operations=65_000).count < 8
    assert threads.team(rows=1, blocks=64, steps=9, step_operations=10**7).count == 8


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("ragged", [False, True], ids=["dense", "ragged"])
@pytest.mark.parametrize("cell", ["lstm", "gru", "peephole"])
def test_threads_that_share_units_meet_after_every_step(
    cell: str,
    ragged: bool,
    number: int,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every step reads what all threads wrote in the step before, forwards and backwards."""
    if threads.pool() != "openmp":
        pytest.skip("PyTorch brought no OpenMP library")
    given = problem(CELLS[cell], SIZE, generator)
    lengths = _lengths(SIZE, ragged)
    torch.set_num_threads(1)
    reference = _everything(given, lengths)
    monkeypatch.setattr(threads, "team", lambda *sizes: threads.Team(number, by_block=True))
    for _ in range(5):
        assert_same(_everything(given, lengths), reference, f"{number} threads")


def test_a_kernel_takes_the_pool_it_is_told(
    generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without OpenMP the shares run on Python threads, one each."""
    given = problem(CELLS["lstm"], SIZE, generator, torch.float32)
    torch.set_num_threads(2)
    reference = given.run("llvm")
    asked: list[int] = []
    real = threads.workers

    def workers(count: int) -> ThreadPoolExecutor:
        asked.append(count)
        return real(count)

    monkeypatch.setattr(threads, "workers", workers)
    monkeypatch.setattr(threads, "pool", lambda: "python")
    assert_same(given.run("llvm"), reference)
    assert asked == [2]


def test_without_an_openmp_library_the_pool_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The addresses that kernels then link against are there, and pool says so."""
    linked: dict[str, int] = {}
    monkeypatch.setattr(threads, "_openmp", lambda: None)
    monkeypatch.setattr(threads.llvm, "add_symbol", linked.__setitem__)
    assert threads.pool.__wrapped__() == "python"
    assert set(linked) == {*threads.SYMBOLS, "holdfast_yield", "holdfast_call"}
    assert all(linked.values())


def test_pytorchs_own_openmp_is_the_one() -> None:
    library = threads._openmp()
    if library is None:
        pytest.skip("PyTorch brought no OpenMP library")
    torch.set_num_threads(3)
    most = library.omp_get_max_threads
    most.restype = ctypes.c_int
    assert most() == 3, "another library than the one PyTorch sets"


@pytest.mark.parametrize("number", [1, 2])
def test_other_python_threads_run_during_a_call(
    number: int, generator: torch.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python thread that must be heard before the kernel's call returns.

    With a switch interval of an hour, no thread gives up the interpreter unless a call lets go of
    it; so the counter can only move while the kernel runs.
    """
    given = problem(CELLS["lstm"], Shape(64, 300, 32, 128), generator, torch.float32)
    torch.set_num_threads(number)
    given.run("llvm")
    during: list[int] = []
    ticks = [0]
    stop = threading.Event()
    real = build.Kernel.__call__

    def call(self: build.Kernel, values: list[int], count: int) -> None:
        before = ticks[0]
        real(self, values, count)
        during.append(ticks[0] - before)

    def tick() -> None:
        # An event's `wait` lets go of the interpreter, and needs it again to count on.
        while not stop.wait(1e-5):
            ticks[0] += 1

    monkeypatch.setattr(build.Kernel, "__call__", call)
    interval = sys.getswitchinterval()
    ticker = threading.Thread(target=tick)
    ticker.start()
    sys.setswitchinterval(3600.0)
    try:
        with torch.inference_mode():
            given.run("llvm")
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        ticker.join()
    assert during
    assert max(during) > 0, "no Python thread ran while the kernel did"


@pytest.mark.parametrize("number", [1, 2])
def test_several_python_threads_share_a_layer(number: int, generator: torch.Generator) -> None:
    layer = unequal_(LSTM(12, 40, num_layers=2), generator)
    inputs = [torch.rand(15, 6 + n, 12, generator=generator) for n in range(4)]

    def work(x: Tensor) -> list[Tensor]:
        with torch.inference_mode():
            inferred = layer(x)[0].clone()
        out, (h, c) = layer(x)
        loss = (out * out).sum() + c.sum()
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        return [inferred, out.detach(), h.detach(), *gradients]

    torch.set_num_threads(1)
    reference = [work(x) for x in inputs]
    torch.set_num_threads(number)
    barrier = threading.Barrier(4)

    def together(share: int) -> list[list[Tensor]]:
        # PyTorch keeps the number of threads for each thread of its own.
        torch.set_num_threads(number)
        barrier.wait()
        return [work(inputs[(share + n) % len(inputs)]) for n in range(len(inputs))]

    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(together, range(4)))
    for share, results in enumerate(found):
        for n, result in enumerate(results):
            assert_same(result, reference[(share + n) % len(inputs)], f"thread {share}, call {n}")


def test_several_python_threads_ask_for_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is built once."""
    made: list[str] = []
    real = build._build

    def slow(*arguments: object) -> build.Kernel:
        made.append("built")
        return real(*arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(build, "_kernels", {})
    monkeypatch.setattr(build, "_build", slow)
    barrier = threading.Barrier(4)

    def ask(_: int) -> build.Kernel:
        barrier.wait()
        return build.kernel(CELLS["rnn"], "infer", torch.float32, Sizes(3, 5))

    with ThreadPoolExecutor(4) as executor:
        kernels = list(executor.map(ask, range(4)))
    assert made == ["built"]
    assert len(set(map(id, kernels))) == 1


def _child(sender: Connection, given: Problem, number: int) -> None:
    torch.set_num_threads(number)
    with torch.inference_mode():
        sender.send(given.run("llvm")[0].tolist())
    sender.close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processes are not forked")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("parent", [1, 2])
def test_kernels_work_in_a_forked_process(parent: int, generator: torch.Generator) -> None:
    """A worker of a data loader, say: on one thread, whatever its parent ran on.

    With several threads the child would wait for ever for those of its parent: OpenMP's pool does
    not outlive a fork. PyTorch's own operations have the same limit.
    """
    given = problem(CELLS["lstm"], SIZE, generator, torch.float32)
    torch.set_num_threads(parent)
    with torch.inference_mode():
        mine = given.run("llvm")[0]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, given, 1))
    process.start()
    sender.close()
    try:
        assert receiver.poll(60), "the forked process gave no answer"
        assert_same(torch.tensor(receiver.recv()), mine)
        process.join(60)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
