"""PyTorch's own cases for LSTM, GRU and RNN pass through our layers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence

from holdfast.nn import GRU, LSTM, RNN
from tests.helpers import assert_same, unequal_
from tests.use.layers import observed

# PyTorch's module with the cases loads a hypothesis profile of its own.
_profile = hypothesis.settings.get_current_profile_name()
common_modules = importlib.import_module("torch.testing._internal.common_modules")
hypothesis.settings.load_profile(_profile)

# PyTorch says once that its own projected LSTM is a slow one.
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported")

OURS = {nn.LSTM: LSTM, nn.GRU: GRU, nn.RNN: RNN}
DTYPES = [torch.float64, torch.float32]


def _infos() -> list[Any]:
    return [info for info in common_modules.module_db if info.module_cls in OURS]


def _options(case: Any) -> str:
    given = case.constructor_input
    words = [*map(str, given.args)]
    words += [name if value is True else f"{name}={value}" for name, value in given.kwargs.items()]
    return "-".join(word for word in words if not word.endswith("=False"))


def _shape(value: Any) -> str:
    data = value.data if isinstance(value, PackedSequence) else value
    packed = "packed" if isinstance(value, PackedSequence) else ""
    return packed + "x".join(map(str, data.shape))


def _samples() -> Iterator[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for info in _infos():
            for dtype in DTYPES:
                cases = info.module_inputs_func(
                    info, "cpu", dtype, requires_grad=True, training=True, with_packed_sequence=True
                )
                for case in cases:
                    x, *hx = case.forward_input.args
                    name = info.module_cls.__name__
                    states = "-states" if hx else ""
                    text = f"{name}-{_options(case)}-{_shape(x)}{states}-{str(dtype)[6:]}"
                    yield pytest.param(info.module_cls, case, dtype, id=text)


def _errors() -> Iterator[Any]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for info in _infos():
            for dtype in DTYPES:
                cases = info.module_error_inputs_func(
                    info, "cpu", dtype, requires_grad=False, training=True
                )
                for index, case in enumerate(cases):
                    name = f"{info.module_cls.__name__}-{index}"
                    text = f"{name}-{_options(case.module_error_input)}-{str(dtype)[6:]}"
                    yield pytest.param(info.module_cls, case, id=text)


SAMPLES = list(_samples())
ERRORS = list(_errors())


def test_all_cases_are_here() -> None:
    for module, count in ((nn.LSTM, 32), (nn.GRU, 16), (nn.RNN, 32)):
        own = [param for param in SAMPLES if param.values[0] is module]
        unpacked = [p for p in own if not isinstance(_input(p.values[1]), PackedSequence)]
        assert len(unpacked) >= len(DTYPES) * count
        errors = [param for param in ERRORS if param.values[0] is module]
        assert len(errors) >= len(DTYPES) * 14


def _input(case: Any) -> Any:
    return case.forward_input.args[0]


@pytest.mark.parametrize(("theirs", "case", "dtype"), SAMPLES)
def test_sample(theirs: Any, case: Any, dtype: torch.dtype, generator: torch.Generator) -> None:
    args, options = case.constructor_input.args, case.constructor_input.kwargs
    reference = unequal_(theirs(*args, **options, dtype=dtype), generator)
    layer = OURS[theirs](*args, **options, dtype=dtype)
    layer.load_state_dict(reference.state_dict())
    given = case.forward_input
    assert not given.kwargs
    assert_same(observed(layer, *given.args), observed(reference, *given.args))
    if not isinstance(_input(case), PackedSequence):
        assert_same(layer(*given.args), case.reference_fn(layer, *given.args), "own reference")
        expected = case.reference_fn(reference, *given.args)
        assert_same(layer(*given.args), expected, "reference through PyTorch's layer")


@pytest.mark.parametrize(("theirs", "case"), ERRORS)
def test_error(theirs: Any, case: Any) -> None:
    given = case.module_error_input
    build = given.constructor_input
    if case.error_on == common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR:
        with pytest.raises(case.error_type, match=case.error_regex):
            OURS[theirs](*build.args, **build.kwargs)
        return
    layer = OURS[theirs](*build.args, **build.kwargs)
    with pytest.raises(case.error_type, match=case.error_regex):
        layer(*given.forward_input.args, **given.forward_input.kwargs)
