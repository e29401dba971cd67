"""VERBS: parsers of the command line; nothing heavy is imported before a verb runs."""

from __future__ import annotations
