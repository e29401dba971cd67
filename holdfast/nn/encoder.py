"""Sources as features to attend to: read by a recurrent layer, or given as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.compiler.cell import Cell
from holdfast.nn import checks
from holdfast.nn.attention import as_sources
from holdfast.nn.recurrent import Recurrent
from holdfast.nn.structure import check_flags, check_tensor


@dataclass(frozen=True)
class Encoded:
    """What an encoder has made of sources.

    values: `[B, S, D]`. lengths: `[B]`, or None where all S positions are valid. states: the last
    states of every layer and direction, `[L * D, B, H]` each, or None where nothing was read.
    """

    values: Tensor
    lengths: Tensor | None
    states: tuple[Tensor, ...] | None


class Encoder(nn.Module):
    """Read sources with any cell, in both directions, in layers.

    >>> import torch
    >>> encoder = Encoder(8, 5, num_layers=2, embedding=torch.nn.Embedding(100, 8))
    >>> found = encoder(torch.randint(100, (2, 7)), lengths=[7, 3])  # [B, S]
    >>> tuple(found.values.shape)
    (2, 7, 10)
    >>> numbers = Encoder(3, 5, cell="gru", bidirectional=False)
    >>> tuple(numbers(torch.randn(2, 7, 3)).values.shape)  # [B, S, I]
    (2, 7, 5)

    Arguments:
        input_size: I, features that the layer reads: those of the embedding, or of the source.
        hidden_size: H, units of each layer and direction.
        cell: a `Cell` or its name in the catalogue.
        num_layers: layers of the stack.
        bidirectional: read backwards, too; features of both directions are joined, D = 2 H.
        embedding: from the source to `[..., I]`, such as `torch.nn.Embedding`; None takes
            sources that are features already. It is called with the positions first, `[S, B]`.
        dropout: on the input of every layer, in training.
        variational: the masks of dropout stay the same for all steps of a sequence (Gal &
            Ghahramani 2016).
        options: those of `holdfast.nn.Recurrent`, by name.

    Errors: those of `Recurrent`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell: Cell | str = "lstm",
        num_layers: int = 1,
        bidirectional: bool = True,
        embedding: nn.Module | None = None,
        dropout: float = 0.0,
        variational: bool = False,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        checks.check_size("hidden_size", hidden_size)
        if "batch_first" in options:
            raise TypeError("Encoder: batch_first is no option; sources are [B, S, ...]")
        self.embedding = embedding
        options, dropout = variational_options(dropout, variational, options)
        self.layer = Recurrent(
            cell,
            input_size,
            hidden_size,
            num_layers,
            bidirectional=bidirectional,
            dropout=dropout if num_layers > 1 else 0.0,
            device=device,
            dtype=dtype,
            **options,
        )
        self.dropout = dropout

    @property
    def memory_size(self) -> int:
        """D, features of each position."""
        return self.layer._sizes.out(self.layer.num_layers - 1)

    def forward(self, source: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Encoded:
        """Features of each position, and the last states.

        Arguments:
            source: `[B, S]` for an embedding, or features `[B, S, I]`; what stands at padding does
                not matter, but an embedding must have a row for it.
            lengths: valid positions of each source, `[B]`, at least 1; all S by default.

        Errors: `ValueError` for a source of length 0, and what the layer and the embedding raise.
        """
        check_tensor("Encoder", "source", source)
        wanted = 2 if isinstance(self.embedding, nn.Embedding) else 3
        if source.dim() != wanted and (self.embedding is None or wanted == 2):
            shape = "[B, S] of numbers of words" if wanted == 2 else "[B, S, I]"
            raise ValueError(f"Encoder: expected source {shape}, got {list(source.shape)}")
        counts = as_sources(lengths, source)
        x = source.transpose(0, 1)  # [S, B, ...]
        if lengths is not None and x.is_floating_point():
            # An embedding of features would carry NaN from padding into its own gradients.
            valid = torch.arange(x.shape[0], device=x.device)[:, None] < counts
            x = torch.where(valid.view(*valid.shape, *(1,) * (x.dim() - 2)), x, 0.0)
        x = x if self.embedding is None else self.embedding(x)
        x = functional.dropout(x, self.dropout, self.training) if self.dropout else x
        known = None if lengths is None else counts
        out, states = self.layer(x, lengths=known)
        states = states if isinstance(states, tuple) else (states,)
        return Encoded(out.transpose(0, 1), known, states)


def variational_options(
    dropout: float, variational: bool, options: Mapping[str, Any]
) -> tuple[dict[str, Any], float]:
    """Options of a layer, and the dropout that is left to do outside of it.

    >>> variational_options(0.3, True, {"layer_norm": True})
    ({'layer_norm': True, 'input_dropout': 0.3}, 0.0)

    Errors: `TypeError` and `ValueError` for what does not go together.
    """
    check_flags(variational=variational)
    if not variational:
        return dict(options), dropout
    if "input_dropout" in options:
        raise ValueError("variational dropout is the input_dropout of the layer; give one of both")
    return {**options, "input_dropout": dropout}, 0.0


class Regions(nn.Module):
    """Take features as they are, such as those of the regions of an image.

    >>> import torch
    >>> tuple(Regions(4)(torch.randn(2, 7, 4)).values.shape)  # [B, S, D]
    (2, 7, 4)

    Arguments:
        memory_size: D, features of each region.

    Source: Xu et al. 2015, where the regions are those of a convolutional network.
    """

    layer = None

    def __init__(self, memory_size: int) -> None:
        super().__init__()
        checks.check_size("memory_size", memory_size)
        self.memory_size = memory_size

    def forward(self, source: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Encoded:
        """The features, `[B, S, D]`, of which the first `lengths` of each row count.

        Errors: `ValueError` for a row without regions, `RuntimeError` for a wrong shape.
        """
        check_tensor("Regions", "source", source)
        if source.dim() != 3 or source.shape[2] != self.memory_size:
            raise RuntimeError(
                f"Regions: expected source [B, S, {self.memory_size}], got {list(source.shape)}"
            )
        counts = as_sources(lengths, source)
        return Encoded(source, None if lengths is None else counts, None)

    def extra_repr(self) -> str:
        """The size."""
        return str(self.memory_size)
