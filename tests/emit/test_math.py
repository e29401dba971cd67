"""The emitted functions against longer arithmetic, in units of the last place."""

from __future__ import annotations

import ctypes

import llvmlite.binding as llvm
import llvmlite.ir as ir
import numpy as np
import pytest
import torch

from holdfast.compiler.build import assemble
from holdfast.compiler.emit.llvm import FORMATS
from holdfast.compiler.emit.llvm_loops import I64, Emitter, new_module, number
from holdfast.compiler.emit.llvm_math import SPELLINGS
from holdfast.compiler.emit.target import host, machine

REFERENCES = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "sin": np.sin,
    "cos": np.cos,
}
LONGER = {torch.float32: np.float64, torch.float64: np.longdouble}
TYPES = {torch.float32: np.float32, torch.float64: np.float64}

WORST = {
    "sigmoid": ((20.0, 4.0), (80.0, 6.0)),
    "tanh": ((1e-3, 2.0), (30.0, 3.5)),
    "exp": ((80.0, 1.5),),
    "log": ((1e-3, 2.0), (80.0, 2.0)),
    "softplus": ((80.0, 3.0),),
    "sin": ((3.0, 2.5),),
    "cos": ((3.0, 2.5),),
}
"""Units of the last place that a function may be off for arguments up to a bound."""


def _function(name: str, dtype: torch.dtype):
    """The emitted operation on arrays of whole vectors."""
    form, target = FORMATS[dtype], host()
    lanes = target.lanes(form.itemsize)
    module = new_module(target)
    scalar = ir.FloatType() if form.bits == 32 else ir.DoubleType()
    kind = ir.FunctionType(ir.VoidType(), [scalar.as_pointer(), scalar.as_pointer(), I64])
    emitter = Emitter(module, ir.Function(module, kind, "run"), ("x", "y", "n"), form, lanes, lanes)
    with emitter.loop(number(0), emitter["n"], number(lanes)) as loop:
        value = emitter.vector_at(emitter.at(emitter["x"], loop.index))
        emitter.put_vector(
            SPELLINGS[name](emitter.math, value), emitter.at(emitter["y"], loop.index)
        )
    emitter.builder.ret_void()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine(target, jit=True))
    engine.add_object_file(llvm.ObjectFileRef.from_data(assemble(str(module), target)))
    engine.finalize_object()
    kinds = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    run = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address("run"))

    def call(x: np.ndarray) -> np.ndarray:
        assert engine
        given = np.zeros(-(-x.size // lanes) * lanes, x.dtype)
        given[: x.size] = x
        found = np.full_like(given, np.nan)
        run(given.ctypes.data, found.ctypes.data, given.size)
        return found[: x.size]

    return call


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("dtype", LONGER, ids=str)
def test_functions_are_right_to_a_few_units_of_the_last_place(name, dtype):
    if np.finfo(LONGER[dtype]).eps >= np.finfo(TYPES[dtype]).eps:
        pytest.skip("NumPy has no longer format on this machine")
    function = _function(name, dtype)
    numbers = np.random.default_rng(0)
    for bound, allowed in WORST[name]:
        low = 1e-6 * bound if name == "log" else -bound
        x = numbers.uniform(low, bound, 20_000).astype(TYPES[dtype])
        expected = REFERENCES[name](x.astype(LONGER[dtype]))
        # The reference of softplus and the zeros of waves lose digits themselves.
        place = np.spacing(np.abs(expected).astype(TYPES[dtype])).astype(LONGER[dtype])
        if name in ("sin", "cos"):
            place = np.maximum(place, np.finfo(TYPES[dtype]).eps / 8)
        assert (np.abs(function(x) - expected) / place).max() <= allowed


@pytest.mark.parametrize("dtype", LONGER, ids=str)
@pytest.mark.parametrize("name", ["sigmoid", "tanh"])
def test_ends_of_the_range_and_numbers_that_are_none(name, dtype):
    function, kind = _function(name, dtype), TYPES[dtype]
    least = np.finfo(kind).smallest_subnormal
    largest = np.finfo(kind).max
    x = np.array([np.nan, np.inf, -np.inf, largest, -largest, 0.0, least, -least], kind)
    low = -1.0 if name == "tanh" else 0.0
    middle = [0.0, least, -least] if name == "tanh" else [0.5, 0.5, 0.5]
    expected = np.array([np.nan, 1.0, low, 1.0, low, *middle], kind)
    assert np.isnan(function(x)[0])
    near_zero = float(4 * np.finfo(kind).tiny if name == "sigmoid" else 2 * least)
    np.testing.assert_allclose(function(x)[1:], expected[1:], rtol=1e-6, atol=near_zero)
    if name == "tanh":
        beyond = np.linspace(10.0, 1e4, 999).astype(kind)
        assert (np.abs(function(beyond)) <= 1.0).all()
