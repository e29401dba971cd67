"""What a forecast says of each step: a point, quantiles, or the parameters of a distribution.

A network hands over `raw` (..., P) numbers a step, and `base` (...), a first guess that the head
moves. All values are scaled; `scale` (..., 2) holds what they are multiplied by, and added to, for
a head that must know the user's unit.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from holdfast.data.optional import require
from holdfast.errors import DataError

# The only draw from a gamma distribution that takes a generator.
gamma: Any = getattr(torch, "_standard_gamma")  # noqa: B009
DEFAULT_QUANTILES = (0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975)
SMALLEST = 1e-3


class Head(ABC):
    """Turns a network's numbers into a loss, a point, quantiles and samples."""

    size: int
    distribution = True

    @abstractmethod
    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        """The loss of each step, in the shape of `target`."""

    @abstractmethod
    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        """The one value (...) that the head's loss asks for: the median of distributions."""

    @abstractmethod
    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        """The values (..., Q) that are not exceeded with probabilities `levels`."""

    @abstractmethod
    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        """One draw (...) for each step."""

    def loss(
        self, raw: Tensor, base: Tensor, target: Tensor, weight: Tensor, scale: Tensor
    ) -> Tensor:
        """The mean loss over the targets that were observed; 0 where none was."""
        losses = self.losses(raw, base, target, scale)
        # What was not observed may be anything, so it is left out by choice, not by a product.
        kept = torch.where(weight > 0, losses * weight, 0.0)
        return kept.sum() / weight.sum().clamp(min=1.0)


POINT_LOSSES = {
    "mae": lambda error: error.abs(),
    "mse": lambda error: error.square(),
    "huber": lambda error: functional.huber_loss(error, torch.zeros_like(error), reduction="none"),
}


@dataclass(frozen=True)
class Point(Head):
    """A single value; `kind` is ``"mae"`` (the median), ``"mse"`` (the mean) or ``"huber"``."""

    kind: str = "mae"
    size: int = 1
    distribution = False

    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        return POINT_LOSSES[self.kind](base + raw[..., 0] - target)

    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        return base + raw[..., 0]

    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        raise DataError(
            'this model makes point forecasts; fit with output="quantiles" or a distribution, or '
            'intervals="conformal"'
        )

    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        raise DataError("this model makes point forecasts; fit with a distribution for samples")


@dataclass(frozen=True)
class Quantiles(Head):
    """Values at fixed probabilities, which cannot cross: each is the next one plus a step.

    Loss: pinball, twice, so that a median alone is the absolute error.
    """

    levels: tuple[float, ...] = DEFAULT_QUANTILES

    @property
    def size(self) -> int:  # type: ignore[override]
        """One number a level."""
        return len(self.levels)

    @property
    def middle(self) -> int:
        """Which level is nearest to the median."""
        return int(np.abs(np.array(self.levels) - 0.5).argmin())

    def values(self, raw: Tensor, base: Tensor) -> Tensor:
        """The quantiles (..., Q) at the levels of training, in order."""
        middle = self.middle
        center = (base + raw[..., middle])[..., None]
        steps = functional.softplus(raw) * 0.5
        up = center + steps[..., middle + 1 :].cumsum(-1)
        down = center - steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        return torch.cat([down, center, up], dim=-1)

    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        levels = torch.tensor(self.levels, dtype=raw.dtype, device=raw.device)
        error = target[..., None] - self.values(raw, base)
        return 2 * torch.maximum(levels * error, (levels - 1) * error).mean(-1)

    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        if self.levels[0] < 0.5 < self.levels[-1]:
            return self.quantiles(raw, base, (0.5,), scale)[..., 0]
        return base + raw[..., self.middle]

    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        outside = [q for q in levels if not self.levels[0] <= q <= self.levels[-1]]
        if outside:
            raise DataError(
                f"quantile {outside[0]:g} lies outside those of training ({self.levels[0]:g} to "
                f"{self.levels[-1]:g}); fit with quantiles=(...) that reach it"
            )
        return _between(self.values(raw, base), self.levels, levels)

    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        values = self.values(raw, base)
        uniform = torch.rand(base.shape, generator=generator, dtype=raw.dtype)
        known = torch.tensor(self.levels, dtype=raw.dtype)
        uniform = uniform.clamp(self.levels[0], self.levels[-1])
        right = torch.searchsorted(known, uniform).clamp(1, len(self.levels) - 1)[..., None]
        low, high = known[right[..., 0] - 1], known[right[..., 0]]
        share = ((uniform - low) / (high - low))[..., None]
        return torch.lerp(values.gather(-1, right - 1), values.gather(-1, right), share)[..., 0]


@dataclass(frozen=True)
class Gaussian(Head):
    """Mean and standard deviation of a normal distribution. Loss: negative log likelihood."""

    size: int = 2

    def parts(self, raw: Tensor, base: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation."""
        return base + raw[..., 0], functional.softplus(raw[..., 1]) + SMALLEST

    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        mean, std = self.parts(raw, base)
        return std.log() + 0.5 * ((target - mean) / std).square() + 0.5 * math.log(2 * math.pi)

    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        return base + raw[..., 0]

    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        mean, std = self.parts(raw, base)
        z = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).to(raw)
        return mean[..., None] + std[..., None] * z

    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        mean, std = self.parts(raw, base)
        return mean + std * torch.randn(mean.shape, generator=generator, dtype=mean.dtype)


@dataclass(frozen=True)
class StudentT(Head):
    """Location, scale and degrees of freedom (above 2) of Student's t: heavy tails."""

    size: int = 3

    def parts(self, raw: Tensor, base: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Location, scale, degrees of freedom."""
        freedom = 2 + functional.softplus(raw[..., 2] + 2)
        return base + raw[..., 0], functional.softplus(raw[..., 1]) + SMALLEST, freedom

    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        location, spread, freedom = self.parts(raw, base)
        return -torch.distributions.StudentT(freedom, location, spread).log_prob(target)

    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        return base + raw[..., 0]

    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        location, spread, freedom = self.parts(raw, base)
        special: Any = require("scipy.special")
        t = special.stdtrit(freedom.double().numpy()[..., None], np.array(levels))
        return location[..., None] + spread[..., None] * torch.from_numpy(t).to(raw)

    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        location, spread, freedom = self.parts(raw, base)
        normal = torch.randn(location.shape, generator=generator, dtype=raw.dtype)
        chi = 2 * gamma(freedom / 2, generator=generator)
        return location + spread * normal * (freedom / chi).sqrt()


@dataclass(frozen=True)
class NegativeBinomial(Head):
    """Mean and dispersion of counts: variance = mean + dispersion * mean^2 (Salinas et al. 2017).

    Wants targets that are whole and not negative, and ``scaling="mean"``.
    """

    size: int = 2

    def parts(self, raw: Tensor, base: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Mean in the user's unit, and dispersion."""
        mean = functional.softplus(2 * (base + raw[..., 0])) / 2 * scale[..., 0]
        dispersion = functional.softplus(raw[..., 1]) / scale[..., 0].sqrt()
        return mean + 1e-6, dispersion + 1e-6

    def losses(self, raw: Tensor, base: Tensor, target: Tensor, scale: Tensor) -> Tensor:
        mean, dispersion = self.parts(raw, base, scale)
        count = (target * scale[..., 0] + scale[..., 1]).round().clamp(min=0)
        size = 1 / dispersion
        share = torch.log1p(dispersion * mean)
        gamma = torch.lgamma(count + size) - torch.lgamma(size) - torch.lgamma(count + 1)
        return -(gamma - size * share + count * (torch.log(dispersion * mean) - share))

    def point(self, raw: Tensor, base: Tensor, scale: Tensor) -> Tensor:
        return self.quantiles(raw, base, (0.5,), scale)[..., 0]

    def quantiles(
        self, raw: Tensor, base: Tensor, levels: tuple[float, ...], scale: Tensor
    ) -> Tensor:
        mean, dispersion = (part.double().numpy() for part in self.parts(raw, base, scale))
        size, stats = 1 / dispersion, require("scipy.stats")
        # A level that is asked for twice has one answer, also where a count is a close call.
        unique, places = np.unique(np.array(levels), return_inverse=True)
        found: Any = stats.nbinom.ppf(unique, size[..., None], (size / (size + mean))[..., None])
        values = torch.from_numpy(np.asarray(found)[..., places]).to(raw)
        return (values - scale[..., 1:]) / scale[..., :1]

    def sample(
        self, raw: Tensor, base: Tensor, scale: Tensor, generator: torch.Generator
    ) -> Tensor:
        mean, dispersion = self.parts(raw, base, scale)
        size = 1 / dispersion
        rate = gamma(size, generator=generator) * dispersion * mean
        count = torch.poisson(rate, generator=generator)
        return (count - scale[..., 1]) / scale[..., 0]


def make_head(output: str, loss: str = "mae", quantiles: tuple[float, ...] = ()) -> Head:
    """The head by name.

    >>> make_head("gaussian").size
    2

    Raises `DataError` for a name or levels that there are not.
    """
    if loss not in POINT_LOSSES:
        raise DataError(f"loss={loss!r}; expected one of {', '.join(map(repr, POINT_LOSSES))}")
    if output == "quantiles":
        levels = tuple(sorted(float(q) for q in quantiles or DEFAULT_QUANTILES))
        if len(set(levels)) < len(levels) or not 0 < levels[0] <= levels[-1] < 1:
            raise DataError(f"quantiles={quantiles!r}; expected distinct shares between 0 and 1")
        return Quantiles(levels)
    named: dict[str, Head] = {
        "point": Point(loss),
        "gaussian": Gaussian(),
        "student_t": StudentT(),
        "negative_binomial": NegativeBinomial(),
    }
    if output not in named:
        known = ", ".join(map(repr, ["quantiles", *named]))
        raise DataError(f"output={output!r}; expected one of {known}")
    return named[output]


def _between(values: Tensor, known: tuple[float, ...], wanted: tuple[float, ...]) -> Tensor:
    """Quantiles at the levels `wanted`, linear between those at `known`."""
    columns = []
    for level in wanted:
        right = min(max(int(np.searchsorted(known, level)), 1), len(known) - 1)
        if len(known) == 1:
            columns.append(values[..., 0])
            continue
        share = (level - known[right - 1]) / (known[right] - known[right - 1])
        columns.append(torch.lerp(values[..., right - 1], values[..., right], share))
    return torch.stack(columns, dim=-1)
