"""Write dates as people write them in one form, 2019-05-03, and show where the model looks.

    python examples/dates.py --plot dates.png

Data: 4,000 dates from 1950 to 2049, written here in one of six ways, a tenth of them kept for the
score. Pieces are characters. About a minute on one core.
"""

from __future__ import annotations

import argparse
import datetime
import random
from collections.abc import Sequence
from pathlib import Path

from holdfast.tasks import Translator, plots
from holdfast.tasks.translate.figures import attention_figure

DAYS = 36_500
ENDINGS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
SHOWN = ("Friday, May 3rd, 2019", "3.5.2019", "24 December 1999")


def written(day: datetime.date, way: int) -> str:
    """A date as people write it, in one of six ways."""
    month, ending = f"{day:%B}", ENDINGS.get(day.day, "th")
    return (
        f"{day.day} {month} {day.year}",
        f"{month} {day.day}{ending}, {day.year}",
        f"{day:%A}, {month} {day.day}{ending}, {day.year}",
        f"{day.day}.{day.month}.{day.year}",
        f"{day.day:02d}/{month[:3]}/{day.year}",
        f"{month[:3]} {day.day}, '{day:%y}",
    )[way]


def dates(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Dates as they are written, and in one form."""
    draw = random.Random(seed)
    first = datetime.date(1950, 1, 1)
    days = [first + datetime.timedelta(draw.randrange(DAYS)) for _ in range(count)]
    return [written(day, draw.randrange(6)) for day in days], [day.isoformat() for day in days]


def run(tiny: bool) -> tuple[Translator, float]:
    """A trained model, and the share of dates that it has wholly right; `tiny` shows it runs."""
    sources, targets = dates(200 if tiny else 4000, seed=0)
    test = len(sources) // 10
    model = Translator(
        level="characters",
        embedding_size=16,
        hidden_size=16 if tiny else 64,
        dropout=0.1,
        learning_rate=5e-3,
        max_epochs=1 if tiny else 12,
        averaging=0.99,
    )
    model.fit(sources[test:], targets[test:])
    said = model.predict(sources[:test])
    right = sum(one == two for one, two in zip(said, targets[:test], strict=True))
    return model, right / test


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print the score and some dates, and write the picture when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a moment, to see that it runs")
    parser.add_argument("--plot", metavar="PNG", help="picture of the attention to write")
    arguments = parser.parse_args(argv)
    model, right = run(arguments.tiny)
    print(f"{right:.1%} of the dates are wholly right")
    found = model.translations(list(SHOWN))
    for source, (best,) in zip(SHOWN, found, strict=True):
        print(f"{source:26} {best.text}")
    if arguments.plot:
        seen = [best.alignment for (best,) in found if best.alignment is not None and best.text]
        Path(arguments.plot).write_bytes(plots.png(attention_figure(seen)))


if __name__ == "__main__":
    main()
