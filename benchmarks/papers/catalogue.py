"""Imports every module of experiments, so that `EXPERIMENTS` holds them all."""

from __future__ import annotations

from benchmarks.papers import counting as counting
from benchmarks.papers import gers as gers
from benchmarks.papers import hochreiter as hochreiter
from benchmarks.papers import memory as memory
from benchmarks.papers import music as music
from benchmarks.papers import odyssey as odyssey
from benchmarks.papers import recall as recall
from benchmarks.papers.registry import EXPERIMENTS as EXPERIMENTS
