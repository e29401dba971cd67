"""Begin with what another language model has learned."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from holdfast.errors import DataError
from holdfast.tasks.language.net import LanguageNet
from holdfast.tasks.language.tokens import Tokens
from holdfast.tasks.parameters import tuples

SAME = (
    "level",
    "split",
    "ends",
    "lower",
    "cell",
    "options",
    "hidden_size",
    "num_layers",
    "embedding_size",
    "tied",
    "cutoffs",
)
"""The settings that weights and vocabulary depend on, and that have to be those of before."""


@dataclass(frozen=True, eq=False)
class Start:
    """What a training begins with: the tokens and the network of an earlier one."""

    tokens: Tokens
    net: LanguageNet

    @property
    def digest(self) -> str:
        """A number that follows every bit of the weights and the vocabulary."""
        found = hashlib.sha256(self.tokens.as_bytes())
        for name, tensor in sorted(self.net.state_dict().items()):
            found.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
        return found.hexdigest()


def check_start(theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    """Refuse settings, naming the first, with which the earlier weights cannot be gone on with."""
    theirs, ours = tuples(theirs), tuples(ours)
    for name in SAME:
        if (theirs[name] or None) != (ours[name] or None):
            raise DataError(
                f"start: it was trained with {name}={theirs[name]!r}, this LanguageModel has "
                f"{ours[name]!r}; take the same"
            )
