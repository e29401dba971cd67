"""What a tagger is made of: labels, features, batches, its network, and rows that move alone."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from holdfast.nn import CRF
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours
from holdfast.tasks.rows import RowAdam, clip_gradients
from holdfast.tasks.tag.characters import CharacterCNN, CharacterLSTM
from holdfast.tasks.tag.dropping import dropout
from holdfast.tasks.tag.encoded import UNKNOWN, Encoded, Lexicon
from holdfast.tasks.tag.features import WINDOWS, context_keys, frequent, hashed, mix, numbers_of
from holdfast.tasks.tag.fitting import new_network
from holdfast.tasks.tag.labels import Labels
from holdfast.tasks.tag.net import TagNet
from holdfast.tasks.tag.sentences import Layout, as_sentences
from holdfast.tasks.tag.training import Held, Tagging
from holdfast.tasks.tag.words import MOST_CHARACTERS, Normal, number_forms, spelling
from tests.helpers import assert_same, unequal_
from tests.tasks.tagged import SMALL, columns

SETTINGS: dict[str, Any] = {
    "columns": "conll2000",
    "word_column": None,
    "column": "chunk",
    "inputs": ("pos",),
    "lower": True,
    "digits": True,
    "min_count": 1,
    "max_words": None,
    "features": ("spelling", "words", "inputs"),
    "feature_count": 2,
    "feature_dropout": 0.0,
    "character_size": 8,
    "character_units": 8,
    "input_size": 8,
    "cell": "lstm",
    "num_layers": 1,
    "bidirectional": True,
    "options": None,
    "output": "crf",
    "seed": 0,
    **SMALL,
    "dropout": 0.0,
}


def encoded(**more: Any) -> tuple[Lexicon, Encoded]:
    """Sentences as numbers, and what they were turned into numbers by."""
    settings = {**SETTINGS, **more}
    sentences = as_sentences(columns(), Layout.of(settings), target=True)
    labels = Labels.learn(sentences, "auto", settings["output"])
    lexicon = Lexicon.learn(sentences, labels, settings)
    return lexicon, lexicon.encode(sentences, labels.encode(labels.inward(sentences)))


def test_words_are_looked_up_and_cut() -> None:
    assert Normal(True, True)("Dog-42") == "dog-00"
    assert Normal(False, False)("Dog-42") == "Dog-42"
    lexicon, _ = encoded()
    long = "a" * 20 + "b" * 30
    forms, tokens = number_forms(
        [["dog", long], ["dog"]], lexicon.normal, lexicon.words, lexicon.characters
    )
    assert tokens.tolist() == [0, 1, 0]
    characters, lengths = forms.spelled(np.array([0, 1]))
    assert lengths.tolist() == [3, MOST_CHARACTERS]
    assert characters[:3, 0].tolist() == lexicon.characters.encode("dog")
    assert characters[3:, 0].max() == 0
    assert characters[:, 1].tolist() == lexicon.characters.encode("a" * 16 + "b" * 16)


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("IBM", {"capital", "no small", "capital inside", "letters IBM", "summary A"}),
        ("dog's", {"no capital", "marks", "apostrophe s", "end 's", "others '"}),
        ("A4", {"capital", "letters and digits", "pattern A0", "begin a4"}),
        ("I.B.M.", {"letters IBM", "others ...", "summary A.A.A."}),
        ("D56y-3", {"pattern A00a-0", "summary A0a-0", "begin d56y-"}),
    ],
)
def test_spelling(word: str, wanted: set[str]) -> None:
    assert wanted <= set(spelling(word))


def test_context_is_what_stands_around_a_token_of_its_sentence() -> None:
    texts = [["a", "b", "a"], ["b"], ["a", "b"]]
    flat = np.array([hashed(text) for row in texts for text in row], np.uint64)
    keys = context_keys({"": flat}, np.array([0, 3, 4, 6]))
    assert keys.shape == (6, len(WINDOWS["words"]))
    keys_of: dict[Any, set[int]] = {}
    place = 0
    for row in texts:
        for at in range(len(row)):
            for column, window in enumerate(WINDOWS["words"]):
                around = tuple(_around(row, at + step) for step in window)
                keys_of.setdefault((window, around), set()).add(int(keys[place, column]))
            place += 1
    assert all(len(found) == 1 for found in keys_of.values())
    assert len(set.union(*keys_of.values())) == len(keys_of)


def _around(row: list[str], at: int) -> Any:
    """A token, or on which side of a sentence one is and how far from it."""
    if 0 <= at < len(row):
        return row[at]
    return ("before", -at) if at < 0 else ("behind", at - len(row) + 1)


def test_frequent_features_have_numbers() -> None:
    keys = np.array([[5, 7, 0], [5, 9, 7], [7, 5, 11]], np.uint64)
    known = frequent([(keys, None)], 2)
    assert known.tolist() == [5, 7]
    assert frequent([(keys, np.array([1, 2, 1]))], 3).tolist() == [5, 7]
    assert frequent([(keys, np.array([1, 2, 1]))], 2).tolist() == [5, 7, 9]
    assert numbers_of(keys, known).tolist() == [[1, 2, 0], [1, 0, 2], [2, 1, 0]]
    a, b = np.array([1], np.uint64), np.array([2], np.uint64)
    assert mix(a, b) != mix(b, a)


def test_a_batch_holds_what_its_sentences_are() -> None:
    lexicon, whole = encoded()
    data = columns()
    numbers = np.array([3, 0, 7])
    batch = whole.batch(numbers)
    for row, number in enumerate(numbers.tolist()):
        words = data["word"][number]
        length = len(words)
        assert int(batch.lengths[row]) == length
        ids = batch.words[batch.word_at[:length, row]]
        assert ids.tolist() == lexicon.words.encode(map(lexicon.normal, words))
        assert batch.columns[0, :length, row].tolist() == lexicon.columns["pos"].encode(
            data["pos"][number]
        )
        assert (
            lexicon.labels.outward(batch.tags[:length, row].numpy(), True) == data["chunk"][number]
        )
        assert batch.tags[length:, row].tolist() == [-1] * (len(batch.tags) - length)
        for at, word in enumerate(words):
            form = int(batch.form_at[at, row])
            size = int(batch.spelled[form])
            assert batch.characters[:size, form].tolist() == lexicon.characters.encode(word)
            place = int(whole.starts[number]) + at
            assert batch.rows[batch.context[at, row]].tolist() == whole.context[place].tolist()
            mine = whole.spelling[whole.tokens[place]]
            assert batch.rows[batch.spelling[form]].tolist() == mine.tolist()


def test_hidden_words_are_unknown_in_the_batch_alone() -> None:
    _, whole = encoded()
    hidden = np.zeros(len(whole.tokens))
    hidden[int(whole.starts[3]) + 1] = 1.0
    batch = whole.batch(np.array([3, 0]), hidden)
    ids = batch.words[batch.word_at]
    assert int(ids[1, 0]) == UNKNOWN
    assert int((ids == UNKNOWN).sum()) == 1


def test_the_network_is_what_it_is_made_of(generator: torch.Generator) -> None:
    lexicon, whole = encoded(characters="lstm")
    net = new_network({**SETTINGS, "characters": "lstm"}, lexicon, 8)
    unequal_(net, generator).eval()
    batch = whole.batch(np.array([3, 0, 7]))
    scores = net(batch)
    assert net.layer is not None
    assert net.features is not None
    assert isinstance(net.characters, CharacterLSTM)
    plain = nn.LSTM(8 + 16 + 8, 8, bidirectional=True)
    plain.load_state_dict(net.layer.state_dict())
    spell = nn.LSTM(8, 8, bidirectional=True)
    spell.load_state_dict(net.characters.layer.state_dict())
    for row, length in enumerate(batch.lengths.tolist()):
        vectors = []
        for at in range(length):
            form = int(batch.form_at[at, row])
            letters = batch.characters[: int(batch.spelled[form]), form]
            _, (h, _) = spell(net.characters.table.weight[letters].unsqueeze(1))
            word = net.words.weight[batch.words[batch.word_at[at, row]]]
            pos: Any = net.columns[0]
            vectors.append(
                torch.cat([word, h[0, 0], h[1, 0], pos.weight[batch.columns[0, at, row]]])
            )
        out, _ = plain(torch.stack(vectors).unsqueeze(1))
        wanted = net.emit(out[:, 0]) + net.bias
        for at in range(length):
            place = int(whole.starts[[3, 0, 7][row]]) + at
            ids = [*whole.context[place], *whole.spelling[whole.tokens[place]]]
            for number in filter(None, map(int, ids)):
                wanted[at] = wanted[at] + net.features.table.weight[number]
        assert_same(scores[:length, row].detach(), wanted.detach())


def test_features_without_a_number_score_nothing() -> None:
    lexicon, whole = encoded(num_layers=0)
    net = new_network({**SETTINGS, "num_layers": 0}, lexicon, 8)
    assert net.features is not None
    with torch.no_grad():
        net.features.table.weight.fill_(1.0)
        net.bias.zero_()
    batch = whole.batch(np.array([2]))
    at = int(whole.starts[2])
    counts = [
        int((whole.context[at + n] > 0).sum() + (whole.spelling[whole.tokens[at + n]] > 0).sum())
        for n in range(int(batch.lengths[0]))
    ]
    assert_same(net(batch)[:, 0, 0].detach(), torch.tensor(counts, dtype=torch.float32))


def test_filters_take_the_largest_over_a_words_own_characters(generator: torch.Generator) -> None:
    net = unequal_(CharacterCNN(9, 4, 6, 0.0), generator).eval()
    ids = torch.tensor([[2, 5], [3, 0], [4, 0]])
    found = net(ids, torch.tensor([3, 1]))
    weight = net.filters.weight.view(6, 3, 4).permute(0, 2, 1)
    for column, length in enumerate((3, 1)):
        x = net.table.weight[ids[:length, column]].T.unsqueeze(0)
        wanted = functional.conv1d(x, weight, net.filters.bias, padding=1).amax(2)[0]
        assert_same(found[column].detach(), wanted.detach())


@pytest.mark.parametrize("share", [0.25, 0.3])
def test_dropout_drops_its_share_and_keeps_the_mean(share: float) -> None:
    x = torch.ones(300, 101)
    with own_random_numbers():
        seed_everything_of_ours(5, 0)
        found = dropout(x, share, training=True)
        again = dropout(x, share, training=True)
        seed_everything_of_ours(5, 0)
        same = dropout(x, share, training=True)
    assert same.equal(found)
    assert not again.equal(found)
    gone = (found == 0).float()
    # Six standard errors of 30,300 draws, and what 256 steps round off.
    assert abs(float(gone.mean()) - share) < 6 * (0.25 / x.numel()) ** 0.5 + 1 / 512
    assert float((gone.mean(0) - share).abs().max()) < 6 * (0.25 / 300) ** 0.5
    kept = 1 - round(share * 256) / 256
    assert_same(found[found > 0], torch.full((int((found > 0).sum()),), 1 / kept))
    assert dropout(x, share, training=False) is x


def work(net: TagNet, whole: Encoded, labels: Labels, rare: float) -> Tagging:
    return Tagging(
        net, labels, whole, Held(whole, [[*row] for row in columns()["chunk"]]), 8, rare, seed=0
    )


def test_the_loss_is_that_of_the_crf_per_token() -> None:
    lexicon, whole = encoded()
    net = new_network(SETTINGS, lexicon, 8).eval()
    job = work(net, whole, lexicon.labels, rare=0.0)
    (numbers, *_) = job.batches.epoch(0)
    batch = whole.batch(numbers)
    crf = CRF(len(lexicon.labels.tags), allowed=lexicon.labels.allowed)
    assert net.crf is not None
    crf.load_state_dict(net.crf.state_dict())
    total = torch.stack(
        [
            crf(net(batch)[:length, row], batch.tags[:length, row])
            for row, length in enumerate(batch.lengths.tolist())
        ]
    ).sum()
    loss = next(job.losses(0))
    assert loss is not None
    assert_same(loss.detach(), -(total / batch.lengths.sum()).detach())


def test_rare_words_are_hidden_as_often_as_they_are_rare() -> None:
    lexicon, whole = encoded()
    job = work(new_network(SETTINGS, lexicon, 8), whole, lexicon.labels, rare=2.0)
    counts = Counter(lexicon.normal(word) for row in columns()["word"] for word in row)
    flat = [lexicon.normal(word) for row in columns()["word"] for word in row]
    assert_same(job.rare, np.array([2.0 / (2.0 + counts[word]) for word in flat]))


def test_labels_fold_into_those_of_the_user() -> None:
    labels = Labels(("B-X", "E-X", "I-X", "O", "S-X"), "BIO", "BIOES")
    assert labels.classes == ("B-X", "I-X", "O")
    shares = np.array([[0.1, 0.2, 0.3, 0.15, 0.25]], np.float32)
    assert_same(labels.fold(shares), np.array([[0.35, 0.5, 0.15]], np.float32))
    assert labels.outward(np.array([4, 0, 2, 1, 3]), True) == ["B-X", "B-X", "I-X", "I-X", "O"]
    other = Labels(labels.tags, "IOB1", "BIOES")
    assert other.outward(np.array([4, 0, 1, 3]), True) == ["I-X", "B-X", "I-X", "O"]
    plain = Labels(("NN", "DT"), None, None)
    assert plain.outward(np.array([1, 0]), True) == ["DT", "NN"]
    assert_same(plain.fold(np.array([[0.25, 0.75]])), np.array([[0.25, 0.75]]))


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_dense_parameters_move_as_with_adamw(decay: float) -> None:
    found = []
    for kind in (RowAdam, torch.optim.AdamW):
        layer = nn.Linear(3, 2)
        with torch.no_grad():
            layer.weight.copy_(torch.arange(6.0).view(2, 3) / 7)
            layer.bias.fill_(0.1)
        more: dict[str, Any] = {"decoupled_weight_decay": True} if kind is RowAdam else {}
        optimizer = kind(layer.parameters(), lr=0.1, weight_decay=decay, fused=True, **more)
        for step in range(3):
            optimizer.zero_grad()
            layer(torch.arange(3.0) + step).square().sum().backward()
            optimizer.step()
        found.append(layer.state_dict())
    assert_same(found[0], found[1])


def test_rows_move_as_with_sparse_adam() -> None:
    found = []
    for kind in (RowAdam, torch.optim.SparseAdam):
        table = nn.Embedding(6, 3, sparse=True)
        with torch.no_grad():
            table.weight.copy_(torch.arange(18.0).view(6, 3) / 9)
        optimizer = kind(table.parameters(), lr=0.1)
        for rows in ([1, 3, 3], [0, 1], [3], [5, 0]):
            optimizer.zero_grad()
            table(torch.tensor(rows)).square().sum().backward()
            optimizer.step()
        found.append(table.weight.detach().clone())
    assert_same(found[0], found[1])


def test_gradients_are_clipped_as_by_torch() -> None:
    def grads(sparse: bool) -> list[Any]:
        table, layer = nn.Embedding(6, 3, sparse=sparse), nn.Linear(3, 2)
        with torch.no_grad():
            table.weight.copy_(torch.arange(18.0).view(6, 3) / 9)
            layer.weight.copy_(torch.arange(6.0).view(2, 3) / 7)
            layer.bias.fill_(0.1)
        layer(table(torch.tensor([1, 3, 3]))).square().sum().backward()
        parameters = [*table.parameters(), *layer.parameters()]
        if sparse:
            clip_gradients(parameters, 0.5)
        else:
            torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        return [None if p.grad is None else p.grad.to_dense() for p in parameters]

    assert_same(grads(True), grads(False))
