"""An estimator's settings as options of the command line: one table, from which they are made."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting of an estimator: its name, default, kind of value and meaning, by group.

    A `repeated` one is a dict that is given pair by pair. A setting that is True or False has the
    kind `bool`, and becomes ``--name`` and ``--no-name``.

    >>> Setting("the model", "num_layers", 1, int, "N", "layers").option
    '--num-layers'
    """

    group: str
    name: str
    default: Any
    kind: Callable[[str], Any]
    shown: str
    meaning: str
    called: str = ""
    repeated: bool = False

    @property
    def option(self) -> str:
        """What the option is called."""
        return self.called or "--" + self.name.replace("_", "-")

    @property
    def help(self) -> str:
        """The meaning and the default, as argparse wants them."""
        plain = self.default not in (None, (), "") and self.kind is not bool
        known = self.default
        if isinstance(known, tuple):
            known = ",".join(map(str, known))
        text = f"{self.meaning} (default: {known})" if plain else self.meaning
        return text.replace("%", "%%")


def add_settings(parser: argparse.ArgumentParser, settings: Sequence[Setting]) -> None:
    """Give `parser` an option for every setting, in groups in the order of the table."""
    groups: dict[str, Any] = {}
    for one in settings:
        if one.group not in groups:
            groups[one.group] = parser.add_argument_group(one.group)
        how: dict[str, Any] = {"type": one.kind, "metavar": one.shown}
        if one.kind is bool:
            how = {"action": argparse.BooleanOptionalAction}
        if one.repeated:
            how["action"] = "append"
        groups[one.group].add_argument(one.option, dest=one.name, help=one.help, **how)


def given(arguments: argparse.Namespace, settings: Sequence[Setting]) -> dict[str, Any]:
    """The settings that were given, as keywords of the estimator."""
    found = {one.name: getattr(arguments, one.name) for one in settings}
    found = {name: value for name, value in found.items() if value is not None}
    repeated = {one.name for one in settings if one.repeated}
    return {name: dict(v) if name in repeated else v for name, v in found.items()}
