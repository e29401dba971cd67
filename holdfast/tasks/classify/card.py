"""The card of a classifier: what it was trained on, how, how good it is, and its limits."""

from __future__ import annotations

from typing import Any

from holdfast.tasks.card import write_card

SHOWN = 30


def model_card(config: dict[str, Any], scores: str = "") -> str:
    """The text of ``card.md`` for the configuration of a classifier."""
    settings, data, labels = config["settings"], config["data"], config["classes"]
    several = config["form"] != "one"
    kind = "Says which labels belong to" if several else "Tells which class is that of"
    lead = f"{kind} {what_is_read(config)}: {', '.join(map(str, labels[:SHOWN]))}"
    lead += f" and {len(labels) - SHOWN} more." if len(labels) > SHOWN else "."
    said = scores or "Nothing beyond training was scored; `holdfast classify evaluate` does it."
    training = f"{_training(config)}\n\n{calibration_sentence(config)}"
    return write_card(
        "A Holdfast classifier", lead, facts(data), settings, training, said, limits_of(config)
    )


def what_is_read(config: dict[str, Any]) -> str:
    """Texts, sequences of numbers, or both."""
    texts = {"words": "texts of words", "characters": "texts of characters"}
    text = texts.get(config["settings"]["tokens"], "texts of subwords")
    numbers = f"sequences of {len(config['channels'])} numbers a step"
    if config["scale"] is None:
        return text
    return f"{text} with {numbers}" if config["vocabulary"] else numbers


def facts(data: dict[str, Any]) -> dict[str, Any]:
    """The data in words."""
    counts = [f"{label} {count}" for label, count in data["counts"]]
    more = f" and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
    found = {
        "table": data["name"] or "in memory",
        "examples trained on, held out": f"{data['examples']}, {data['held_out']}",
        "examples of each class, in training": ", ".join(counts[:SHOWN]) + more,
    }
    for name, what in (("tokens", "tokens of a text"), ("steps", "steps of a sequence")):
        if data[name]:
            sizes = data[name]
            found[f"{what}: shortest, median, longest"] = (
                f"{sizes['shortest']}, {sizes['median']:g}, {sizes['longest']}"
            )
    if data["missing"]:
        found["values missing"] = data["missing"]
    return {**found, "SHA-256 of texts, numbers and labels": f"`{data['sha256']}`"}


def limits_of(config: dict[str, Any]) -> list[str]:
    """What a classifier is for and where it ends."""
    settings = config["settings"]
    found = [
        "Every example gets an answer among the labels above, also one that belongs to none of "
        "them."
        if config["form"] == "one"
        else "Labels that are not above are unknown to it.",
        "Probabilities are as good as the held-out examples are like those to come.",
    ]
    if config["vocabulary"]:
        found.append(
            "Words that training did not see are all one unknown word."
            if settings["tokens"] == "words"
            else "Characters that training did not see are all one unknown character."
        )
    if settings["max_tokens"]:
        found.append(f"Of a text the first {settings['max_tokens']} tokens are read.")
    if config["scale"] is not None:
        found.append("Numbers are scaled as those of training; other units make other answers.")
    found.append(
        "Not for decisions about persons, and not without supervision where errors do harm."
    )
    return found


def calibration_sentence(config: dict[str, Any]) -> str:
    """How far probabilities are off, before and after the temperature."""
    found = config["calibration"]
    if found["before"] is None:
        return (
            f"Probabilities are not calibrated: {found['examples']} held-out examples are too few."
        )
    return (
        f"Scores are divided by the temperature {found['temperature']:.3g}. The expected "
        f"calibration error on {found['examples']} held-out examples was {found['before']:.4f} "
        f"before and {found['after']:.4f} after (measured on halves that the temperature was not "
        "fitted to)."
    )


def _training(config: dict[str, Any]) -> str:
    history, best = config["history"], config["best_epoch"]
    row = history[best - 1]
    members = len(config["members"]) + 1
    text = (
        f"Trained for {len(history)} epochs; the weights are those of epoch {best}, whose loss on "
        f"the held-out examples was {row['valid_loss']:.4f} and whose accuracy "
        f"{100 * row['accuracy']:.2f} % (these examples chose the epoch, so they flatter)."
    )
    if members > 1:
        text += f" It is the first of {members} networks, whose probabilities are averaged."
    return text
