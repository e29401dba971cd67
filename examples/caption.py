"""Describe parts of photographs in a line, attending to the regions of each.

    python examples/caption.py --plot caption.png

Data: the two photographs that ship with scikit-learn (a temple in China, a dahlia), cut into crops
of 96 x 96 pixels. A crop is nine regions of 32 x 32 pixels, each with features that are computed
here: mean, share and spread of red, green and blue, edges across and along, and where it lies. A
caption says which color is above, in the middle and below, whether the crop is bright or dark, and
whether it is smooth or rough; it is made by a rule from the pixels, so that it can be checked. The
crops of the test are from a band of each photograph, the columns 160 to 320, and those of training,
which are seen in other light, from both sides of it: no pixel is in both. Beside the score stands
the commonest caption of training.

The model is made of `holdfast.nn`: `Regions`, which takes features as they are, and a `Decoder`
with attention (Xu et al. 2015). Needs the extras text and plots. About a minute on one core.
"""

from __future__ import annotations

import argparse
import colorsys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from holdfast.data.optional import require
from holdfast.data.text import Vocabulary, pad
from holdfast.nn import Beam, Decoder, EncoderDecoder, Regions
from holdfast.tasks import plots
from holdfast.tasks.random_numbers import own_random_numbers, seed_everything_of_ours

SIZE, REGION, GRID = 96, 32, 3
BAND = (160, 320)
SPECIALS = ("<pad>", "<unk>", "<s>", "</s>")
PAD, BEGIN, END = 0, 2, 3
PLACES = ("above", "middle", "below")
HUES = ((20, "red"), (45, "orange"), (70, "yellow"), (165, "green"), (260, "blue"), (335, "purple"))
GRAY, DARK, BRIGHT, ROUGH = 0.2, 0.3, 0.6, 0.04


class Crops(NamedTuple):
    """Pixels `[N, 96, 96, 3]`, features `[N, 9, F]` and captions."""

    pixels: np.ndarray
    features: Tensor
    captions: list[list[str]]


def photographs() -> list[np.ndarray]:
    """The two photographs, pixels from 0 to 1."""
    images = require("sklearn.datasets", "text").load_sample_images().images
    return [np.asarray(image, dtype=np.float32) / 255 for image in images]


def crops(count: int, seed: int, test: bool) -> Crops:
    """Crops at random places, of both photographs in turns."""
    draw, images = np.random.default_rng(seed), photographs()
    pixels = []
    for number in range(count):
        image = images[number % 2]
        # Two thirds of the crops beside the band lie to its right, where most of the picture is.
        beside = (BAND[1], image.shape[1]) if draw.random() < 2 / 3 else (0, BAND[0])
        low, high = BAND if test else beside
        left = int(draw.integers(low, high - SIZE + 1))
        top = int(draw.integers(0, image.shape[0] - SIZE + 1))
        crop = image[top : top + SIZE, left : left + SIZE]
        pixels.append(crop if test else in_other_light(crop, draw))
    whole = np.stack(pixels)
    parts = whole.reshape(count, GRID, REGION, GRID, REGION, 3).transpose(0, 1, 3, 2, 4, 5)
    return Crops(whole, features(parts), [caption(one) for one in parts])


def in_other_light(crop: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """The crop with its primary colors exchanged, and each of them stronger or weaker.

    Two photographs have few colors; this way training sees all of them.
    """
    return np.clip(crop[..., draw.permutation(3)] * draw.uniform(0.5, 1.4, 3), 0, 1)


def edges(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much neighbors differ in each region `[..., 32, 32, 3]`, across and along."""
    across, along = (np.abs(np.diff(parts, axis=axis)) for axis in (-2, -3))
    return across.mean((-3, -2, -1)), along.mean((-3, -2, -1))


def features(parts: np.ndarray) -> Tensor:
    """What regions `[N, 3, 3, 32, 32, 3]` look like, and where they lie, `[N, 9, F]`."""
    count = len(parts)
    place = np.broadcast_to(np.eye(GRID**2).reshape(GRID, GRID, -1), (count, GRID, GRID, GRID**2))
    rough = 10 * np.stack(edges(parts), -1)
    mean = parts.mean((-3, -2))
    hue = 10 * (mean / (mean.sum(-1, keepdims=True) + 0.05) - 1 / 3)
    seen = [mean, hue, 4 * parts.std((-3, -2)), rough, place]
    return torch.from_numpy(np.concatenate(seen, -1).astype(np.float32)).flatten(1, 2)


def color(pixels: np.ndarray) -> str:
    """The name of the mean color of pixels `[..., 3]`."""
    mean = [float(value) for value in pixels.reshape(-1, 3).mean(0)]
    hue, saturation, value = colorsys.rgb_to_hsv(*mean)
    if saturation < GRAY or value < 0.15:
        return "black" if value < DARK else "white" if value > 0.75 else "gray"
    return next((name for most, name in HUES if 360 * hue < most), "red")


def caption(parts: np.ndarray) -> list[str]:
    """What there is to see in regions `[3, 3, 32, 32, 3]`, in nine words."""
    said = [word for row, place in zip(parts, PLACES, strict=True) for word in (color(row), place)]
    light, (across, along) = float(parts.mean()), edges(parts)
    said.append("dark" if light < DARK else "bright" if light > BRIGHT else "clear")
    said += ["and", "rough" if float(across.mean() + along.mean()) / 2 > ROUGH else "smooth"]
    return said


def train(
    training: Crops, words: Vocabulary, hidden_size: int, steps: int
) -> tuple[EncoderDecoder, float]:
    """A model, and its loss over the last steps."""
    embedding = nn.Embedding(len(words), 32)
    size = training.features.shape[2]
    decoder = Decoder(
        32,
        hidden_size,
        len(words),
        memory_size=size,
        attention="additive",
        attend="before",
        embedding=embedding,
    )
    model = EncoderDecoder(Regions(size), decoder)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    target, _ = pad([[BEGIN, *words.encode(one), END] for one in training.captions], PAD)
    target, losses = target.T, []
    for _ in range(steps):
        chosen = torch.randint(len(target), (64,))
        logits = model(training.features[chosen], None, target[chosen, :-1])  # [B, T, V]
        wanted = target[chosen, 1:].flatten()
        loss = functional.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=PAD)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model.eval(), float(np.mean(losses[-20:]))


def run(tiny: bool) -> dict[str, Any]:
    """Train and score; `tiny` only shows that it runs."""
    count, test = (40, 20) if tiny else (4000, 300)
    training, seen = crops(count, 0, test=False), crops(test, 1, test=True)
    words = Vocabulary.build(training.captions, specials=SPECIALS)
    with own_random_numbers():
        seed_everything_of_ours(0, 0)
        model, loss = train(training, words, 16 if tiny else 96, 5 if tiny else 800)
    options: dict[str, Any] = {"begin": BEGIN, "end": END, "max_length": 9, "weights": True}
    found = model.search(seen.features, how=Beam(3), **options)
    said = [words.decode(ids) for ids in found.best()]
    commonest = list(Counter(map(tuple, training.captions)).most_common(1)[0][0])
    return {
        "loss": loss,
        "right": share(said, seen.captions),
        "rule": share([commonest] * test, seen.captions),
        "crops": seen,
        "said": said,
        "weights": found.weights,
    }


def share(said: list[list[str]], wanted: list[list[str]]) -> tuple[float, float]:
    """The share of captions that are wholly right, and of words."""
    pairs = list(zip(said, wanted, strict=True))
    right = sum(one == two for one, two in pairs) / len(pairs)
    words = [sum(map(str.__eq__, one, two)) / len(two) for one, two in pairs]
    return right, float(np.mean(words))


def picture(found: dict[str, Any], shown: Sequence[int]) -> Any:
    """Crops with their captions, and where the model looked for each word that is a color."""
    figure, axes = plots.new_figure(11, 2.6 * len(shown), len(shown), 1 + GRID)
    for row, number in enumerate(shown):
        pixels, said = found["crops"].pixels[number], found["said"][number]
        panels = axes[row * (1 + GRID) : (row + 1) * (1 + GRID)]
        panels[0].imshow(pixels)
        plots.title(panels[0], "\n".join((" ".join(said[:4]), " ".join(said[4:]))), size=8)
        for panel, step in zip(panels[1:], range(0, min(len(said), 2 * GRID), 2), strict=False):
            weights = found["weights"][number, 0, step].reshape(GRID, GRID).numpy()
            panel.imshow(pixels)
            light = np.kron(weights / weights.max(), np.ones((REGION, REGION)))
            panel.imshow(np.ones_like(pixels), alpha=0.85 * (1 - light))
            plots.title(panel, f"{said[step]} ({weights.max():.0%})", size=8)
        for panel in panels:
            panel.set_axis_off()
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    """Train, print scores and captions, and write the picture when asked."""
    parser = argparse.ArgumentParser(description="Describe parts of photographs.")
    parser.add_argument("--tiny", action="store_true", help="a moment, to see that it runs")
    parser.add_argument("--plot", metavar="PNG", help="picture of the attention to write")
    arguments = parser.parse_args(argv)
    found = run(arguments.tiny)
    for name, (right, words) in (("Holdfast", found["right"]), ("the commonest", found["rule"])):
        print(f"{name:14} {right:6.1%} wholly right, {words:6.1%} of the words")
    for number in range(4):
        print(f"\nwanted: {' '.join(found['crops'].captions[number])}")
        print(f"said:   {' '.join(found['said'][number])}")
    if arguments.plot:
        Path(arguments.plot).write_bytes(plots.png(picture(found, range(4))))


if __name__ == "__main__":
    main()
