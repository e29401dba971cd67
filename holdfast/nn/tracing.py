"""Keep PyTorch's tracer out of functions that hand raw memory to compiled code."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def untraced(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run as it is even inside a frame that `torch.compile` has taken over.

    `torch.compiler.disable` does this too, but loads the whole tracer, over a second, wherever it
    stands; here it is loaded already or not needed.

    >>> untraced(abs)(-2)
    2
    """
    known: list[Callable[P, R]] = []

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not known:
            dynamo = sys.modules.get("torch._dynamo")
            if dynamo is None:
                return function(*args, **kwargs)
            known.append(dynamo.disable(function))
        return known[0](*args, **kwargs)

    return call
