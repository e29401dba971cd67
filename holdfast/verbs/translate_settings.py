"""The translator's settings, as the table from which options of the command line are made."""

from __future__ import annotations

from holdfast.verbs.parser import count, number, pair, whole
from holdfast.verbs.settings import Setting

TEXTS, PIECES, MODEL, TRAIN, SEARCH = (
    "the texts",
    "pieces",
    "the model",
    "training",
    "search, unless `predict` says otherwise",
)

SETTINGS = (
    Setting(TEXTS, "source_column", "source", str, "COLUMN", "of a table: what is read"),
    Setting(TEXTS, "target_column", "target", str, "COLUMN", "of a table: what is written"),
    Setting(TEXTS, "encoding", "utf-8", str, "NAME", "of files of text"),
    Setting(TEXTS, "lower_case", False, bool, "", "make all letters small"),
    Setting(TEXTS, "max_length", 200, count, "N", "pieces; longer pairs are left out"),
    Setting(PIECES, "level", "subwords", str, "KIND", "subwords, words or characters"),
    Setting(PIECES, "vocabulary", 5000, count, "N", "different pieces at most"),
    Setting(PIECES, "subwords", "bpe", str, "KIND", "bpe or unigram"),
    Setting(PIECES, "joint", False, bool, "", "the same pieces for both sides"),
    Setting(
        PIECES,
        "min_count",
        None,
        count,
        "N",
        "occurrences of a known word or character (default: 2 for words, else 1)",
    ),
    Setting(MODEL, "cell", "lstm", str, "NAME", "a cell of `holdfast cells`"),
    Setting(MODEL, "embedding_size", 256, count, "N", "features of a piece"),
    Setting(MODEL, "hidden_size", 512, count, "H", "units of the decoder, and of both directions"),
    Setting(MODEL, "num_layers", 1, count, "N", "layers on either side"),
    Setting(
        MODEL, "bidirectional", True, bool, "", "read sources backwards, too (default: they are)"
    ),
    Setting(
        MODEL,
        "attention",
        "general",
        str,
        "SCORE",
        "additive, dot, general, concat or location",
    ),
    Setting(
        MODEL,
        "attention_options",
        None,
        pair,
        "KEY=VALUE",
        "an option of it, such as coverage=true; may be repeated",
        called="--attention-option",
        repeated=True,
    ),
    Setting(MODEL, "attend", "after", str, "WHEN", "after or before the decoder's step"),
    Setting(MODEL, "input_feeding", False, bool, "", "each step reads the last readout"),
    Setting(MODEL, "bridge", None, str, "KIND", "linear, copy, mean or zero (default: linear)"),
    Setting(MODEL, "tied", True, bool, "", "the output has the embedding's weights (default)"),
    Setting(MODEL, "dropout", 0.3, number, "P", "share of numbers dropped in training"),
    Setting(MODEL, "variational", False, bool, "", "the same ones at all steps of a sequence"),
    Setting(
        MODEL,
        "options",
        None,
        pair,
        "KEY=VALUE",
        "an option of the layers, such as layer_norm=true; may be repeated",
        called="--option",
        repeated=True,
    ),
    Setting(MODEL, "members", 1, count, "N", "networks trained, which search together"),
    Setting(TRAIN, "learning_rate", 0.002, number, "R", "step size of Adam"),
    Setting(TRAIN, "weight_decay", 0.0, number, "R", "pull of the weights towards 0"),
    Setting(TRAIN, "schedule", "cosine", str, "KIND", "of it: constant, cosine, linear or plateau"),
    Setting(TRAIN, "warmup", 0.5, number, "EPOCHS", "in which the learning rate rises"),
    Setting(TRAIN, "batch_size", 64, count, "B", "pairs in a step at most"),
    Setting(TRAIN, "batch_tokens", None, count, "N", "pieces in a step at most, of both sides"),
    Setting(TRAIN, "max_epochs", 12, count, "N", "epochs at most"),
    Setting(TRAIN, "patience", 5, count, "N", "epochs without progress before training stops"),
    Setting(
        TRAIN, "validation", 0.05, number, "SHARE", "of the pairs, watched where none are given"
    ),
    Setting(TRAIN, "watch", "loss", str, "WHAT", "loss or bleu: what chooses the epoch"),
    Setting(TRAIN, "label_smoothing", 0.1, number, "P", "share of the truth spread over all"),
    Setting(TRAIN, "teacher_forcing", 1.0, number, "P", "share of true pieces the decoder reads"),
    Setting(TRAIN, "coverage_loss", 0.0, number, "W", "weight of attending to a piece again"),
    Setting(TRAIN, "gradient_clip", 1.0, number, "NORM", "largest norm of a gradient"),
    Setting(TRAIN, "averaging", 0.998, number, "DECAY", "of the running average of the weights"),
    Setting(TRAIN, "seed", 0, whole, "N", "decides every random number"),
    Setting(TRAIN, "device", "cpu", str, "NAME", "cpu, or a GPU when asked for"),
    Setting(SEARCH, "beam", 5, count, "K", "hypotheses of a source"),
    Setting(SEARCH, "length_penalty", "average", str, "KIND", "none, average or wu"),
    Setting(SEARCH, "alpha", 1.0, number, "A", "strength of it"),
    Setting(SEARCH, "coverage_penalty", 0.0, number, "B", "for pieces that had no attention"),
    Setting(SEARCH, "unknown", "copy", str, "WHAT", "of unknown words: copy, never or keep"),
)
