"""Targets step by step: a recurrent layer, attention to the source, and a readout."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.compiler.cell import Cell
from holdfast.nn import checks
from holdfast.nn.attention import Attention, Memory
from holdfast.nn.encoder import variational_options
from holdfast.nn.readout import readout as product
from holdfast.nn.readout import turned, turned_readout
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.sizes import each
from holdfast.nn.structure import check_flags, check_tensor


@dataclass(frozen=True)
class State:
    """What a decoder carries from step to step, for N rows of B sources.

    N is a multiple of B: the hypotheses of a source stand one after the other and share its memory,
    which is never copied for them.

    hx: states of the layer, `[L, N, H]` each. memory: of the sources, or None without attention.
    fed: the last readout, `[N, R]`, with input feeding. coverage: `[N, S]`, where attention has it.
    step: number of the next step. weights: attention of the last step, `[N, S]`, or None. output:
    the weights of the output as searches read them, or None.
    """

    hx: tuple[Any, ...]
    memory: Memory | None
    fed: Tensor | None = None
    coverage: Tensor | None = None
    step: int = 0
    weights: Tensor | None = None
    output: Tensor | None = None

    def select(self, rows: Tensor, sources: Tensor | None = None) -> State:
        """The rows with these numbers, `[n]`; an earlier row may stand for several.

        Arguments:
            sources: the sources that are left, where some are; rows of others must be left out.
        """

        def pick(value: Tensor | None) -> Tensor | None:
            return None if value is None else value.index_select(0, rows)

        memory = self.memory
        if memory is not None and sources is not None:
            memory = memory.select(sources)
        return dataclasses.replace(
            self,
            hx=each(self.hx, lambda state: state.index_select(1, rows)),
            memory=memory,
            fed=pick(self.fed),
            coverage=pick(self.coverage),
            weights=pick(self.weights),
        )


class Decoded(NamedTuple):
    """What a decoder says.

    logits: `[B, T, V]`, or `[N, V]` of one step. state: after the last step. weights: attention
    `[B, T, S]`, or None without attention.
    """

    logits: Tensor
    state: State
    weights: Tensor | None


class Decoder(nn.Module):
    """Write targets with any cell, in layers, with or without attention to a source.

    >>> import torch
    >>> decoder = Decoder(8, 5, 100, memory_size=4, embedding=torch.nn.Embedding(100, 8))
    >>> memory = decoder.attention.remember(torch.randn(2, 7, 4))  # [B, S, D]
    >>> state = decoder.start(2, None, memory)
    >>> logits, _, weights = decoder(torch.randint(100, (2, 6)), state)  # [B, T]
    >>> tuple(logits.shape), tuple(weights.shape)
    ((2, 6, 100), (2, 6, 7))
    >>> logits, state, _ = decoder.step(torch.tensor([1, 1]), state)
    >>> tuple(logits.shape)
    (2, 100)

    With `attend="after"` (Luong) the layer runs over the targets first, and its output h asks the
    source: r = tanh(W [h; context]). Without input feeding all steps of a training target are then
    one call of the compiled layer and one attention. With `input_feeding` r is also a part of the
    next step's input, and with `attend="before"` (Bahdanau) the last h asks, the context is a part
    of the input, and r = tanh(W [h; context; x]): both are loops over the steps.

    Arguments:
        input_size: I, features of the embedding, or of the targets.
        hidden_size: H, units of each layer.
        output_size: V, words, or features of what is predicted.
        memory_size: D, features of each position of the source.
        cell, num_layers, options: as in `holdfast.nn.Recurrent`.
        attention: an `Attention` with queries of H, the name of its score, or None for none.
        attend: "after" or "before" the step.
        input_feeding: the last readout goes into the next step (Luong et al. 2015, section 3.3).
        readout_size: R; by default H, or I with tied weights.
        embedding: from targets to `[..., I]`, such as `torch.nn.Embedding`; None takes targets
            that are features already. It is called with the steps first, `[T, B]`.
        tied: the weights of the output are those of the embedding (Press & Wolf 2017).
        dropout: on the input of every layer and on the readout, in training.
        variational: the masks of dropout stay the same for all steps of a sequence (Gal &
            Ghahramani 2016).

    Errors: `ValueError` for options that do not go together, and those of `Recurrent`.
    Source: Bahdanau, Cho & Bengio 2015, with tanh in the place of maxout; Luong, Pham & Manning
    2015.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        output_size: int,
        *,
        memory_size: int = 0,
        cell: Cell | str = "lstm",
        num_layers: int = 1,
        attention: Attention | str | None = "general",
        attend: str = "after",
        input_feeding: bool = False,
        readout_size: int | None = None,
        embedding: nn.Module | None = None,
        tied: bool = False,
        dropout: float = 0.0,
        variational: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        for name, size in (("hidden_size", hidden_size), ("output_size", output_size)):
            checks.check_size(name, size)
        check_flags(input_feeding=input_feeding, tied=tied)
        _check_options(options)
        width: int = options.get("proj_size") or hidden_size
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        if isinstance(attention, str):
            checks.check_size("memory_size", memory_size)
            attention = Attention(width, memory_size, attention, **kind)
        memory_size = 0 if attention is None else attention.memory_size
        if readout_size is None:
            readout_size = input_size if tied else width
        checks.check_size("readout_size", readout_size)
        _check_ways(attention, attend, input_feeding, width)
        if tied:
            _check_tied(embedding, output_size, readout_size)
        self.embedding = embedding
        self.attention = attention
        self.attend = attend
        self.input_feeding = input_feeding
        self.tied = tied
        self.variational = variational
        self.readout_dropout = dropout
        options, self.dropout = variational_options(dropout, variational, options)
        self.output_size = output_size
        self.readout_size = readout_size
        fed = readout_size if input_feeding else memory_size if attend == "before" else 0
        self.layer = Recurrent(
            cell,
            input_size + fed,
            hidden_size,
            num_layers,
            dropout=self.dropout if num_layers > 1 else 0.0,
            **kind,
            **options,
        )
        seen = width + memory_size + (input_size if attend == "before" else 0)
        self._create_output(seen, width, kind)

    def _create_output(self, seen: int, width: int, kind: dict[str, Any]) -> None:
        self.readout = None
        if self.attention is not None or self.readout_size != width:
            self.readout = nn.Linear(seen, self.readout_size, bias=False, **kind)
        shape = (self.output_size, self.readout_size)
        bound = 1.0 / math.sqrt(self.readout_size)
        self.weight_output = None if self.tied else nn.Parameter(torch.empty(shape, **kind))
        self.bias_output = nn.Parameter(torch.empty(self.output_size, **kind))
        for parameter in (self.weight_output, self.bias_output):
            if parameter is not None:
                nn.init.uniform_(parameter, -bound, bound)

    @property
    def looped(self) -> bool:
        """Whether a training target is a loop over steps, because one step's input needs the last
        step's readout or context."""
        return self.input_feeding or self.attend == "before"

    def start(self, batch: int, first: tuple[Tensor, ...] | None, memory: Memory | None) -> State:
        """The state before the first step.

        Arguments:
            batch: B, sources. first: states of the layer, `[L, B, H]` each; by default those that
                it begins with by itself. memory: what the attention remembers of the sources.

        Errors: `ValueError` where there is attention and no memory.
        """
        if self.attention is not None and memory is None:
            raise ValueError("this decoder attends to a source; give what attention.remember made")
        if first is None:
            first = self._own_start(batch)
        like = self.bias_output
        fed = like.new_zeros(batch, self.readout_size) if self.input_feeding else None
        coverage = None
        if self.attention is not None and self.attention.coverage and memory is not None:
            coverage = like.new_zeros(batch, memory.values.shape[1])
        return State(first, memory if self.attention is not None else None, fed, coverage)

    def _own_start(self, batch: int) -> tuple[Tensor, ...]:
        layer = self.layer
        if layer.options.learned_start:
            starts = [[getattr(layer, name) for name in names] for names in layer._described.starts]
            pairs = zip(*starts, strict=True)
            return tuple(torch.stack([start.expand(batch, -1) for start in rows]) for rows in pairs)
        shapes = layer._sizes.states(len(layer.cell.states), batch)
        return tuple(self.bias_output.new_zeros(shape[0]) for shape in shapes)

    def forward(self, target: Tensor, state: State) -> Decoded:
        """Logits of every step, each given the targets before it (teacher forcing).

        Arguments:
            target: `[B, T]` for an embedding, beginning with a begin mark, or features `[B, T, I]`.
                Steps are causal, so padding at the end changes nothing before it.
            state: from `start`, or of an earlier part of the same targets.

        Errors: `ValueError` for a wrong number of dimensions; what the embedding and the layer
        raise.
        """
        check_tensor("Decoder", "target", target)
        wanted = 2 if isinstance(self.embedding, nn.Embedding) else 3
        if target.dim() != wanted and (self.embedding is None or wanted == 2):
            shape = "[B, T] of numbers of words" if wanted == 2 else "[B, T, I]"
            raise ValueError(f"Decoder: expected target {shape}, got {list(target.shape)}")
        x = self._enter(target.transpose(0, 1))  # [T, B, I]
        seed = _seed(self.layer) if self.looped else None
        if self.looped:
            readouts, weights, state = self._loop(x, state, seed)
        else:
            readouts, weights, state = self._at_once(x, state)
        return Decoded(self._logits(readouts), state, weights)

    def step(self, tokens: Tensor, state: State) -> Decoded:
        """Logits `[N, V]` of one step, and the state after it.

        Arguments:
            tokens: the last word of each row, `[N]`, or features `[N, I]`.
        """
        x = self._enter(tokens.unsqueeze(0))  # [1, N, I]
        readout, state = self._advance(x, state, None)
        return Decoded(self._logits(readout, state.output), state, state.weights)

    def prepared(self, state: State) -> State:
        """The same state for many steps outside of autograd, while the weights stay as they are."""
        return dataclasses.replace(state, output=turned(self._output()))

    def _enter(self, target: Tensor) -> Tensor:
        x = target if self.embedding is None else self.embedding(target)
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x

    def _output(self) -> Tensor:
        if self.weight_output is not None:
            return self.weight_output
        return self.embedding.weight  # pyright: ignore[reportOptionalMemberAccess, reportReturnType] (checked at first)

    def _logits(self, readout: Tensor, ready: Tensor | None = None) -> Tensor:
        if self.readout_dropout and self.training:
            readout = self._drop(readout)
        if ready is not None and not torch.is_grad_enabled():
            return turned_readout(readout, ready, self.bias_output)
        return product(readout, self._output(), self.bias_output)

    def _drop(self, readout: Tensor) -> Tensor:
        """Readouts `[B, T, R]` or `[N, R]` without some of their features."""
        if not self.variational or readout.dim() == 2:
            return functional.dropout(readout, self.readout_dropout)
        mask = functional.dropout(torch.ones_like(readout[:, :1]), self.readout_dropout)
        return readout * mask

    def _hx(self, hx: tuple[Any, ...]) -> Any:
        return hx if self.layer.cell.states else hx[0]

    def _at_once(self, x: Tensor, state: State) -> tuple[Tensor, Tensor | None, State]:
        """Readouts `[B, T, R]` of all steps: the layer over all of them, then the attention."""
        out, hx = self.layer(x, self._hx(state.hx), **_numbered(self.layer, None, state.step))
        hx = hx if self.layer.cell.states else (hx,)
        after = dataclasses.replace(state, hx=hx, step=state.step + x.shape[0])
        h = out.transpose(0, 1)
        if self.attention is None or state.memory is None:
            return h if self.readout is None else torch.tanh(self.readout(h)), None, after
        found = self.attention(h, state.memory, state.coverage, state.step)
        after = dataclasses.replace(after, coverage=found.coverage, weights=found.weights[:, -1])
        readout = torch.tanh(self.readout(torch.cat([h, found.context], 2)))  # pyright: ignore[reportOptionalCall] (there is one with attention)
        return readout, found.weights, after

    def _loop(
        self, x: Tensor, state: State, seed: int | None
    ) -> tuple[Tensor, Tensor | None, State]:
        """The same, step by step."""
        readouts, weights = [], []
        for now in x.split(1):
            readout, state = self._advance(now, state, seed)
            readouts.append(readout)
            weights.append(state.weights)
        return torch.stack(readouts, 1), torch.stack(weights, 1), state

    def _advance(self, x: Tensor, state: State, seed: int | None) -> tuple[Tensor, State]:
        """The readout `[N, R]` of one step with the input `[1, N, I]`, and the state after it."""
        found = None
        entered = x
        if self.attend == "before":
            found = self._attend(state.hx[0][-1], state)
            entered = torch.cat([x, found[0].unsqueeze(0)], 2)
        elif state.fed is not None:
            entered = torch.cat([x, state.fed.unsqueeze(0)], 2)
        out, hx = self.layer(entered, self._hx(state.hx), **_numbered(self.layer, seed, state.step))
        h, hx = out[0], hx if self.layer.cell.states else (hx,)
        if self.attention is not None and found is None:
            found = self._attend(h, state)
        readout, coverage, weights = h, None, None
        if found is not None:
            context, weights, coverage = found
            parts = [h, context, x[0]] if self.attend == "before" else [h, context]
            readout = torch.cat(parts, 1)
        if self.readout is not None:
            readout = torch.tanh(self.readout(readout))
        fed = readout if self.input_feeding else None
        return readout, State(
            hx, state.memory, fed, coverage, state.step + 1, weights, state.output
        )

    def _attend(self, h: Tensor, state: State) -> tuple[Tensor, Tensor, Tensor | None]:
        """Context `[N, D]`, weights and coverage `[N, S]` of one step."""
        attention, memory = self.attention, state.memory
        assert attention is not None
        assert memory is not None
        sources = memory.values.shape[0]
        before = state.coverage
        # The hypotheses of a source are queries of the same memory.
        queries = h.unflatten(0, (sources, -1))
        seen = None if before is None else before.unflatten(0, (sources, -1))
        context, weights = attention.attend(queries, memory, seen, state.step, together=True)
        context, weights = context.flatten(0, 1), weights.flatten(0, 1)
        return context, weights, None if before is None else before + weights


def _seed(layer: Recurrent) -> int | None:
    """One seed for all steps of a loop, so that masks of a sequence stay the same in it."""
    return int(torch.randint(2**62, ())) if layer.random else None


def _numbered(layer: Recurrent, seed: int | None, step: int) -> dict[str, Any]:
    """How a layer with random masks is told which step it is in."""
    if not layer.random:
        return {}
    return {"first_step": step} if seed is None else {"seed": seed, "first_step": step}


def _check_options(options: Mapping[str, Any]) -> None:
    for option in ("bidirectional", "batch_first"):
        if option in options:
            raise TypeError(f"Decoder: {option} is no option of a decoder's layer")


def _check_ways(
    attention: Attention | None, attend: str, input_feeding: bool, hidden_size: int
) -> None:
    if attend not in ("after", "before"):
        raise ValueError(f"attend should be 'after' or 'before', got: {attend!r}")
    if attention is None and (attend == "before" or input_feeding):
        raise ValueError(
            "attend='before' and input_feeding need an attention, got None; name a score such as "
            "'additive'"
        )
    if attend == "before" and input_feeding:
        raise ValueError(
            "with attend='before' the context is a part of the input already; leave out "
            "input_feeding"
        )
    if attention is not None and attention.query_size != hidden_size:
        raise ValueError(
            f"the queries of the attention are the decoder's h, {hidden_size} features, but it was "
            f"made for {attention.query_size}"
        )


def _check_tied(embedding: nn.Module | None, output_size: int, readout_size: int) -> None:
    if not isinstance(embedding, nn.Embedding):
        raise ValueError("tied weights need an embedding of class torch.nn.Embedding")
    got = (embedding.num_embeddings, embedding.embedding_dim)
    if got != (output_size, readout_size):
        raise ValueError(
            f"tied weights need an embedding of output_size x readout_size, {output_size} x "
            f"{readout_size}, got: {got[0]} x {got[1]}"
        )
