"""An encoder-decoder beside the same one with `torch.nn.LSTM` and PyTorch's products.

`python -m benchmarks.seq2seq` prints a table and one line of JSON: a training step with and
without input feeding, greedy decoding and a beam of 5, one thread, in turns. Weights are random,
and the end mark is never likely, so that every sequence has all its steps.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.timing import alternate
from holdfast.nn import Beam, EncoderDecoder, Recurrent, Sampling

BEGIN, END = 1, 2


class Setting(NamedTuple):
    """Words of both sides, features of their embeddings, units, sentences and their words."""

    words: int
    embedding: int
    units: int
    sentences: int
    length: int


SETTINGS = {
    "subwords": Setting(8000, 256, 512, 64, 24),
    "characters": Setting(60, 64, 256, 64, 32),
    "one sentence": Setting(8000, 256, 512, 1, 24),
}


class TorchLSTM(nn.LSTM):
    """PyTorch's layer with the weights of ours, called as ours is."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__(
            layer.input_size,
            layer._sizes.hidden[0],
            layer.num_layers,
            bidirectional=layer.bidirectional,
        )
        self.load_state_dict(layer.state_dict())
        self.cell, self.options, self._sizes = layer.cell, layer.options, layer._sizes
        self.random = False

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] (called as ours is)
        self, input: Tensor, hx: Any = None, lengths: Tensor | None = None
    ) -> Any:
        """Output and last states, rows of unequal length packed."""
        if lengths is None:
            return super().forward(input, hx)
        packed = pack_padded_sequence(input, lengths, enforce_sorted=False)
        out, hx = super().forward(packed, hx)
        return pad_packed_sequence(out, total_length=input.shape[0])[0], hx


def with_torch(model: EncoderDecoder) -> EncoderDecoder:
    """The same model with PyTorch's layers."""
    twin: Any = copy.deepcopy(model)
    for part in (twin.encoder, twin.decoder):
        part.layer = TorchLSTM(part.layer)
    return twin


@contextmanager
def plain_products() -> Iterator[None]:
    """PyTorch's product with the vocabulary."""
    place = "holdfast.nn.decoder."
    with (
        mock.patch(place + "product", functional.linear),
        mock.patch(place + "turned", return_value=None),
    ):
        yield


class Problem:
    """A batch of a setting, and what is done with it."""

    def __init__(self, setting: Setting) -> None:
        generator = torch.Generator().manual_seed(0)
        self.setting = setting
        words, rows, length = setting.words, setting.sentences, setting.length

        def drawn(low: int, *shape: int) -> Tensor:
            return torch.randint(low, words, shape, generator=generator)

        self.source, self.given, self.wanted = (drawn(3, rows, length) for _ in range(3))
        shortest = 3 * length // 4
        self.lengths = torch.randint(shortest, length + 1, (rows,), generator=generator)
        self.lengths[0] = length

    def model(self, input_feeding: bool) -> EncoderDecoder:
        """A model whose end mark is never likely."""
        setting = self.setting
        model = EncoderDecoder.of_words(
            setting.words,
            setting.words,
            embedding_size=setting.embedding,
            hidden_size=setting.units,
            input_feeding=input_feeding,
        )
        with torch.no_grad():
            model.decoder.bias_output[END] = -50.0
        return model

    def train(self, model: EncoderDecoder) -> None:
        """Loss and gradients of one batch."""
        model.train().zero_grad()
        logits = model(self.source, self.lengths, self.given)
        functional.cross_entropy(logits.flatten(0, 1), self.wanted.flatten()).backward()

    def search(self, model: EncoderDecoder, how: Beam | Sampling) -> list[list[int]]:
        """The best target of each source."""
        most = self.setting.length
        found = model.eval().search(
            self.source, self.lengths, begin=BEGIN, end=END, how=how, max_length=most
        )
        return found.best()


def works(problem: Problem) -> dict[str, tuple[bool, Callable[[EncoderDecoder], Any]]]:
    """What is measured: with input feeding or not, and what is done with a model."""
    return {
        "training step": (False, problem.train),
        "training step, input feeding": (True, problem.train),
        "greedy": (False, lambda model: problem.search(model, Sampling(temperature=0))),
        "beam of 5": (False, lambda model: problem.search(model, Beam(5))),
        "beam of 5, input feeding": (True, lambda model: problem.search(model, Beam(5))),
    }


def measure(setting: str, rounds: int = 3, seconds: float = 0.5) -> list[dict[str, Any]]:
    """Milliseconds of ours and PyTorch's, and their ratio, for every kind of work."""
    problem, found = Problem(SETTINGS[setting]), []
    for name, (feeding, work) in works(problem).items():
        ours = problem.model(feeding)
        theirs = with_torch(ours)

        def plain(work: Callable[..., Any] = work, model: EncoderDecoder = theirs) -> Any:
            with plain_products():
                return work(model)

        def own(work: Callable[..., Any] = work, model: EncoderDecoder = ours) -> Any:
            return work(model)

        if name.startswith(("greedy", "beam")) and own() != plain():
            raise RuntimeError(f"{setting}, {name}: both should find the same targets")
        timings = alternate({"ours": own, "torch": plain}, rounds, seconds)
        row = {who: round(1e3 * timings[who].seconds.median, 2) for who in timings}
        ratio = timings["ours"].ratio(timings["torch"])
        found.append({"setting": setting, "work": name, **row, "ratio": round(ratio.median, 2)})
    return found


def main(names: list[str]) -> None:
    """Print the table of the settings that are named, or of all."""
    torch.set_num_threads(1)
    rows = []
    for name in names or SETTINGS:
        for row in measure(name):
            print("{setting:14}{work:32}{ours:10.1f} ms{torch:10.1f} ms{ratio:7.2f}".format(**row))
            rows.append(row)
    print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
