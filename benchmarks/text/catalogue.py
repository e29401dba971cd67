"""Imports every module of experiments, so that `EXPERIMENTS` holds them all."""

from __future__ import annotations

from benchmarks.text import classifying as classifying
from benchmarks.text import language as language
from benchmarks.text import language_time as language_time
from benchmarks.text import tagging as tagging
from benchmarks.text import translating as translating
from benchmarks.text.registry import EXPERIMENTS as EXPERIMENTS
