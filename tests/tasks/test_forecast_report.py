"""Pages, pictures, cards, terminals: what a person sees of a forecaster is true and readable."""

from __future__ import annotations

import io
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from holdfast.cli import main
from holdfast.errors import BaselineWarning
from holdfast.tasks import Evaluation, Forecaster, evaluate
from holdfast.tasks.checkpoint import Progress
from holdfast.tasks.forecast import figures, plots
from holdfast.tasks.forecast.auto import Trial
from holdfast.tasks.forecast.card import model_card
from holdfast.tasks.forecast.components import components_figure, mixture
from holdfast.tasks.forecast.report import report
from holdfast.tasks.forecast.terminal import show_sparklines
from holdfast.tasks.forecast.verdict import judge, warn_if_beaten
from holdfast.tasks.progress import Bar, Lines
from tests.helpers import assert_same
from tests.tasks.small import SMALL, csv, several

IDS = ("b", "a <script>", "c", "d", "e", "f", "g")


@pytest.fixture(scope="module")
def model() -> Forecaster:
    """A small model of several series that says quantiles, two networks of it."""
    settings = {**SMALL, "max_epochs": 2, "output": "quantiles", "members": 2}
    return Forecaster(**settings).fit(several(IDS).filter(_before))


@pytest.fixture(scope="module")
def evaluation(model: Forecaster) -> Evaluation:
    return evaluate(model, several(IDS), autoets=False)


_before = several().select("ds").unique().sort("ds")["ds"][146]
_before = __import__("polars").col("ds") < _before


class Seen(HTMLParser):
    """What is in a page: tags, headings in order, and what asks for something outside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_page(page: str) -> Seen:
    """The page stands alone, runs nothing, and can be read without seeing the pictures."""
    seen = Seen(page)
    for _, attributes in seen.tags:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert "@import" not in page
    assert "url(" not in page
    assert not seen.of("script")
    assert seen.of("html") == [{"lang": "en"}]
    assert len(seen.of("h1")) == 1
    assert all(image.get("alt") for image in seen.of("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in seen.of("th"))
    regions = [box for box in seen.of("div") if box.get("role") == "region"]
    assert all(box.get("tabindex") == "0" and box.get("aria-label") for box in regions)
    return seen
