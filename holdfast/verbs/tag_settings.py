"""The tagger's settings, as the table from which options of the command line are made."""

from __future__ import annotations

from typing import Any

from holdfast.verbs.parser import count, names, number, pair, share_or_rows, whole
from holdfast.verbs.settings import Setting

FILE, WORDS, FEATURES, MODEL, TRAIN = (
    "the file",
    "words",
    "hand-made features",
    "the model",
    "training",
)


def columns(text: str) -> Any:
    """The name of a format, or names with commas between them.

    >>> columns("conllu"), columns("word,pos")
    ('conllu', ('word', 'pos'))
    """
    return names(text) if "," in text else text


NONE = "none"
OPTIONAL = ("scheme", "characters")
"""Settings of which ``none`` is a value on the command line, and None in Python."""


SETTINGS = (
    Setting(FILE, "column", "chunk", str, "COLUMN", "column of tags to learn"),
    Setting(
        FILE,
        "columns",
        "conll2000",
        columns,
        "A,B,C",
        "columns of the file from the left, or a format: conll2000, conll2003, conllu",
    ),
    Setting(
        FILE, "word_column", None, str, "COLUMN", "column of words (default: word, form or token)"
    ),
    Setting(FILE, "inputs", (), names, "A,B", "further columns to read, such as pos"),
    Setting(FILE, "missing", None, str, "TEXT", "what stands for a tag that is not known"),
    Setting(
        FILE,
        "scheme",
        "auto",
        str,
        "NAME",
        "of chunks: auto, IOB1, BIO, BIOES, or none where tags are no chunks",
    ),
    Setting(WORDS, "lower", True, bool, "", "look words up in small letters (default: yes)"),
    Setting(WORDS, "digits", True, bool, "", "look digits up as 0 (default: yes)"),
    Setting(WORDS, "min_count", 1, count, "N", "how often a word occurs to have a vector"),
    Setting(WORDS, "max_words", None, count, "N", "most words with a vector"),
    Setting(WORDS, "word_size", 100, count, "N", "numbers of a word's vector"),
    Setting(
        WORDS, "vectors", None, str, "FILE", "word vectors: GloVe, word2vec, fastText, as text"
    ),
    Setting(
        WORDS, "rare", 0.5, number, "R", "words seen n times are hidden with probability R/(R+n)"
    ),
    Setting(WORDS, "characters", "lstm", str, "KIND", "read them by lstm, cnn, or none"),
    Setting(WORDS, "character_size", 25, count, "N", "numbers of a character's vector"),
    Setting(WORDS, "character_units", 25, count, "N", "units of each direction, or filters"),
    Setting(WORDS, "input_size", 25, count, "N", "numbers of the vector of a further column"),
    Setting(FEATURES, "features", (), names, "A,B", "spelling, words, inputs"),
    Setting(FEATURES, "feature_count", 2, count, "N", "how often a feature has to occur"),
    Setting(FEATURES, "feature_dropout", 0.0, number, "P", "share of them dropped in training"),
    Setting(MODEL, "cell", "lstm", str, "NAME", "a cell of `holdfast cells`"),
    Setting(MODEL, "hidden_size", 100, count, "H", "units of a recurrent layer and direction"),
    Setting(MODEL, "num_layers", 1, whole, "N", "recurrent layers; 0 for features alone"),
    Setting(MODEL, "bidirectional", True, bool, "", "read both directions (default: yes)"),
    Setting(MODEL, "dropout", 0.5, number, "P", "share of numbers dropped in training"),
    Setting(
        MODEL,
        "options",
        None,
        pair,
        "KEY=VALUE",
        "an option of the layer, such as zoneout=0.1; may be repeated",
        called="--option",
        repeated=True,
    ),
    Setting(MODEL, "output", "crf", str, "KIND", "crf or softmax"),
    Setting(TRAIN, "learning_rate", 0.004, number, "R", "step size of Adam"),
    Setting(TRAIN, "weight_decay", 0.0, number, "R", "pull of the weights towards 0"),
    Setting(TRAIN, "schedule", "linear", str, "KIND", "of it: constant, cosine, linear or plateau"),
    Setting(TRAIN, "batch_size", 32, count, "B", "sentences in a step"),
    Setting(TRAIN, "max_epochs", 30, count, "N", "epochs at most"),
    Setting(TRAIN, "patience", 10, count, "N", "epochs without progress before training stops"),
    Setting(
        TRAIN,
        "validation",
        0.1,
        share_or_rows,
        "SHARE",
        "share, or number, of the last sentences that choose the epoch, without --valid",
    ),
    Setting(TRAIN, "gradient_clip", 1.0, number, "NORM", "largest norm of a gradient"),
    Setting(TRAIN, "averaging", 0.998, number, "DECAY", "of the running average of the weights"),
    Setting(TRAIN, "seed", 0, whole, "N", "decides every random number"),
    Setting(TRAIN, "device", "cpu", str, "NAME", "cpu, or a GPU when asked for"),
)
