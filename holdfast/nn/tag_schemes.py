"""Tags of chunks: what IOB1, BIO and BIOES allow to follow what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SCHEMES = {
    "IOB1": "IOB1",
    "IOB": "IOB1",
    "BIO": "BIO",
    "BIO2": "BIO",
    "IOB2": "BIO",
    "BIOES": "BIOES",
    "IOBES": "BIOES",
}
"""Every name of a scheme, and the one that is used here."""

PREFIXES = {"IOB1": "BI", "BIO": "BI", "BIOES": "BIES"}
"""What stands before the type of a chunk; `O` stands alone in all of them."""


@dataclass(frozen=True, eq=False)
class Allowed:
    """What a sequence of K tags may look like.

    start: tags that may come first, `[K]` bool. transitions: from row to column, `[K, K]` bool.
    end: tags that may come last, `[K]` bool.
    """

    start: Tensor
    transitions: Tensor
    end: Tensor


def scheme_named(name: str) -> str:
    """`IOB1`, `BIO` or `BIOES`, from any of their names, in any case.

    >>> scheme_named("bio2"), scheme_named("IOBES")
    ('BIO', 'BIOES')

    Errors: `ValueError` for another name.
    """
    if not isinstance(name, str) or name.upper() not in SCHEMES:
        raise ValueError(f"scheme should be one of {', '.join(SCHEMES)}, got {name!r}")
    return SCHEMES[name.upper()]


def split_tag(tag: str, prefixes: str = "BIES") -> tuple[str, str]:
    """The prefix and the type of a tag; the type may be empty and may hold hyphens.

    >>> split_tag("B-NP"), split_tag("O"), split_tag("I-a-b"), split_tag("I")
    (('B', 'NP'), ('O', ''), ('I', 'a-b'), ('I', ''))

    Errors: `ValueError` for what is no such tag.
    """
    prefix, hyphen, kind = tag.partition("-")
    if (prefix == "O" and not hyphen) or (prefix and len(prefix) == 1 and prefix in prefixes):
        return prefix, kind
    wanted = ", ".join(f"{one}-TYPE" for one in prefixes)
    raise ValueError(f"{tag!r} is not a tag of a chunk; expected O, {wanted}")


def may_follow(before: str, after: str, scheme: str) -> bool:
    """Whether the tag `after` may come right after `before`; O stands for both ends, too.

    >>> may_follow("B-NP", "I-NP", "BIO"), may_follow("B-NP", "I-VP", "BIO")
    (True, False)
    >>> may_follow("B-NP", "O", "BIOES"), may_follow("O", "B-NP", "IOB1")
    (False, False)

    Errors: `ValueError` for an unknown scheme, and a tag that is not one of the scheme.
    """
    scheme = scheme_named(scheme)
    last, kind = split_tag(before, PREFIXES[scheme])
    first, other = split_tag(after, PREFIXES[scheme])
    same = kind == other
    if scheme == "IOB1":  # B only parts a chunk from one of the same type right before it
        return first != "B" or (last in "BI" and same)
    if scheme == "BIO":
        return first != "I" or (last in "BI" and same)
    if last in "BI":  # an open chunk of BIOES goes on, or ends with E
        return first in "IE" and same
    return first not in "IE"


def allowed_transitions(tags: Sequence[str], scheme: str) -> Allowed:
    """Which tags may come first, follow each other, and come last, from their names.

    >>> allowed = allowed_transitions(["O", "B-NP", "I-NP"], "BIO")
    >>> allowed.start.tolist()
    [True, True, False]
    >>> allowed.transitions[0].tolist()  # after O
    [True, True, False]

    Arguments:
        tags: the names of the K tags, in their order.
        scheme: `"IOB1"`, `"BIO"` (also `"BIO2"`, `"IOB2"`) or `"BIOES"` (also `"IOBES"`).

    Errors: `ValueError` for an unknown scheme, a name that is not a tag of the scheme, and a name
    that comes twice.
    Source: Ramshaw & Marcus 1995 (IOB1); Tjong Kim Sang & Veenstra 1999 (the variants).
    """
    names = list(tags)
    twice = next((name for number, name in enumerate(names) if name in names[:number]), None)
    if twice is not None:
        raise ValueError(f"tags should differ, got {twice!r} twice")
    scheme = scheme_named(scheme)
    pairs = [[may_follow(before, after, scheme) for after in names] for before in names]
    return Allowed(
        start=torch.tensor([may_follow("O", name, scheme) for name in names], dtype=torch.bool),
        transitions=torch.tensor(pairs, dtype=torch.bool).view(len(names), len(names)),
        end=torch.tensor([may_follow(name, "O", scheme) for name in names], dtype=torch.bool),
    )
