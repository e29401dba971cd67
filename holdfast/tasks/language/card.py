"""The card of a language model: its text, its settings, how well it knows what comes next."""

from __future__ import annotations

import math
from typing import Any

from holdfast.tasks.card import write_card


def model_card(config: dict[str, Any], scores: str = "") -> str:
    """The text of ``card.md``."""
    data, settings, history = config["data"], config["settings"], config["history"]
    best = config["best_epoch"]
    level = settings["level"]
    nats = history[best - 1]["valid_loss"]
    training = (
        f"Trained {len(history)} epochs; the weights are those of epoch {best}, whose loss on the "
        f"text that was watched is the least: {nats:.4f} nats per {level}, perplexity "
        f"{math.exp(nats):.2f}."
    )
    begun = {}
    if "start" in data:
        begun["start"] = f"weights and vocabulary of an earlier model, `{data['start']}`"
    return write_card(
        title="A language model",
        lead=f"What comes next in a text, {level} by {level}, after `{data['name']}`.",
        data={
            "text": data["name"],
            "sha256": f"`{data['sha256']}`",
            "characters": f"{data['characters']:,}",
            f"{level}s trained on": f"{data['tokens']:,}, unknown {data['unknown']:,}",
            f"{level}s watched": f"{data['watched']:,}, unknown {data['watched_unknown']:,}",
            "vocabulary": f"{data['vocabulary']:,}",
            **begun,
        },
        settings=settings,
        training=training,
        scores=scores or "No text besides was scored.",
        limits=LIMITS,
    )


LIMITS = (
    "For texts like the one it was trained on: it knows the language, the style and the time of "
    "that text, and nothing else.",
    "What it writes sounds like the text; it is not true, and may repeat what stands there.",
    "Tokens that training never met are one token, `<unk>`: texts that hold many of them look "
    "likelier than they are.",
    "Perplexities are comparable for the same tokens alone; bits per character are for all.",
)
