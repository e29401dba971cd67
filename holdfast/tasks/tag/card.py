"""The card of a tagger: data, settings, scores, and where it ends."""

from __future__ import annotations

from typing import Any

from holdfast.tasks.card import write_card


def model_card(config: dict[str, Any], scores: str) -> str:
    """The text of ``card.md``."""
    settings, data, labels = config["settings"], config["data"], config["labels"]
    inside = "" if labels["inside"] == labels["scheme"] else f", inside {labels['inside']}"
    facts = {
        "trained on": data["name"],
        "sentences, tokens": f"{data['sentences']:,}, {data['tokens']:,}",
        "held out to choose the epoch": data["held_out"],
        "its sentences, tokens": f"{data['held_out_sentences']:,}, {data['held_out_tokens']:,}",
        "column of tags": settings["column"],
        "columns that are read": ", ".join(["words", *settings["inputs"]]),
        "scheme of chunks": f"{labels['scheme']}{inside}" if labels["scheme"] else "none",
        "tags inside": len(labels["tags"]),
        "words with a vector": f"{config['words'] - 2:,}",
        "features": f"{config['features']:,}",
        "SHA-256 of words and tags": f"`{data['sha256']}`",
    }
    none = "No sentences beyond training were scored; `holdfast tag evaluate` does it."
    shown = f"```text\n{scores}\n```" if scores else none
    return write_card(
        f"Tagger of {settings['column']}",
        f"Gives each token a tag. {_network(settings)}",
        facts,
        settings,
        _training(config),
        shown,
        _limits(settings),
    )


def _network(settings: dict[str, Any]) -> str:
    """What the network is, in words."""
    end = "a chain over the tags (CRF)" if settings["output"] == "crf" else "a softmax"
    if not settings["num_layers"]:
        return f"Hand-made features and {end}."
    both = "both directions" if settings["bidirectional"] else "one direction"
    features = ", hand-made features" if settings["features"] else ""
    return (
        f"{settings['num_layers']} layer(s) of {settings['hidden_size']} {settings['cell']} units "
        f"in {both}{features}, and {end}."
    )


def _training(config: dict[str, Any]) -> str:
    history, best = config["history"], config["best_epoch"]
    row = history[best - 1]
    said = f"accuracy {row['valid_accuracy']:.2%}"
    if "valid_f1" in row:
        said = f"F1 {100 * row['valid_f1']:.2f}, {said}"
    return (
        f"Trained for {len(history)} epochs; the weights are those of epoch {best}, on the "
        f"sentences held out: {said} (they chose the epoch, so this flatters)."
    )


def _limits(settings: dict[str, Any]) -> list[str]:
    found = [
        "For texts of the language, the kind and the tokens of the training data; elsewhere expect "
        "more errors, and measure them.",
        "Tags that training has not seen are never given.",
    ]
    if settings["inputs"]:
        found.append(
            f"The columns {', '.join(settings['inputs'])} have to be given with every sentence, "
            "made as those of the training data were."
        )
    found += [
        "A probability is the network's own; nothing promises that of all tags with 90 % nine in "
        "ten are right.",
        "Not for decisions about persons, and not without supervision where errors do harm.",
    ]
    return found
