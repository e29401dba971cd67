"""Answer questions about a story, and chat about it.

    python examples/chat.py --ask "Mary went to the garden. John took the ball. Where is Mary?"

Data: 6,000 short stories that are made here, in the manner of the first tasks of bAbI (Weston et
al. 2015): persons go to places, take and drop things, and a question is asked at the end. The
answer is a sentence. 500 stories are kept for the score, beside the place that is named last, which
is the least that a model has to beat.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Sequence

from holdfast.tasks import Translator

NAMES = ("Mary", "John", "Sandra", "Daniel")
PLACES = ("garden", "kitchen", "office", "hallway", "bathroom", "bedroom")
THINGS = ("ball", "book", "apple")
TEST = 500


def story(draw: random.Random) -> tuple[str, str]:
    """A story with its question, and the answer."""
    at: dict[str, str] = {}
    has: dict[str, str] = {}
    told = []
    for _ in range(draw.randint(2, 5)):
        name = draw.choice(NAMES)
        thing = draw.choice(THINGS)
        if name in at and thing not in has and draw.random() < 0.4:
            has[thing] = name
            told.append(f"{name} took the {thing}.")
        else:
            at[name] = draw.choice(PLACES)
            told.append(f"{name} {draw.choice(('went', 'moved'))} to the {at[name]}.")
    if has and draw.random() < 0.5:
        thing = draw.choice(sorted(has))
        told.append(f"Where is the {thing}?")
        return " ".join(told), f"The {thing} is in the {at[has[thing]]}."
    name = draw.choice(sorted(at))
    told.append(f"Where is {name}?")
    return " ".join(told), f"{name} is in the {at[name]}."


def stories(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Stories and answers."""
    draw = random.Random(seed)
    found = [story(draw) for _ in range(count)]
    return [told for told, _ in found], [answer for _, answer in found]


def last_place(told: str, answer: str) -> bool:
    """Whether the place that is named last is the answer."""
    named = re.findall("|".join(PLACES), told)
    return f" {named[-1]}." in answer


def run(tiny: bool) -> tuple[Translator, float, float]:
    """A trained model, the share of its answers that are right, and that of the rule."""
    test = 20 if tiny else TEST
    sources, targets = stories(test + (100 if tiny else 6000), seed=0)
    model = Translator(
        level="words",
        embedding_size=32,
        hidden_size=16 if tiny else 128,
        attention="additive",
        input_feeding=True,
        dropout=0.1,
        learning_rate=3e-3,
        max_epochs=1 if tiny else 25,
        patience=25,
        averaging=0.99,
    )
    model.fit(sources[test:], targets[test:])
    said = model.predict(sources[:test])
    right = sum(map(str.__eq__, said, targets[:test])) / test
    rule = sum(map(last_place, sources[:test], targets[:test])) / test
    return model, right, rule


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the scores, and answer what is asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a moment, to see that it runs")
    parser.add_argument("--ask", metavar="TEXT", help="a story with a question at its end")
    arguments = parser.parse_args(argv)
    model, right, rule = run(arguments.tiny)
    print(f"{right:.1%} of the answers are right; the place that is named last is in {rule:.1%}")
    told = arguments.ask or stories(1, seed=1)[0][0]
    print(f"{told}\n{model.predict([told])[0]}")


if __name__ == "__main__":
    main()
