"""The card of a translator: its pairs, settings, scores and limits."""

from __future__ import annotations

from typing import Any

from holdfast.tasks.card import write_card


def model_card(config: dict[str, Any], scores: str = "") -> str:
    """The text of ``card.md`` for the configuration of a translator."""
    data, settings = config["data"], config["settings"]
    source, target = config["sizes"]
    watched = f"{data['watched']:,}, {data['watched_from']}"
    rows = {
        "pairs": data["name"],
        "trained on": f"{data['pairs']:,} pairs",
        "watched": watched,
        "left out, with an empty side": data["blank"],
        f"left out, with more than {settings['max_length']} pieces": data["long"],
        "pieces": f"{settings['level']}, {source:,} and {target:,} different ones",
        "pieces trained on": f"{data['source_pieces']:,} and {data['target_pieces']:,}",
        "SHA-256 of all texts": f"`{data['sha256']}`",
    }
    return write_card(
        "A Holdfast translator",
        "Writes a target for a source: an encoder reads it, a decoder attends to it.",
        rows,
        settings,
        _training(config),
        scores or "No pairs beyond training were scored; `holdfast translate evaluate` does it.",
        limits_of(settings),
    )


def limits_of(settings: dict[str, Any]) -> list[str]:
    """What a translator is for and where it ends, by what it is."""
    found = [
        "For texts like those of training; what it says of others may be fluent and wrong.",
        "Names and numbers may be changed, and parts of a source left out or said twice.",
        f"Sources longer than {settings['max_length']} pieces are cut there, with a warning; the "
        "order of sentences in a longer text is not learned.",
    ]
    if settings["level"] == "subwords":
        found.append("A character that training never saw is unknown, and not written.")
    elif settings["unknown"] == "copy" and settings["attention"]:
        found.append("A piece that is not known is copied from where the model looks.")
    if settings["lower_case"]:
        found.append("All letters are small; BLEU is counted without their case.")
    found.append("Not for decisions about persons, and not without supervision where errors harm.")
    return found


def _training(config: dict[str, Any]) -> str:
    """How long it was trained, and what chose the epoch."""
    history, best = config["history"], config["best_epoch"]
    row, settings = history[best - 1], config["settings"]
    said = f"whose loss on the pairs that were watched was {row['valid_loss']:.4f} a piece"
    if settings["watch"] == "bleu":
        said = f"whose BLEU on the pairs that were watched was {row['valid_bleu']:.2f} (greedily)"
    text = (
        f"Trained for {len(history)} epochs; the weights are those of epoch {best}, {said} (these "
        "pairs chose the epoch, so it flatters)."
    )
    members = len(config["members"]) + 1
    if members > 1:
        text += f" It is the first of {members} networks that search together."
    return text
