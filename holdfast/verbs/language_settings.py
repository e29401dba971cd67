"""The language model's settings, as the table from which options of the command line are made."""

from __future__ import annotations

from holdfast.verbs.parser import count, counts, decay, number, pair, whole
from holdfast.verbs.settings import Setting

TEXT, MODEL, DROP, TRAIN = ("the text", "the model", "dropout", "training")

SETTINGS = (
    Setting(TEXT, "level", "character", str, "KIND", "character, word or subword"),
    Setting(TEXT, "vocabulary_size", None, count, "N", "tokens at most (default: all)"),
    Setting(TEXT, "min_count", 1, count, "N", "how often a token must occur"),
    Setting(
        TEXT,
        "split",
        "auto",
        str,
        "KIND",
        "of words: marks (punctuation is apart), spaces, or auto (spaces for a folder)",
    ),
    Setting(TEXT, "ends", "lines", str, "KIND", "of lines of words: lines or paragraphs"),
    Setting(TEXT, "lower", False, bool, "", "make letters small, for words"),
    Setting(TEXT, "subwords", "bpe", str, "KIND", "bpe or unigram"),
    Setting(TEXT, "encoding", "utf-8", str, "NAME", "of the files"),
    Setting(TEXT, "validation", 0.1, number, "SHARE", "of the text's end that is watched"),
    Setting(MODEL, "cell", "lstm", str, "NAME", "a cell of `holdfast cells`, or persistent"),
    Setting(MODEL, "hidden_size", 256, count, "H", "units of a recurrent layer"),
    Setting(MODEL, "num_layers", 1, count, "N", "recurrent layers above each other"),
    Setting(MODEL, "embedding_size", None, count, "E", "numbers of a token (default: the units)"),
    Setting(MODEL, "tied", False, bool, "", "input and output share the vectors of tokens"),
    Setting(MODEL, "cutoffs", (), counts, "N,N", "adaptive softmax: where its parts begin"),
    Setting(
        MODEL,
        "options",
        None,
        pair,
        "KEY=VALUE",
        "of the layer, such as layer_norm=true; may be repeated",
        called="--option",
        repeated=True,
    ),
    Setting(MODEL, "init_scale", None, number, "S", "draw all weights from U(-S, S)"),
    Setting(MODEL, "forget_bias", None, number, "B", "of forget gates at first"),
    Setting(DROP, "dropout", 0.0, number, "P", "between layers"),
    Setting(DROP, "dropout_embedding", 0.0, number, "P", "of whole tokens"),
    Setting(DROP, "dropout_input", 0.0, number, "P", "before the first layer"),
    Setting(DROP, "dropout_output", 0.0, number, "P", "behind the last layer"),
    Setting(DROP, "weight_dropout", 0.0, number, "P", "of the recurrent weights"),
    Setting(DROP, "variational", True, bool, "", "one mask for all steps of a piece"),
    Setting(TRAIN, "ar", 0.0, number, "A", "what large outputs cost"),
    Setting(TRAIN, "tar", 0.0, number, "B", "what changes of outputs cost"),
    Setting(TRAIN, "batch_size", 32, count, "B", "rows that the text is cut into"),
    Setting(TRAIN, "steps", 100, count, "T", "steps that gradients flow through"),
    Setting(TRAIN, "random_steps", False, bool, "", "about as many steps, drawn anew each time"),
    Setting(TRAIN, "optimizer", "adam", str, "KIND", "adam or sgd"),
    Setting(TRAIN, "learning_rate", 0.003, number, "R", "step size"),
    Setting(TRAIN, "weight_decay", 0.0, number, "R", "pull of the weights towards 0"),
    Setting(
        TRAIN,
        "schedule",
        "constant",
        str,
        "KIND",
        "of the rate: constant, cosine, linear, plateau or decay",
    ),
    Setting(TRAIN, "warmup", 0.0, number, "EPOCHS", "in which the rate rises"),
    Setting(TRAIN, "decay", 4.0, number, "X", "what plateau and decay divide the rate by"),
    Setting(TRAIN, "decay_after", 0, whole, "N", "epochs before the schedule decay begins"),
    Setting(TRAIN, "gradient_clip", 1.0, number, "NORM", "largest norm of a gradient, 0 for any"),
    Setting(
        TRAIN, "averaging", 0.0, decay, "DECAY", "of the weights' average, or triggered (NT-ASGD)"
    ),
    Setting(TRAIN, "trigger", 5, count, "N", "epochs without progress that trigger it"),
    Setting(TRAIN, "max_epochs", 10, count, "N", "epochs at most"),
    Setting(TRAIN, "patience", 10, count, "N", "epochs without progress before training stops"),
    Setting(TRAIN, "seed", 0, whole, "N", "decides every random number"),
    Setting(TRAIN, "device", "cpu", str, "NAME", "cpu, or a GPU when asked for"),
    Setting(TRAIN, "precision", "float32", str, "KIND", "of products: float32 or bfloat16"),
)
