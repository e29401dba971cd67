"""The network of a translator, from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from holdfast.errors import DataError
from holdfast.nn.attention import Attention
from holdfast.nn.seq2seq import EncoderDecoder
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours

# Seeds of the members of an ensemble are so far apart that nobody's next seed meets them.
STRIDE = 1_000_003


def new_network(
    settings: Mapping[str, Any], source_size: int, target_size: int, member: int = 0
) -> EncoderDecoder:
    """A network before training; its numbers come from the seed alone.

    Errors: `DataError` for settings that do not go together.
    """
    with own_random_numbers():
        seed_everything_of_ours(settings["seed"] + STRIDE * member, 0)
        try:
            net = EncoderDecoder.of_words(
                source_size,
                target_size,
                embedding_size=settings["embedding_size"],
                hidden_size=settings["hidden_size"],
                num_layers=settings["num_layers"],
                cell=settings["cell"],
                bidirectional=settings["bidirectional"],
                attention=_attention(settings),
                attend=settings["attend"],
                input_feeding=settings["input_feeding"],
                tied=settings["tied"],
                bridge=settings["bridge"],
                dropout=settings["dropout"],
                variational=settings["variational"],
                **(settings["options"] or {}),
            )
        except (ValueError, TypeError) as error:
            raise DataError(f"the network cannot be built: {error}") from error
        for part in (net.encoder, net.decoder):
            _narrow_(part.embedding)  # pyright: ignore[reportArgumentType] (both have one)
        return net


def _attention(settings: Mapping[str, Any]) -> Attention | None:
    if settings["attention"] is None:
        return None
    size = settings["hidden_size"]
    return Attention(size, size, settings["attention"], **(settings["attention_options"] or {}))


def _narrow_(embedding: nn.Embedding) -> None:
    """Rows about as long as 1; as weights of the output, longer ones would be sure at once."""
    with torch.no_grad():
        embedding.weight.mul_(embedding.embedding_dim**-0.5)
