"""The classifier's settings, as the table from which options of the command line are made."""

from __future__ import annotations

from holdfast.verbs.parser import count, names, number, number_or_word, pair, whole
from holdfast.verbs.settings import Setting

TABLE, TEXT, NUMBERS, MODEL, SAYS, TRAIN = (
    "the table",
    "texts",
    "numbers",
    "the model",
    "what is said",
    "training",
)

SETTINGS = (
    Setting(TABLE, "text", "text", str, "COLUMN", "column of texts"),
    Setting(TABLE, "label", "label", names, "A,B", "column of labels; several hold 0 and 1"),
    Setting(TABLE, "id_column", None, str, "COLUMN", "id of an example", called="--id"),
    Setting(TABLE, "time_column", None, str, "COLUMN", "what sorts its rows", called="--time"),
    Setting(TABLE, "values", (), names, "A,B", "columns of numbers, a row a step"),
    Setting(TABLE, "encoding", "utf-8", str, "NAME", "of files of text, such as latin-1"),
    Setting(TEXT, "tokens", "words", str, "KIND", "words, characters or subwords"),
    Setting(TEXT, "lower", True, bool, "", "letters are made small (default: they are)"),
    Setting(TEXT, "min_count", 1, count, "N", "times that a word must occur to be known"),
    Setting(TEXT, "vocabulary_size", 30_000, count, "N", "words that are known at most"),
    Setting(TEXT, "max_tokens", None, count, "N", "tokens of a text that are read (default: all)"),
    Setting(TEXT, "vectors", None, str, "FILE", "word vectors to begin with, as GloVe has them"),
    Setting(TEXT, "embedding_size", 100, count, "E", "numbers of a token's embedding"),
    Setting(TEXT, "word_dropout", 0.2, number, "P", "share of words made unknown in training"),
    Setting(TEXT, "embedding_dropout", 0.3, number, "P", "share of their numbers dropped"),
    Setting(NUMBERS, "missing", "error", str, "KIND", "error or mask: what NaN means"),
    Setting(MODEL, "cell", "lstm", str, "NAME", "a cell of `holdfast cells`"),
    Setting(MODEL, "hidden_size", 100, count, "H", "units of a layer and direction"),
    Setting(MODEL, "num_layers", 1, count, "N", "layers above each other"),
    Setting(MODEL, "bidirectional", True, bool, "", "read backwards, too (default: yes)"),
    Setting(MODEL, "pooling", ("mean", "max"), names, "A,B", "of last, mean, max and attention"),
    Setting(MODEL, "dropout", 0.5, number, "P", "share of features dropped, for a whole sequence"),
    Setting(MODEL, "recurrent_dropout", 0.0, number, "P", "share of units, in the recurrence"),
    Setting(
        MODEL,
        "options",
        None,
        pair,
        "KEY=VALUE",
        "a further option of the layer, see docs/layer.md; may be repeated",
        called="--option",
        repeated=True,
    ),
    Setting(MODEL, "members", 1, count, "N", "networks trained, whose probabilities are averaged"),
    Setting(SAYS, "threshold", 0.5, number_or_word, "P", "of several labels: a number, or best"),
    Setting(SAYS, "class_weight", None, str, "KIND", "balanced: seldom classes weigh more"),
    Setting(SAYS, "label_smoothing", 0.0, number, "P", "share of certainty taken from labels"),
    Setting(TRAIN, "learning_rate", 0.001, number, "R", "step size of Adam"),
    Setting(TRAIN, "weight_decay", 0.0, number, "R", "pull of the weights towards 0"),
    Setting(
        TRAIN, "schedule", "constant", str, "KIND", "of it: constant, cosine, linear or plateau"
    ),
    Setting(TRAIN, "batch_size", 32, count, "B", "examples in a step"),
    Setting(TRAIN, "max_epochs", 30, count, "N", "epochs at most"),
    Setting(TRAIN, "patience", 5, count, "N", "epochs without progress before training stops"),
    Setting(TRAIN, "validation", 0.1, number, "SHARE", "of each class that is held out"),
    Setting(TRAIN, "monitor", "loss", str, "KIND", "what chooses the epoch: loss, accuracy or f1"),
    Setting(TRAIN, "gradient_clip", 1.0, number, "NORM", "largest norm of a gradient"),
    Setting(TRAIN, "averaging", 0.99, number, "DECAY", "of the running average of the weights"),
    Setting(TRAIN, "seed", 0, whole, "N", "decides every random number"),
    Setting(TRAIN, "device", "cpu", str, "NAME", "cpu, or a GPU when asked for"),
)
