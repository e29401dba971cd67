"""What settings of every task are checked for; each check names the setting, in `DataError`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import torch

from holdfast.errors import DataError, did_you_mean

Settings = Mapping[str, Any]


def check_counts(settings: Settings, *names: str, least: int = 1) -> None:
    """Whole numbers from `least` on.

    >>> check_counts({"steps": 3, "seed": 0}, "steps", "seed")
    Traceback (most recent call last):
        ...
    holdfast.errors.DataError: seed=0; expected a whole number from 1 on
    """
    for name in names:
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise DataError(f"{name}={value!r}; expected a whole number from {least} on")


def check_choice(name: str, value: Any, known: Collection[Any]) -> None:
    """One of those that there are."""
    if value not in known:
        raise DataError(
            f"{name}={value!r}; expected one of {', '.join(map(repr, known))}"
            f"{did_you_mean(str(value), [one for one in known if one])}"
        )


def check_choices(settings: Settings, kinds: Mapping[str, Collection[Any]]) -> None:
    """Each of some settings one of those that there are."""
    for name, known in kinds.items():
        check_choice(name, settings[name], known)


def check_shares(settings: Settings, *names: str) -> None:
    """Shares from 0 to below 1."""
    for name in names:
        if not 0 <= settings[name] < 1:
            raise DataError(f"{name}={settings[name]!r}; expected a share from 0 to below 1")


def check_positive(settings: Settings, *names: str) -> None:
    """Numbers above 0."""
    for name in names:
        if not settings[name] > 0:
            raise DataError(f"{name}={settings[name]!r}; expected a number above 0")


def check_not_negative(settings: Settings, *names: str) -> None:
    """Numbers from 0 on."""
    for name in names:
        if not settings[name] >= 0:
            raise DataError(f"{name}={settings[name]!r}; expected 0 or a number above")


def check_validation(settings: Settings, counted: str = "") -> None:
    """A share of the examples that is held out.

    Arguments:
        counted: what it may also be a number of; nothing, where it has to be a share.
    """
    value = settings["validation"]
    number = bool(counted) and isinstance(value, int) and value >= 1
    if not (0 < value < 0.9 or number):
        more = f", or a number of {counted}" if counted else ""
        raise DataError(f"validation={value!r}; expected a share between 0 and 0.9{more}")


def check_device(settings: Settings) -> None:
    """A device that numbers can be put on here."""
    device = settings["device"]
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"device={device!r} cannot be used here: {reason}") from error
