"""The models by name, in words: what they are, when to take them, what they alone can be told.

>>> lines = describe().splitlines()
>>> lines[0].split()[:2]
['model', 'take']
"""

from __future__ import annotations

import textwrap

from holdfast.tasks.forecast.nets import NETS

WHEN = {
    "auto": "nobody has tried yet: several are tried within --budget seconds, and it says which "
    "won and why",
    "direct": "in doubt. All steps at once, started from values whole seasons ago; fast",
    "segment": "windows and horizons are long (hundreds of rows); few steps, small model",
    "attention": "single rows far back in the window matter, and there is much data",
    "stacked": "there is much data and one layer is not enough: deep, with ways around each layer",
    "recurrent": "each step should follow from the one before it; slower than direct",
    "deepar": "whole distributions, counts among them, and futures sampled step by step are wanted",
    "es": "there are many short series of one kind, or a trend: smoothing with an LSTM on top",
    "places": "series are measured at the same times and know of each other, such as stations",
}


def describe() -> str:
    """Every model, when to take it, and its own settings, as text of 88 columns."""
    width = max(map(len, WHEN)) + 2
    lines = [f"{'model':<{width}}take it when"]
    for name in ("auto", *sorted(NETS, key=_place)):
        doc = (NETS[name].__doc__ or "").split("\n")[0] if name in NETS else ""
        when = WHEN.get(name, doc)
        lines += textwrap.wrap(
            when, 88, initial_indent=f"{name:<{width}}", subsequent_indent=" " * width
        )
        options = NETS[name].options if name in NETS else {}
        for option, meaning in options.items():
            indent = " " * (width + 2)
            text = f"--option {option}=...: {meaning}"
            lines += textwrap.wrap(text, 88, initial_indent=indent, subsequent_indent=indent + "  ")
    return "\n".join(lines)


def _place(name: str) -> tuple[int, str]:
    """The likeliest first; unknown ones at the end."""
    known = list(WHEN)
    return (known.index(name) if name in known else len(known), name)
