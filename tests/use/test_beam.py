"""Beam search and sampling: against enumeration, against each other, against the statistics."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from holdfast.nn.attention import Attention
from holdfast.nn.beam import Beam
from holdfast.nn.decoding import Hypotheses, block_repeats_, fewer
from holdfast.nn.sampling import Sampling, draw, narrow
from holdfast.nn.seq2seq import EncoderDecoder
from tests.helpers import assert_same, unequal_

BEGIN, END = 0, 1
GREEDY = Sampling(temperature=0)


@dataclass(frozen=True)
class Carried:
    """A row's own start and all that it has said: nothing that could be mixed up unseen."""

    h: Tensor  # [N, 4]
    memory: Any = None
    weights: Tensor | None = None

    def select(self, rows: Tensor, sources: Tensor | None = None) -> Carried:
        memory = self.memory
        if memory is not None and sources is not None:
            memory = Sources(memory.lengths[sources], memory.keys[sources])
        return Carried(self.h[rows], memory)


@dataclass(frozen=True)
class Sources:
    """What rows of one source share."""

    lengths: Tensor  # [B]
    keys: Tensor  # [B, S, 4]

    def valid(self) -> Tensor:
        return torch.arange(self.keys.shape[1]) < self.lengths[:, None]


class Model:
    """A recurrence with attention weights, small enough for every sequence to be tried."""

    def __init__(self, generator: torch.Generator, words: int = 4, positions: int = 3) -> None:
        def made(*shape: int) -> Tensor:
            return 1.5 * torch.randn(*shape, generator=generator, dtype=torch.float64)

        self.words = words
        self.recurrent, self.embedding, self.output = made(4, 4), made(words, 4), made(4, words)
        self.starts, self.keys = made(70, 4), made(70, positions, 4)
        self.lengths = torch.randint(1, positions + 1, (70,), generator=generator)
        self.bias = 1.5 * torch.eye(words, dtype=torch.float64)[END]
        self.calls: list[int] = []

    def start(self, rows: list[int]) -> Carried:
        return Carried(self.starts[rows], Sources(self.lengths[rows], self.keys[rows]))

    def step(self, tokens: Tensor, state: Carried) -> tuple[Tensor, Carried]:
        self.calls.append(len(tokens))
        h = torch.tanh(state.h @ self.recurrent + self.embedding[tokens])
        keys = state.memory.keys
        scores = h.unflatten(0, (len(keys), -1)) @ keys.transpose(1, 2)
        scores = scores.masked_fill(~state.memory.valid().unsqueeze(1), -math.inf)
        return h @ self.output + self.bias, Carried(
            h, state.memory, scores.softmax(2).flatten(0, 1)
        )

    def run(self, row: int, sequence: tuple[int, ...]) -> tuple[float, Tensor]:
        """The log-probability of a sequence and its end, and the attention of each of its steps."""
        state, total, seen = self.start([row]), 0.0, []
        for said, word in zip((BEGIN, *sequence), (*sequence, END), strict=True):
            logits, state = self.step(torch.tensor([said]), state)
            total += float(logits.log_softmax(1)[0, word])
            assert state.weights is not None
            seen.append(state.weights[0])
        return total, torch.stack(seen)

    def all(self, longest: int) -> list[tuple[int, ...]]:
        others = [word for word in range(self.words) if word != END]
        return [
            one for size in range(longest + 1) for one in itertools.product(others, repeat=size)
        ]


def search(model: Model, how: Beam | Sampling, rows: list[int], longest: Any, **more: Any) -> Any:
    return how(
        model.step, model.start(rows), len(rows), begin=BEGIN, end=END, max_length=longest, **more
    )


def ranked(model: Model, beam: Beam, row: int, longest: int) -> list[tuple[float, tuple[int, ...]]]:
    """Every sequence with its score, the best first, by the papers' formulas."""
    found = []
    for one in model.all(longest):
        total, seen = model.run(row, one)
        size = len(one) + 1
        divisor = {"none": 1.0, "average": size**beam.alpha, "wu": ((5 + size) / 6) ** beam.alpha}
        score = total / divisor[beam.length_penalty]
        had = seen.sum(0)[: int(model.lengths[row])].clamp(max=1.0)
        found.append((score + beam.coverage_penalty * float(had.log().sum()), one))
    return sorted(found, reverse=True)


PENALTIES = [
    {"length_penalty": "none"},
    {"length_penalty": "average"},
    {"length_penalty": "average", "alpha": 0.5},
    {"length_penalty": "wu", "alpha": 0.8},
    {"length_penalty": "wu", "alpha": 0.6, "coverage_penalty": 0.4},
]


@pytest.mark.parametrize("finish", ["first", "best"])
@pytest.mark.parametrize("options", PENALTIES, ids=str)
def test_a_beam_as_wide_as_everything_is_enumeration(
    options: dict[str, Any], finish: str, generator: torch.Generator
) -> None:
    model, longest = Model(generator), 3
    beam = Beam(width=41, n_best=9, finish=finish, **options)
    found = search(model, beam, [0, 1, 2], longest)
    for row in range(3):
        wanted = ranked(model, beam, row, longest)[:9]
        assert [tuple(one) for one in found.lists()[row]] == [one for _, one in wanted]
        assert_same(found.scores[row].tolist(), [score for score, _ in wanted])
        totals = [model.run(row, one)[0] for _, one in wanted]
        assert_same(found.log_probs[row].tolist(), totals)


def by_hand(model: Model, width: int, row: int, longest: int) -> list[tuple[float, list[int]]]:
    """A beam search as a loop over hypotheses, ranked by mean log-probability."""
    alive, ended = [(0.0, [BEGIN], model.start([row]))], []
    for step in range(longest + 1):
        found = []
        for total, said, state in alive:
            logits, after = model.step(torch.tensor(said[-1:]), state)
            chances = logits.log_softmax(1)[0].tolist()
            for word in range(model.words) if step < longest else [END]:
                found.append((total + chances[word], [*said, word], after))
        found.sort(key=lambda one: -one[0])
        ended += [(one[0] / (step + 1), one[1][1:-1]) for one in found[:width] if one[1][-1] == END]
        alive = [one for one in found if one[1][-1] != END][:width]
        if len(ended) >= width:
            break
    return sorted(ended, reverse=True)[:width]


@pytest.mark.parametrize("width", [2, 3])
def test_a_narrow_beam_is_a_loop_over_hypotheses(width: int, generator: torch.Generator) -> None:
    model, rows = Model(generator, words=7), list(range(40))
    # The hypotheses of one source often have a single one for a parent.
    model.bias[2] = 2.0
    found = search(model, Beam(width=width, n_best=width), rows, 6)
    for row in rows:
        wanted = by_hand(model, width, row, 6)
        assert found.lists()[row] == [said for _, said in wanted]
        assert_same(found.scores[row].tolist(), [score for score, _ in wanted])


@pytest.mark.parametrize("options", PENALTIES[:3], ids=str)
def test_the_exact_bound_never_loses_what_a_longer_search_finds(
    options: dict[str, Any], generator: torch.Generator
) -> None:
    model = Model(generator, words=7)
    rows = list(range(40))
    found = search(model, Beam(width=3, finish="best", **options), rows, 8)
    early = model.calls.copy()
    # With room for more of the ended, nothing ends early.
    whole = search(model, Beam(width=3, n_best=3, finish="best", **options), rows, 8)
    assert_same(found.scores[:, 0], whole.scores[:, 0])
    assert found.best() == whole.best()
    if options["length_penalty"] == "none":
        assert sum(early) < sum(model.calls) - sum(early)


def test_width_one_is_greedy(generator: torch.Generator) -> None:
    model = Model(generator, words=9)
    rows = list(range(70))
    greedy = search(model, GREEDY, rows, 12)
    beam = search(model, Beam(width=1), rows, 12)
    assert beam.best() == greedy.best()
    assert_same(beam.log_probs, greedy.log_probs)
    assert len({len(one) for one in greedy.best()}) > 3
    for row in rows[:9]:
        state, said = model.start([row]), [BEGIN]
        while len(said) <= 12:
            logits, state = model.step(torch.tensor(said[-1:]), state)
            said.append(int(logits.argmax()))
            if said[-1] == END:
                break
        assert greedy.best()[row] == [word for word in said[1:] if word != END]


@pytest.mark.parametrize(
    "how",
    [
        Beam(width=4, n_best=3),
        Beam(width=3, finish="best", length_penalty="wu", coverage_penalty=0.2),
        Beam(width=4, no_repeat=2, banned=(0, 3), min_length=2),
        GREEDY,
    ],
    ids=str,
)
def test_sources_together_are_sources_alone(
    how: Beam | Sampling, generator: torch.Generator
) -> None:
    model = Model(generator, words=8)
    rows = list(range(33))
    longest = torch.arange(33) % 7 + 3
    together = search(model, how, rows, longest, weights=True)
    backwards = search(model, how, rows[::-1], longest.flip(0), weights=True)
    assert together.lists() == backwards.lists()[::-1]
    assert_same(together.scores, backwards.scores.flip(0))
    for row in rows:
        alone = search(model, how, [row], int(longest[row]), weights=True)
        assert together.lists()[row] == alone.lists()[0]
        assert_same(together.scores[row], alone.scores[0])
        steps = alone.tokens.shape[2]
        assert_same(together.weights[row, :, :steps], alone.weights[0])
        assert (together.tokens[row, :, steps:] == END).all()


def test_attention_belongs_to_the_tokens(generator: torch.Generator) -> None:
    model = Model(generator, words=6)
    for how in (Beam(width=4, n_best=4), GREEDY):
        found: Hypotheses = search(model, how, [3, 4, 5, 6], 6, weights=True)
        assert found.weights is not None
        for row, sequences in zip([3, 4, 5, 6], found.lists(), strict=True):
            for place, one in enumerate(sequences):
                total, seen = model.run(row, tuple(one))
                weights = found.weights[row - 3, place]
                assert_same(weights[: len(one)], seen[:-1])
                assert not weights[len(one) :].any()
                assert_same(float(found.log_probs[row - 3, place]), total)


@pytest.mark.parametrize("how", [Beam(width=4, n_best=4), Sampling(samples=4)], ids=str)
def test_rules_hold(how: Any, generator: torch.Generator) -> None:
    model = Model(generator, words=6)
    rows, drawn = list(range(20)), {}
    if isinstance(how, Sampling):
        drawn = {"generator": generator}
    changed = type(how)(**(vars(how) | {"min_length": 3, "banned": (BEGIN, 4), "no_repeat": 2}))
    found = search(model, changed, rows, 9, **drawn)
    said = [one for sequences in found.lists() for one in sequences]
    assert said
    for one in said:
        pairs = list(itertools.pairwise(one))
        assert 3 <= len(one) <= 9
        assert not {BEGIN, END, 4} & set(one)
        assert len(set(pairs)) == len(pairs)
    loose = search(model, how, rows, 9, **drawn)
    assert any({BEGIN, 4} & set(one) for sequences in loose.lists() for one in sequences)
    assert min(len(one) for sequences in loose.lists() for one in sequences) < 3


@pytest.mark.parametrize("how", [Beam(width=4), GREEDY, Beam(width=4, banned=(2,))], ids=str)
def test_prefixes_are_kept_and_counted(how: Any, generator: torch.Generator) -> None:
    model = Model(generator, words=6)
    prefix = [[2, 2, 3], [], [5], [4, 0, 4, 4]]
    found = search(model, how, [0, 1, 2, 3], 6, prefix=prefix)
    for row, (first, one) in enumerate(zip(prefix, found.best(), strict=True)):
        assert one[: len(first)] == first
        assert_same(float(found.log_probs[row, 0]), model.run(row, tuple(one))[0])
    free = search(model, how, [1], 6)
    assert free.best()[0] == found.best()[1]


def test_repeats_are_what_a_loop_finds(generator: torch.Generator) -> None:
    history = torch.randint(3, (5, 2, 9), generator=generator)
    for size, steps in itertools.product((1, 2, 3), (0, 1, 2, 9)):
        scores = torch.zeros(5, 2, 4)
        block_repeats_(scores, history[:, :, :steps], size)
        for b, m, word in itertools.product(range(5), range(2), range(4)):
            said = history[b, m, :steps].tolist()
            runs = [said[at : at + size] for at in range(steps - size + 1)]
            blocked = (said[steps - size + 1 :] if size > 1 else []) + [word] in runs
            assert (scores[b, m, word] == -math.inf) == blocked


def test_done_sources_leave_the_batch(generator: torch.Generator) -> None:
    model = Model(generator, words=9)
    search(model, Beam(width=2), list(range(64)), 30)
    assert model.calls[0] == 64
    assert model.calls[1] == 128
    assert set(model.calls) <= {64, *(2 * 64 // 2**n for n in range(7))}
    assert model.calls[-1] < 64
    assert fewer(7, 3) == 4
    assert fewer(1, 1) == 1


def test_a_source_without_any_sequence_has_none(generator: torch.Generator) -> None:
    model = Model(generator, words=4)
    beam = Beam(width=2, banned=(0, 2, 3), min_length=1)
    found = search(model, beam, [0, 1], 3)
    assert found.lists() == [[], []]
    assert found.scores.tolist() == [[-math.inf], [-math.inf]]


def test_narrowing(generator: torch.Generator) -> None:
    logits = torch.randn(50, 20, generator=generator)
    kept = narrow(logits, top_k=5) > -math.inf
    assert (kept.sum(1) == 5).all()
    assert (
        logits.masked_fill(~kept, math.inf).amin(1) > logits.masked_fill(kept, -9e9).amax(1)
    ).all()
    for p in (0.3, 0.9):
        chances = logits.softmax(1)
        kept = narrow(logits, top_p=p) > -math.inf
        mass = torch.where(kept, chances, 0.0).sum(1)
        least = torch.where(kept, chances, math.inf).amin(1)
        assert (mass >= p).all()
        assert (mass - least < p).all()
        assert (least > torch.where(kept, 0.0, chances).amax(1)).all()
    assert_same(narrow(logits, 0.5), logits / 0.5)
    assert (narrow(logits, top_p=1e-9) > -math.inf).sum() == 50


@pytest.mark.parametrize(
    ("options", "chances"),
    [
        ({}, [0.1, 0.2, 0.3, 0.4]),
        ({"temperature": 0.5}, [1 / 30, 4 / 30, 9 / 30, 16 / 30]),
        ({"top_k": 2}, [0.0, 0.0, 3 / 7, 4 / 7]),
        ({"top_p": 0.75}, [0.0, 2 / 9, 3 / 9, 4 / 9]),
    ],
)
def test_draws_have_the_right_frequencies(
    options: dict[str, Any], chances: list[float], generator: torch.Generator
) -> None:
    count = 40_000
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(count, 4)
    found = draw(narrow(logits, **options), generator).bincount(minlength=4) / count
    for got, wanted in zip(found.tolist(), chances, strict=True):
        assert abs(got - wanted) <= 4.5 * math.sqrt(wanted * (1 - wanted) / count)


def test_whole_sequences_have_the_right_frequencies(generator: torch.Generator) -> None:
    model, count = Model(generator, words=3), 20_000
    found = search(model, Sampling(samples=count), [7], 2, generator=generator)
    said = [tuple(one) for one in found.lists()[0]]
    # At the limit the end mark is the only choice, whatever its probability.
    for one in model.all(2):
        total, _ = model.run(7, one)
        if len(one) == 2:
            last, _ = model.run(7, one[:1])
            logits_end = total - _before(model, one)
            total -= logits_end
            assert last <= 0
        chance = math.exp(total)
        assert abs(said.count(one) / count - chance) <= 4.5 * math.sqrt(chance / count) + 1e-4


def _before(model: Model, one: tuple[int, ...]) -> float:
    """The log-probability of a sequence without its end."""
    state, total = model.start([7]), 0.0
    for said, word in zip((BEGIN, *one), one, strict=False):
        logits, state = model.step(torch.tensor([said]), state)
        total += float(logits.log_softmax(1)[0, word])
    return total


def test_a_seed_gives_the_same_draws_and_leaves_the_global_one(generator: torch.Generator) -> None:
    model = Model(generator, words=6)
    before = torch.random.get_rng_state()
    first, again, other = (
        search(model, Sampling(samples=3), [0, 1], 9, generator=seed) for seed in (3, 3, 4)
    )
    assert first.lists() == again.lists() != other.lists()
    search(model, Sampling(), [0], 3)
    assert torch.equal(before, torch.random.get_rng_state())
    for row, sequences in enumerate(first.lists()):
        for place, one in enumerate(sequences):
            assert_same(float(first.log_probs[row, place]), model.run(row, tuple(one))[0])


WAYS = [
    {},
    {"input_feeding": True, "num_layers": 2},
    {"attend": "before", "attention": "additive", "cell": "gru"},
    {"attention": None},
    {"coverage": True},
]


@pytest.mark.parametrize("ways", WAYS, ids=str)
def test_a_real_model_alone_and_padded(ways: dict[str, Any], generator: torch.Generator) -> None:
    ways, dtype = dict(ways), torch.float64
    if ways.pop("coverage", False):
        ways["attention"] = Attention(6, 6, "additive", coverage=True, dtype=dtype)
    model = EncoderDecoder.of_words(9, 8, embedding_size=4, hidden_size=6, dtype=dtype, **ways)
    model.eval()
    unequal_(model, generator)
    with torch.no_grad():
        assert model.decoder.weight_output is not None
        model.decoder.weight_output.mul_(4.0)
    source = torch.randint(9, (6, 5), generator=generator)
    lengths = [5, 1, 3, 2, 5, 4]
    attends = ways.get("attention", "general") is not None
    beam = Beam(width=3, n_best=2, length_penalty="wu", coverage_penalty=0.1 * attends)
    for how in (beam, GREEDY):
        options: dict[str, Any] = {"begin": BEGIN, "end": END, "how": how, "weights": attends}
        found = model.search(source, lengths, **options)
        wide = model.search(torch.cat([source, source], 1), lengths, **options)
        assert wide.lists() == found.lists()
        assert_same(wide.scores, found.scores)
        for row, length in enumerate(lengths):
            alone = model.search(source[row : row + 1, :length], **options)
            assert alone.lists()[0] == found.lists()[row]
            assert_same(alone.scores[0], found.scores[row])
            for place, one in enumerate(alone.lists()[0]):
                target = torch.tensor([[BEGIN, *one]])
                whole = model.decode(source[row : row + 1, :length], None, target)
                chances = whole.logits.log_softmax(2)[0].gather(1, torch.tensor([[*one, END]]).t())
                assert_same(found.log_probs[row, place], chances.sum())
                if attends and one:
                    assert found.weights is not None
                    assert whole.weights is not None
                    seen = found.weights[row, place, : len(one), :length]
                    assert_same(seen, whole.weights[0, :-1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Beam(width=0), "width must be greater than zero"),
        (lambda: Beam(width=2, n_best=3), "n_best should be at most width, 2, got: 3"),
        (lambda: Beam(length_penalty="mean"), "length_penalty should be one of none, average, wu"),
        (lambda: Beam(finish="last"), "finish should be one of first, best"),
        (lambda: Beam(alpha=-1.0), "alpha should be at least 0"),
        (lambda: Beam(min_length=-1), "min_length must be"),
        (lambda: Sampling(temperature=-1.0), "temperature should be a number above 0"),
        (lambda: Sampling(top_p=0.0), r"top_p should be a probability in \(0, 1\]"),
        (lambda: Sampling(top_k=-1), "top_k should be a number of tokens"),
        (lambda: Sampling(samples=0), "samples should be a number from 1 on"),
    ],
)
def test_impossible_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_impossible_calls_are_refused(generator: torch.Generator) -> None:
    model = Model(generator)
    with pytest.raises(ValueError, match="max_length should be at least min_length, 4"):
        search(model, Beam(min_length=4), [0], 3)
    with pytest.raises(ValueError, match="prefix 1 should be at most max_length, 3, tokens"):
        search(model, Beam(), [0, 1], 3, prefix=[[], [END]])
    with pytest.raises(ValueError, match="prefix needs one sequence for each of 2 sources, got 1"):
        search(model, Beam(), [0, 1], 3, prefix=[[2]])
    with pytest.raises(ValueError, match="end should be a word from 0 to 3, got: 9"):
        Beam()(model.step, model.start([0]), 1, begin=0, end=9, max_length=2)
    model.output[0] = math.nan
    for how in (Beam(), GREEDY):
        with pytest.raises(ValueError, match="logits of the model hold NaN"):
            search(model, how, [0], 3)
