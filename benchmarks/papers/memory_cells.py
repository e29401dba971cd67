"""Fractional filters of a known series, and the cells of Zhao et al. 2020 that read through one.

The catalogue has the same cells as `fractional_rnn` and `fractional_rnn_fixed`, with a lag of the
input for each term of the filter. Here the long sum is done before the loop.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from holdfast import cell, sigmoid, tanh

LAGS = 100
"""K, where the filter is cut off, as in the authors' code."""

TERMS = 12
"""Chebyshev polynomials in d, enough for float32; a test compares them with the filter itself."""


def fractional(d: Tensor, lags: int) -> Tensor:
    """The weights w_1 to w_K of fractional differencing (1 - B)^d: `[lags, ...]` for d `[...]`.

    >>> fractional(torch.tensor(0.5), 3).tolist()
    [-0.5, -0.125, -0.0625]

    Source: Zhao et al. 2020, and the code of its authors.
    """
    steps = torch.arange(lags, dtype=d.dtype).reshape(-1, *(1 for _ in d.shape))
    return ((steps - d) / (steps + 1)).cumprod(0)


def filtered(x: Tensor, d: Tensor, lags: int) -> Tensor:
    """F_t = sum over k of w_k(d) x_(t-k+1), `[T]`, for x `[T]` and one d: the plain definition."""
    past = torch.cat([x.new_zeros(lags - 1), x]).unfold(0, lags, 1).flip(1)  # [T, lags]
    return past @ fractional(d, lags)


def coefficients(x: Tensor, lags: int = LAGS, terms: int = TERMS) -> Tensor:
    """F_t as a function of d between 0 and 1/2, `[T, terms]`: coefficients of T_n(4 d - 1).

    Each w_k is a smooth function of d, so few terms give the filter for every d that a network may
    choose at a step, and the long sum is done once, before the loop.
    """
    n = torch.arange(terms, dtype=torch.float64)
    angles = math.pi * (n + 0.5) / terms
    values = [filtered(x.double(), d, lags) for d in (angles.cos() + 1) / 4]
    basis = (n.unsqueeze(1) * angles).cos() * (2 / terms)  # [terms, nodes]
    basis[0] /= 2
    return torch.stack(values, 1) @ basis.T


def _clenshaw(t: Any, parts: tuple[Any, ...]) -> Any:
    """The sum of parts[n] T_n(t)."""
    one, two = parts[-1], 0.0
    for part in parts[-2:0:-1]:
        one, two = 2 * t * one - two + part, one
    return t * one - two + parts[0]


_WEIGHTS = "w_h r_h bias_h w_m r_m bias_m bias_d"


@cell(gates=dict.fromkeys(("v", f"q*{TERMS}"), "W x"), state="m", weights=_WEIGHTS)
def mrnnf(v, q, m, w_h, r_h, bias_h, w_m, r_m, bias_m, bias_d, h):
    """MRNNF: Zhao et al. 2020, one d for all steps; the filter of v is the sum of q_n T_n(4 d - 1).

    d = sigmoid(b_d) / 2;  F = sum over k of w_k(d) v_(t-k+1)
    h = tanh(w_h v + r_h h_prev + b_h);  m = tanh(w_m F + r_m m_prev + b_m)
    """
    f = _clenshaw(2 * sigmoid(bias_d) - 1, q)
    return tanh(w_h * v + r_h * h + bias_h), tanh(w_m * f + r_m * m + bias_m)


@cell(
    gates=dict.fromkeys(("v", f"q*{TERMS}"), "W x"),
    state="m d",
    weights=f"{_WEIGHTS} d_d h_d m_d x_d",
)
def mrnn(v, q, m, d, w_h, r_h, bias_h, w_m, r_m, bias_m, bias_d, d_d, h_d, m_d, x_d, h):
    """MRNN: Zhao et al. 2020, where d follows the states; otherwise as MRNNF.

    d = sigmoid(d_d d_prev + h_d h_prev + m_d m_prev + x_d v + b_d) / 2
    """
    d = 0.5 * sigmoid(d_d * d + h_d * h + m_d * m + x_d * v + bias_d)
    f = _clenshaw(4 * d - 1, q)
    return tanh(w_h * v + r_h * h + bias_h), tanh(w_m * f + r_m * m + bias_m), d
