"""One training step in a process of its own: `python -m benchmarks.memory_step CONTENDER SHAPE`.

Prints the most bytes that the step held beyond what the process held before it, or why they are not
known, as JSON. The process is started by `memory`, which sets the allocator so that what is freed
goes back to the system at once: then the resident memory is what is in use, whoever allocated it.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks import layers
from benchmarks.problem import Problem, Runner, make_problem
from benchmarks.registry import Shape, shape_named
from holdfast.cells import lstm
from holdfast.nn import LSTM

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")

WARM = 2
"""Steps of the call that loads what is needed for any number of steps."""


def recomputed(problem: Problem) -> Runner | None:
    """Our layer that saves as little as it can; None where layers have no such option."""
    try:
        layer = LSTM(problem.shape.I, problem.shape.H, recompute="full")
    except TypeError:
        return None
    layer.load_state_dict(problem.weights)
    return Runner(lambda: layer(problem.x)[0], dict(layer.named_parameters()))


CONTENDERS: dict[str, Callable[[Problem], Runner | None]] = {
    "ours": layers.ours,
    "ours, recompute": recomputed,
    "torch": layers.torch_layer,
    "eager": layers.eager,
}
"""Who is measured."""

KNOWN = "known"
"""Not a contender but a test of the method: it holds B * T * H floats for a moment."""


def step(name: str, problem: Problem) -> Callable[[], object] | None:
    """Forward and backward of a contender; None where it does not exist."""
    if name == KNOWN:
        B, T, _, H = problem.shape
        return lambda: float(torch.ones(B, T, H).sum())
    runner = CONTENDERS[name](problem)
    return None if runner is None else runner.call("forward+backward", problem.weighting)


def measure(name: str, shape: Shape) -> dict[str, Any]:
    """`{"bytes": n}`, or `{"reason": ...}` where it cannot be measured."""
    problem = make_problem(lstm, shape)
    short = min(shape.T, WARM)
    warm = make_problem(lstm, shape._replace(T=short))
    first = step(name, warm)
    if first is None:
        return {"reason": "layers have no such option"}
    first()
    call = step(name, problem)
    assert call is not None
    del first, warm
    gc.collect()
    try:
        before = _resident("VmRSS")
        RESET.write_text("5", encoding="ascii")
        call()
        return {"bytes": max(0, _resident("VmHWM") - before)}
    except OSError as error:
        return {"reason": f"this system does not tell a process's peak: {error}"}


def _resident(name: str) -> int:
    for line in STATUS.read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) << 10
    raise OSError(f"no {name} in {STATUS}")


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    print(json.dumps(measure(sys.argv[1], shape_named(sys.argv[2]))))
