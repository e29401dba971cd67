"""The LSTM with a matrix for a memory, for whole sequences without a loop over steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.nn import checks
from holdfast.nn.ragged import as_lengths
from holdfast.nn.structure import Structure, blank, calm, check_flags

States = tuple[Tensor, Tensor, Tensor]


class MatrixLSTM(Structure):
    """Read sequences into a matrix of keys and values: the mLSTM of xLSTM.

    >>> import torch
    >>> layer = MatrixLSTM(input_size=3, hidden_size=8, num_heads=2)
    >>> out, (C, n, m) = layer(torch.randn(7, 4, 3))  # [T, B, I]
    >>> tuple(out.shape), tuple(C.shape), tuple(n.shape), tuple(m.shape)
    ((7, 4, 8), (4, 2, 4, 4), (4, 2, 4), (4, 2))
    >>> h, states = layer.step(torch.randn(4, 3), (C, n, m))  # one more step, [B, I]
    >>> tuple(h.shape)
    (4, 8)

    In every head, with d = H / N units and log f = log sigmoid of the forget gate:
    q = W_q x + b_q;  k = (W_k x + b_k) / sqrt(d);  v = W_v x + b_v;  o = sigmoid(W_o x + b_o)
    i, f: numbers, each an affine sum of [q, k, v] over all heads, k before the root is taken
    m = max(log f + m_prev, i);  f' = exp(log f + m_prev - m);  i' = exp(i - m)
    C = f' C_prev + i' v k^T;  n = f' n_prev + i' k
    h = o (C q) / max(|n q|, exp(-m))

    m only keeps the numbers small: C exp(m) and n exp(m) are the memory. Nothing of h goes back, so
    a whole sequence needs no loop over steps: within a chunk all steps are one product of queries
    and keys, and only the memory is handed from chunk to chunk. `step` is the recurrent form.

    Parameters: 4 H (I + 1) + 2 N (3 H + 1)

    The gates begin without weights; the biases of f go from 3 to 6 over the heads, those of i are
    drawn from N(0, 0.1), the rest from U(-1/sqrt(H), 1/sqrt(H)).

    Runs on PyTorch: compiled cells have memories of one number for each unit, and this one's
    products over a whole sequence are already large ones.

    Arguments:
        input_size: I, features of the input.
        hidden_size: H, units over all heads.
        num_heads: N, each with a memory of its own.
        bias: False leaves out b; the gates keep theirs.
        batch_first: input and output are `[B, T, ...]` instead of `[T, B, ...]`.
        chunk_size: steps of which all pairs are formed; 0 for all steps at once.

    Errors: `TypeError` and `ValueError` for impossible sizes.
    Source: Beck et al. 2024 (xLSTM), with the gates and initial values of its authors' code.
    """

    reason = (
        "the memory is a matrix in every head, and compiled cells keep one number for each unit; "
        "the parallel form needs no time loop"
    )
    weight_ih: Tensor
    weight_gates: Tensor
    bias_ih: Tensor
    bias_gates: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_heads: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        chunk_size: int = 64,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_heads": num_heads}
        for name, size in sizes.items():
            checks.check_size(name, size)
        check_flags(bias=bias, batch_first=batch_first)
        if hidden_size % num_heads:
            raise ValueError(
                f"num_heads should divide hidden_size, got: {num_heads} and {hidden_size}"
            )
        if not isinstance(chunk_size, int) or isinstance(chunk_size, bool) or chunk_size < 0:
            raise ValueError(
                f"chunk_size should be a number of steps, or 0 for all, got: {chunk_size!r}"
            )
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.num_heads = num_heads
        self.bias = bias
        self.batch_first = batch_first
        self.chunk_size = chunk_size
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (4 * hidden_size, input_size)}
        if bias:
            shapes["bias_ih"] = (4 * hidden_size,)
        shapes["weight_gates"] = (2 * num_heads, 3 * hidden_size)
        shapes["bias_gates"] = (2 * num_heads,)
        self._create_parameters(shapes, 1.0 / math.sqrt(hidden_size), device, dtype)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw every parameter anew, as the paper's authors do for the gates."""
        super().reset_parameters()
        nn.init.zeros_(self.weight_gates)
        i, f = self.bias_gates.chunk(2)
        i.normal_(0.0, 0.1)
        f.copy_(torch.linspace(3.0, 6.0, self.num_heads))

    def forward(
        self,
        input: Tensor,
        hx: States | None = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, States]:
        """The output at every step, and the last states `(C, n, m)`.

        Arguments:
            input: `[T, B, I]`, `[B, T, I]` with `batch_first`, `[T, I]` for a single row.
            hx: initial states C `[B, N, d, d]`, n `[B, N, d]` and m `[B, N]`, without B for a
                single row; by default zeros.
            lengths: number of valid steps of each row, `[B]`; output is zero beyond.

        Errors: `ValueError` for a wrong dtype or number of dimensions, `RuntimeError` for wrong
        sizes, `TypeError` for what is not a tensor.
        """
        x, batched = self._admit(input, (self.input_size,))
        steps, batch = x.shape[:2]
        counts = None if lengths is None else as_lengths(lengths, steps, batch, x)
        states = self._memory(hx, x, batch, batched)
        with calm(x):
            x = blank(x, counts)
            q, k, v, o, i, f = self._project(x.transpose(0, 1), counts)
            size = self.chunk_size or steps
            parts = [one.split(size, 2) for one in (q, k, v, i, f)]
            outs = []
            for q, k, v, i, f in zip(*parts, strict=True):
                out, states = _run_chunk(q, k, v, i, f, states)
                outs.append(out)
            found = torch.cat(outs, 2).permute(2, 0, 1, 3).flatten(2)  # [T, B, H]
            out = blank(o.transpose(0, 1) * found, counts)
        last = states if batched else tuple(state.squeeze(0) for state in states)
        return self._deliver(out, batched), (last[0], last[1], last[2])

    def step(self, input: Tensor, hx: States | None = None) -> tuple[Tensor, States]:
        """The output and the new states after one step, by the recurrent form.

        Arguments:
            input: `[B, I]`, or `[I]` for a single row.
            hx: states as in a call.
        """
        x, batched = self._admit(input.unsqueeze(0), (self.input_size,), batch_first=False)
        C, n, m = self._memory(hx, x, x.shape[1], batched)
        with calm(x):
            q, k, v, o, i, f = (one.squeeze(-2) for one in self._project(x.transpose(0, 1), None))
            i, f = i.squeeze(-1), f.squeeze(-1)
            new = torch.maximum(f + m, i)  # [B, N]
            keep, take = torch.exp(f + m - new).unsqueeze(-1), torch.exp(i - new).unsqueeze(-1)
            C = keep.unsqueeze(-1) * C + (take * v).unsqueeze(-1) * k.unsqueeze(-2)
            n = keep * n + take * k
            read = (C @ q.unsqueeze(-1)).squeeze(-1)  # [B, N, d]
            size = torch.maximum((n * q).sum(-1).abs(), torch.exp(-new)).unsqueeze(-1)
            h = o * (read / size).flatten(1)
        if batched:
            return h, (C, n, new)
        return h.squeeze(0), (C.squeeze(0), n.squeeze(0), new.squeeze(0))

    def _memory(self, hx: Any, x: Tensor, batch: int, batched: bool) -> States:
        heads, units = self.num_heads, self.hidden_size // self.num_heads
        shapes = ((batch, heads, units, units), (batch, heads, units), (batch, heads))
        C, n, m = self._states(hx, ("C", "n", "m"), shapes, x, batched=batched, at=0)
        return C, n, m

    def _project(self, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, ...]:
        """q, k and v, `[B, N, T, d]`, o, `[B, T, H]`, i and log f, `[B, N, T, 1]`, of `[B, T, I]`.

        Beyond its end a row takes nothing in, i = -inf, and forgets nothing, log f = 0.
        """
        sums = functional.linear(x, self.weight_ih, self.bias_ih if self.bias else None)
        q, k, v, o = sums.chunk(4, 2)
        joined = sums[..., : 3 * self.hidden_size]
        gates = functional.linear(joined, self.weight_gates, self.bias_gates).transpose(1, 2)
        i, f = gates.chunk(2, 1)
        f = functional.logsigmoid(f)
        if lengths is not None:
            over = torch.arange(x.shape[1], device=x.device) >= lengths.view(-1, 1, 1)
            i, f = i.masked_fill(over, -math.inf), f.masked_fill(over, 0.0)
        heads = (self.num_heads, self.hidden_size // self.num_heads)
        q, k, v = (one.unflatten(2, heads).transpose(1, 2) for one in (q, k, v))
        return q, k / math.sqrt(heads[1]), v, torch.sigmoid(o), i.unsqueeze(3), f.unsqueeze(3)


def _run_chunk(
    q: Tensor, k: Tensor, v: Tensor, i: Tensor, f: Tensor, states: States
) -> tuple[Tensor, States]:
    """All steps of a chunk at once: C q / max(|n q|, exp(-m)), `[B, N, L, d]`, and new states."""
    C, n, m = states
    kept = f.cumsum(2)  # [B, N, L, 1], what is left of the states before the chunk
    old = kept + m.view(*m.shape, 1, 1)
    # Row s holds what is left at step s of what step j took in; a later j has not happened yet.
    size = q.shape[2]
    past = torch.ones(size, size, dtype=torch.bool, device=q.device).tril()
    young = kept + (i - kept).transpose(2, 3)
    young = young.masked_fill(~past, -math.inf)  # [B, N, L, L]
    top = torch.maximum(old, young.amax(3, keepdim=True))
    taken, left = torch.exp(young - top), torch.exp(old - top)
    weights = (q @ k.transpose(2, 3)) * taken
    read = weights @ v + left * (q @ C.transpose(2, 3))
    seen = weights.sum(3, keepdim=True) + left * (q @ n.unsqueeze(3))
    out = read / torch.maximum(seen.abs(), torch.exp(-top))
    last, rest = taken[:, :, -1].unsqueeze(3), left[:, :, -1]  # [B, N, L, 1], [B, N, 1]
    C = rest.unsqueeze(3) * C + (last * v).transpose(2, 3) @ k
    n = rest * n + (last * k).sum(2)
    return out, (C, n, top[:, :, -1, 0])
