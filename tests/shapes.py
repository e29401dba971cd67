"""Shapes in signatures are checked, where there are any, and step aside for `torch.compile`.

The import hook of jaxtyping decorates every function of the package. That breaks `torch.library`,
which reads annotations of the function itself, and `torch.compile(fullgraph=True)`, which cannot
trace a type checker. `relax` limits the hook to functions whose signature names a shape, and steps
aside while they are traced.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import jaxtyping
import torch

_jaxtyped = jaxtyping.jaxtyped


def relax() -> None:
    """Make the import hook use `checked`; to be called before the package is imported."""
    jaxtyping.jaxtyped = checked


def checked(*, typechecker: Any) -> Callable[[Any], Any]:
    """A decorator like `jaxtyping.jaxtyped`, for functions whose signature names a shape."""

    def decorate(function: Any) -> Any:
        if not _names_a_shape(function):
            return function
        strict = _jaxtyped(function, typechecker=typechecker)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            chosen = function if torch.compiler.is_compiling() else strict
            return chosen(*args, **kwargs)

        return call

    return decorate


def _names_a_shape(function: Any) -> bool:
    names = getattr(function, "__globals__", {})
    words = re.findall(
        r"\w+", " ".join(map(str, getattr(function, "__annotations__", {}).values()))
    )
    found = (names.get(word) for word in words)
    return any(isinstance(one, type) and issubclass(one, jaxtyping.AbstractArray) for one in found)
