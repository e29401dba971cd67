"""The examples on texts: they run, their data says what it should, and the models learn it."""

from __future__ import annotations

import datetime
import importlib.util
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT

PNG = b"\x89PNG\r\n\x1a\n"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["dates", "summaries", "chat"])
def test_examples_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    example(name).main(["--tiny"])
    assert "right" in capsys.readouterr().out


def test_captions_run_with_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("caption").main(["--tiny", "--plot", str(tmp_path / "caption.png")])
    assert "wholly right" in capsys.readouterr().out
    assert (tmp_path / "caption.png").read_bytes().startswith(PNG)


def test_dates_are_written_as_people_do() -> None:
    dates = example("dates")
    written = [dates.written(datetime.date(2019, 5, 3), way) for way in range(6)]
    assert written == [
        "3 May 2019",
        "May 3rd, 2019",
        "Friday, May 3rd, 2019",
        "3.5.2019",
        "03/May/2019",
        "May 3, '19",
    ]
    assert dates.written(datetime.date(2000, 1, 12), 1) == "January 12th, 2000"
    sources, targets = dates.dates(50, seed=3)
    assert all(datetime.date.fromisoformat(target) for target in targets)
    assert len(set(sources)) > 40


def test_a_summary_says_what_the_reports_say() -> None:
    summaries = example("summaries")
    calm: dict[str, Any] = {"y": 900, "temp": 290.0, "rain_1h": 0.0, "clouds_all": 20}
    rows = [{**calm, "ds": datetime.datetime(2017, 1, 1, hour)} for hour in range(0, 24, 3)]
    assert summaries.summary(rows) == "never packed; no rain"
    rows[2] |= {"y": 5500}
    rows[5] |= {"rain_1h": 0.3, "temp": 270.0}
    assert summaries.report(rows[5]) == "at 15 quiet freezing rain."
    assert summaries.summary(rows) == "packed at 06; rain at 15; freezing"
    sources, targets = summaries.days()
    assert len(sources) == len(targets) > 700


def test_answers_follow_from_their_stories() -> None:
    chat = example("chat")
    draw = random.Random(1)
    for _ in range(300):
        told, answer = chat.story(draw)
        *sentences, question = [part.strip() for part in told.replace("?", ".").split(".")[:-1]]
        at: dict[str, str] = {}
        has: dict[str, str] = {}
        for sentence in sentences:
            name, verb, *_, what = sentence.split()
            (has if verb == "took" else at)[what if verb == "took" else name] = (
                name if verb == "took" else what
            )
        asked = question.split()[-1]
        place = at[has[asked]] if asked in has else at[asked]
        assert answer.endswith(f"is in the {place}.")
        assert chat.last_place(told, f"x is in the {place}.") == (
            place == [word for word in told.replace(".", "").split() if word in chat.PLACES][-1]
        )


def test_captions_say_what_the_pixels_are() -> None:
    caption = example("caption")
    crop = np.zeros((1, 3, 3, 32, 32, 3), dtype=np.float32)
    crop[0, 0] = (0.9, 0.1, 0.1)
    crop[0, 1] = (0.1, 0.2, 0.9)
    crop[0, 2] = 0.9
    said = caption.caption(crop[0])
    assert said == ["red", "above", "blue", "middle", "white", "below", "clear", "and", "smooth"]
    crop[0, 0, :, ::2] = 0.0
    assert caption.caption(crop[0])[-1] == "rough"
    seen = caption.features(crop)
    assert seen.shape == (1, 9, 20)
    assert seen[0, 3, 2].item() == pytest.approx(
        0.9, rel=1e-4
    )  # the first region in the middle is blue
    test = caption.crops(8, seed=0, test=True)
    assert test.pixels.shape == (8, 96, 96, 3)
    light = caption.in_other_light(test.pixels[0], np.random.default_rng(0))
    assert light.shape == (96, 96, 3)
    assert 0 <= light.min() <= light.max() <= 1


@pytest.mark.slow
def test_captions_are_learned_and_look_at_their_place() -> None:
    caption = example("caption")
    found = caption.run(tiny=False)
    assert found["right"][1] > 0.85
    assert found["right"][0] > found["rule"][0] + 0.2
    # The first three colors are looked for above, in the middle and below.
    weights = found["weights"][:, 0, :6:2].reshape(-1, 3, 3, 3).sum(3)  # [N, color, row]
    looked = weights.mean(0)
    assert looked.argmax(1).tolist() == [0, 1, 2]
    assert float(looked.diagonal().min()) > 0.5


@pytest.mark.slow
def test_dates_are_learned() -> None:
    _, right = example("dates").run(tiny=False)
    assert right > 0.95
