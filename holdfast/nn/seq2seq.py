"""From sequences to sequences: an encoder, a bridge, and a decoder that attends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from holdfast.compiler.cell import Cell
from holdfast.nn.attention import Attention
from holdfast.nn.beam import Beam
from holdfast.nn.bridge import Bridge
from holdfast.nn.decoder import Decoded, Decoder, State
from holdfast.nn.decoding import Hypotheses
from holdfast.nn.encoder import Encoder, Regions
from holdfast.nn.sampling import Sampling


class EncoderDecoder(nn.Module):
    """Turn sources into targets: words into words, regions into words, series into series.

    >>> import torch
    >>> model = EncoderDecoder.of_words(100, 120, embedding_size=8, hidden_size=6)
    >>> source, target = torch.randint(100, (2, 7)), torch.randint(120, (2, 5))  # [B, S], [B, T]
    >>> tuple(model(source, [7, 3], target).shape)
    (2, 5, 120)
    >>> found = model.search(source, [7, 3], begin=1, end=2, max_length=4)
    >>> len(found.best())
    2

    Arguments:
        encoder: an `Encoder`, `Regions` for features that are given, or a module of your own that
            returns an `Encoded` and has `memory_size` and `layer`.
        decoder: a `Decoder` with an attention for `memory_size` features, or without one.
        bridge: the way to the decoder's first states: "linear", "copy", "mean" or "zero"; by
            default "linear", for encoders without states "mean".

    Errors: `ValueError` for parts that do not fit together.
    """

    def __init__(
        self, encoder: Encoder | Regions | nn.Module, decoder: Decoder, bridge: str | None = None
    ) -> None:
        super().__init__()
        size: int = encoder.memory_size  # pyright: ignore[reportAssignmentType] (documented above)
        read: Any = encoder.layer
        attention = decoder.attention
        if attention is not None and attention.memory_size != size:
            raise ValueError(
                f"the encoder gives {size} features a position, but the decoder's attention was "
                f"made for {attention.memory_size}"
            )
        self.encoder = encoder
        self.decoder = decoder
        like = decoder.bias_output
        kind = bridge or ("mean" if read is None else "linear")
        self.bridge = Bridge(kind, decoder.layer, size, read, like.device, like.dtype)

    @classmethod
    def of_words(
        cls,
        source_words: int,
        target_words: int,
        *,
        embedding_size: int = 256,
        hidden_size: int = 256,
        num_layers: int = 1,
        cell: Cell | str = "lstm",
        bidirectional: bool = True,
        attention: Attention | str | None = "general",
        attend: str = "after",
        input_feeding: bool = False,
        tied: bool = False,
        dropout: float = 0.0,
        bridge: str | None = None,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> EncoderDecoder:
        """A model of words, or of subwords or characters, with sizes that go together.

        Arguments:
            source_words, target_words: rows of the two embeddings, marks included.
            hidden_size: H of the decoder; each direction of the encoder has H, or H / 2 where it
                reads both.
            options: those of `holdfast.nn.Recurrent`, for encoder and decoder.
            The others are those of `Encoder`, `Decoder` and `EncoderDecoder`.

        Errors: `ValueError` for an odd `hidden_size` with two directions.
        """
        if bidirectional and hidden_size % 2:
            raise ValueError(
                f"hidden_size is shared by two directions, so it should be even, got: {hidden_size}"
            )
        kind: dict[str, Any] = {"device": device, "dtype": dtype}
        shared = {"cell": cell, "num_layers": num_layers, "dropout": dropout} | kind | options
        encoder = Encoder(
            embedding_size,
            hidden_size // 2 if bidirectional else hidden_size,
            bidirectional=bidirectional,
            embedding=nn.Embedding(source_words, embedding_size, **kind),
            **shared,
        )
        decoder = Decoder(
            embedding_size,
            hidden_size,
            target_words,
            memory_size=hidden_size,
            attention=attention,
            attend=attend,
            input_feeding=input_feeding,
            embedding=nn.Embedding(target_words, embedding_size, **kind),
            tied=tied,
            **shared,
        )
        return cls(encoder, decoder, bridge)

    def encode(self, source: Tensor, source_lengths: Tensor | Sequence[int] | None = None) -> State:
        """The decoder's state before its first step.

        Arguments:
            source: `[B, S]` of words, or features `[B, S, I]`. source_lengths: `[B]`, at least 1.

        Errors: `ValueError` for an empty source, and what the encoder raises.
        """
        encoded = self.encoder(source, source_lengths)
        attention = self.decoder.attention
        memory = None
        if attention is not None:
            memory = attention.remember(encoded.values, encoded.lengths)
        return self.decoder.start(source.shape[0], self.bridge(encoded), memory)

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor | Sequence[int] | None,
        target: Tensor,
    ) -> Tensor:
        """Logits `[B, T, V]` of every step, each given the true targets before it.

        Arguments:
            source, source_lengths: as for `encode`.
            target: `[B, T]`, beginning with the begin mark; any word may stand at padding, and the
                logits there are to be left out of the loss.
        """
        return self.decode(source, source_lengths, target).logits

    def decode(
        self,
        source: Tensor,
        source_lengths: Tensor | Sequence[int] | None,
        target: Tensor,
    ) -> Decoded:
        """The same as a call, with the attention of every step, `[B, T, S]`, and the last state."""
        return self.decoder(target, self.encode(source, source_lengths))

    def step(self, tokens: Tensor, state: State) -> tuple[Tensor, State]:
        """Logits `[N, V]` of one step after `tokens`, `[N]`, and the state after it."""
        logits, state, _ = self.decoder.step(tokens, state)
        return logits, state

    def search(
        self,
        source: Tensor,
        source_lengths: Tensor | Sequence[int] | None = None,
        *,
        begin: int,
        end: int,
        how: Beam | Sampling | None = None,
        max_length: int | Tensor | None = None,
        **options: Any,
    ) -> Hypotheses:
        """The targets of sources: searched, drawn, or token by token.

        The model should be in evaluation mode (`model.eval()`), else dropout acts.

        Arguments:
            source, source_lengths: as for `encode`.
            begin, end: the marks that a target begins and ends with.
            how: a `Beam`, by default of 5, or a `Sampling`; `Sampling(temperature=0)` is greedy.
            max_length: most words; by default twice those of the source and 10 more.
            options: `prefix`, `weights` and, for a `Sampling`, `generator`.
        """
        how = Beam() if how is None else how
        with torch.no_grad():
            state = self.decoder.prepared(self.encode(source, source_lengths))
            if max_length is None:
                given = source.shape[1] if source_lengths is None else source_lengths
                max_length = 2 * torch.as_tensor(given, device=source.device) + 10
            return how(
                self.step,
                state,
                source.shape[0],
                begin=begin,
                end=end,
                max_length=max_length,
                device=source.device,
                **options,
            )
