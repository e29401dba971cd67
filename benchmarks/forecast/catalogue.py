"""Imports every module of experiments, so that `EXPERIMENTS` holds them all."""

from __future__ import annotations

from benchmarks.forecast import contest as contest
from benchmarks.forecast import footprint as footprint
from benchmarks.forecast import many as many
from benchmarks.forecast import speed as speed
from benchmarks.forecast.registry import EXPERIMENTS as EXPERIMENTS
