"""Summarize days: what eight reports of traffic and weather come to, in a line.

    python examples/summaries.py

Data: the hourly traffic and weather of a highway in Minneapolis, 730 days, that ship with the
package (UCI, CC BY 4.0). Every third hour becomes a sentence; what a reader wants to know of the
day is the summary, made by a rule here. The last 100 days are kept for the score, beside the
commonest summary, which is the least that a model has to beat. Pieces are words.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

from holdfast.data import load_metro_traffic
from holdfast.tasks import Translator
from holdfast.tasks.translate.scores import bleu

TEST, STEP = 100, 3
PACKED, BUSY, QUIET = 4800, 3500, 1500
KELVIN, COLD, HOT = 273.15, 0.0, 22.0


def report(row: dict[str, Any]) -> str:
    """A sentence on one hour."""
    cars = "packed" if row["y"] >= PACKED else "busy" if row["y"] >= BUSY else "steady"
    cars = "quiet" if row["y"] < QUIET else cars
    warmth = row["temp"] - KELVIN
    air = "freezing" if warmth < COLD else "hot" if warmth >= HOT else "mild"
    wet = "rain" if row["rain_1h"] > 0 else "clouds" if row["clouds_all"] >= 75 else "sun"
    return f"at {row['ds']:%H} {cars} {air} {wet}."


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """What there is to know of a day: when the road was packed, when it rained, frost and heat."""
    told = [report(row).rstrip(".").split() for row in rows]
    packed = [words[1] for words in told if "packed" in words]
    rain = [words[1] for words in told if "rain" in words]
    said = ["packed at " + ", ".join(packed) if packed else "never packed"]
    said.append("rain at " + ", ".join(rain) if rain else "no rain")
    said += [word for word in ("freezing", "hot") if any(word in words for words in told)]
    return "; ".join(said)


def days() -> tuple[list[str], list[str]]:
    """Reports and summaries of every whole day."""
    rows = [row for row in load_metro_traffic().to_dicts() if None not in row.values()]
    found: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        if row["ds"].hour % STEP == 0:
            found.setdefault(row["ds"].date(), []).append(row)
    whole = [day for day in found.values() if len(day) == 24 // STEP]
    return [" ".join(map(report, day)) for day in whole], [summary(day) for day in whole]


def run(tiny: bool) -> tuple[Translator, dict[str, tuple[float, float]]]:
    """A trained model; the share of summaries that are wholly right, and BLEU, of it and a rule."""
    sources, targets = days()
    test = 10 if tiny else TEST
    model = Translator(
        level="words",
        joint=True,
        embedding_size=32,
        hidden_size=16 if tiny else 96,
        attention="additive",
        dropout=0.2,
        learning_rate=5e-3,
        batch_size=16,
        max_epochs=1 if tiny else 40,
        patience=40,
        averaging=0.99,
    )
    model.fit(sources[:-TEST], targets[:-TEST])
    commonest = Counter(targets[:-TEST]).most_common(1)[0][0]
    said = {"Holdfast": model.predict(sources[-test:]), "the commonest": [commonest] * test}
    wanted = targets[-test:]
    return model, {
        name: (sum(map(str.__eq__, one, wanted)) / test, bleu(one, wanted).score)
        for name, one in said.items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Train, and print scores and a day."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a moment, to see that it runs")
    model, scores = run(parser.parse_args(argv).tiny)
    for name, (right, score) in scores.items():
        print(f"{name:14} {right:6.1%} wholly right, BLEU {score:.1f}")
    source, target = (texts[-1] for texts in days())
    print(f"\n{source}\nwanted: {target}\nsaid:   {model.predict([source])[0]}")


if __name__ == "__main__":
    main()
