"""A BiLSTM-CRF as one writes it in plain PyTorch: what the tagger's speed is compared with."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.crf import PlainCRF
from holdfast.data.text import pad
from holdfast.tasks.tag.encoded import UNKNOWN, Lexicon
from holdfast.tasks.tag.net import TagNet
from holdfast.tasks.tag.words import MOST_CHARACTERS


class PlainBatch:
    """A batch as tensors, token by token.

    words, tags: `[T, B]`. characters: of every token, `[L, T * B]`; spelled: how many, `[T * B]`.
    """

    def __init__(self, lexicon: Lexicon, words: list[list[str]], tags: list[list[int]]) -> None:
        normal, known, letters = lexicon.normal, lexicon.words.ids, lexicon.characters.ids
        numbers = [[known.get(normal(word), UNKNOWN) for word in row] for row in words]
        self.words, self.lengths = pad(numbers)
        self.tags, _ = pad(tags) if tags else (self.words, None)
        steps, count = self.words.shape
        self.mask = torch.arange(steps).unsqueeze(1) < self.lengths
        spelled = [[UNKNOWN]] * (steps * count)
        for column, row in enumerate(words):
            for step, word in enumerate(row):
                found = [letters.get(letter, UNKNOWN) for letter in word[:MOST_CHARACTERS]]
                spelled[step * count + column] = found
        self.characters, self.spelled = pad(spelled)


class PlainTagger(nn.Module):
    """Words, the last states of an LSTM over the characters of every token, BiLSTM, CRF.

    Sizes are those of a tagger's network, whose weights it takes over. Rows are packed, so that
    `torch.nn.LSTM` reads no padding.
    """

    def __init__(self, net: TagNet, dropout: float) -> None:
        super().__init__()
        assert net.layer is not None
        assert net.characters is not None
        assert net.crf is not None
        letters = net.characters.table
        self.words = nn.Embedding(net.words.num_embeddings, net.words.embedding_dim)
        self.characters = nn.Embedding(letters.num_embeddings, letters.embedding_dim)
        units = net.characters.units
        self.spell = nn.LSTM(letters.embedding_dim, units, bidirectional=True)
        hidden = net.layer.hidden_size
        assert isinstance(hidden, int)
        self.layer = nn.LSTM(net.layer.input_size, hidden, bidirectional=True)
        self.emit = nn.Linear(2 * hidden, len(net.bias))
        self.dropout = nn.Dropout(dropout)
        self.crf = PlainCRF(len(net.bias))
        self.load_state_dict(self.taken(net.state_dict()))

    @staticmethod
    def taken(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a tagger's network by the names that they have here."""
        names = {
            "characters.table.": "characters.",
            "characters.layer.": "spell.",
            "bias": "emit.bias",
        }
        found = {}
        for name, value in state.items():
            at = next((start for start in names if name.startswith(start)), None)
            found[name if at is None else names[at] + name.removeprefix(at)] = value
        return {name: value.clone() for name, value in found.items()}

    def forward(self, batch: PlainBatch) -> Tensor:
        """The scores of tags, `[T, B, K]`."""
        steps, count = batch.words.shape
        x = self.dropout(self.characters(batch.characters))
        packed = pack_padded_sequence(x, batch.spelled, enforce_sorted=False)
        _, (h, _) = self.spell(packed)
        spelled = torch.cat([h[0], h[1]], 1).view(steps, count, -1)
        x = self.dropout(torch.cat([self.words(batch.words), spelled], 2))
        packed = pack_padded_sequence(x, batch.lengths, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.layer(packed)[0])
        return self.emit(self.dropout(out))

    def loss(self, batch: PlainBatch) -> Tensor:
        """Minus the log-likelihood per token."""
        return -self.crf(self(batch), batch.tags, batch.mask).sum() / batch.mask.sum()
