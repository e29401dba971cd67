"""Names for the tensors that travel through the package, with their shapes.

A signature that says `x: Sequence` promises time-major `(T, B, I)`. The letters are the field's:
`B` batch, `T` time, `I` inputs, `H` units. The test suite checks every call against them. In normal
use the names are plain tensors and cost nothing: `jaxtyping` is never imported from here unless the
suite's import hook has brought it in already.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor

if TYPE_CHECKING or "jaxtyping" not in sys.modules:
    Sequence: TypeAlias = Tensor
    Hidden: TypeAlias = Tensor
    HiddenSequence: TypeAlias = Tensor
    Lengths: TypeAlias = Tensor
    Vector: TypeAlias = Tensor
else:
    from jaxtyping import Float, Integer

    Sequence = Float[Tensor, "T B I"]
    Hidden = Float[Tensor, "B H"]
    HiddenSequence = Float[Tensor, "T B H"]
    Lengths = Integer[Tensor, "B"]
    Vector = Float[Tensor, "H"]
