"""The structures as a table: what they are, what they keep, and what runs them.

>>> from holdfast.nn.structures import STRUCTURES
>>> one = STRUCTURES["ChildSumTreeLSTM"]
>>> one.states, one.count(128), one.compiled
('h c', 131584, False)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from holdfast.nn.block import BlockLSTM
from holdfast.nn.concurrent import ConcurrentLSTM
from holdfast.nn.convolution import ConvLSTM1d, ConvLSTM2d, ConvLSTM3d
from holdfast.nn.depth import DepthGatedLSTM
from holdfast.nn.grid import GridLSTM
from holdfast.nn.matrix import MatrixLSTM
from holdfast.nn.persistent import PersistentLSTM
from holdfast.nn.places import SpatioTemporalLSTM
from holdfast.nn.projected import LSTMP
from holdfast.nn.quasi import QRNN
from holdfast.nn.structure import Structure
from holdfast.nn.tree import ChildSumTreeLSTM, NaryTreeLSTM


@dataclass(frozen=True)
class Entry:
    """A structure of the catalogue.

    what: what it is, and where it comes from. states: their names. sizes: what else `make` chooses.
    make: the layer with I = H = its first argument, and keywords such as `device` and `dtype`.
    """

    what: str
    states: str
    sizes: str
    make: Callable[..., Structure]

    def count(self, width: int) -> int:
        """How many parameters it has for I = H = `width`, the two biases of an LSTM as one."""
        layer = self.make(width, device="meta")
        named = layer.named_parameters()
        return sum(value.numel() for name, value in named if "bias_hh" not in name)

    @property
    def reason(self) -> str:
        """Why it has no compiled pass, or nothing."""
        return type(self.make(2, device="meta")).reason

    @property
    def compiled(self) -> bool:
        """Whether its recurrence runs compiled wherever `holdfast.nn.LSTM` does."""
        return not self.reason


def _conv(layer: Callable[..., Structure]) -> Callable[..., Structure]:
    return lambda width, **more: layer(width, width, 3, **more)


def _square(layer: Callable[..., Structure], **chosen: Any) -> Callable[..., Structure]:
    return lambda width, **more: layer(width, width, **chosen, **more)


STRUCTURES: dict[str, Entry] = {
    "ConvLSTM1d": Entry("ConvLSTM over lines: Shi et al. 2015", "h c", "K=3", _conv(ConvLSTM1d)),
    "ConvLSTM2d": Entry("ConvLSTM over images: Shi et al. 2015", "h c", "K=9", _conv(ConvLSTM2d)),
    "ConvLSTM3d": Entry("ConvLSTM over volumes: Shi et al. 2015", "h c", "K=27", _conv(ConvLSTM3d)),
    "ChildSumTreeLSTM": Entry(
        "Tree-LSTM, children in no order: Tai, Socher & Manning 2015",
        "h c",
        "",
        _square(ChildSumTreeLSTM),
    ),
    "NaryTreeLSTM": Entry(
        "Tree-LSTM, at most N children in order: Tai, Socher & Manning 2015",
        "h c",
        "N=2",
        _square(NaryTreeLSTM, arity=2),
    ),
    "MatrixLSTM": Entry(
        "mLSTM, a matrix in each of N heads: Beck et al. 2024",
        "C n m",
        "N=2",
        _square(MatrixLSTM, num_heads=2),
    ),
    "SpatioTemporalLSTM": Entry(
        "one LSTM for each place, then one over all: Karevan & Suykens 2018",
        "h_places c_places h c",
        "L=2 P=H",
        lambda width, **more: SpatioTemporalLSTM(width, 2, width, width, **more),
    ),
    "ConcurrentLSTM": Entry(
        "a memory for each person, one for all: Shu et al. 2018, a reconstruction",
        "h c",
        "",
        _square(ConcurrentLSTM),
    ),
    "PersistentLSTM": Entry(
        "beside the average of past outputs: Salton & Kelleher 2018, a reconstruction",
        "h c past count",
        "",
        _square(PersistentLSTM),
    ),
    "GridLSTM": Entry(
        "memories through time and depth: Kalchbrenner, Danihelka & Graves 2016",
        "h c",
        "L=2",
        _square(GridLSTM, num_layers=2),
    ),
    "LSTMP": Entry(
        "projections that go back and that do not: Sak, Senior & Beaufays 2014",
        "r c",
        "P=H/2",
        lambda width, **more: LSTMP(width, width, width // 2, **more),
    ),
    "BlockLSTM": Entry(
        "the first one, blocks of S cells with two gates: Hochreiter & Schmidhuber 1997",
        "h c y_in y_out",
        "S=2 G=2H/S",
        lambda width, **more: BlockLSTM(width, width // 2, 2, **more),
    ),
    "DepthGatedLSTM": Entry(
        "highway LSTM, memories linked upward: Zhang et al. 2015",
        "h c",
        "L=2 K=1",
        _square(DepthGatedLSTM),
    ),
    "QRNN": Entry(
        "convolutions over time, and a pooling: Bradbury et al. 2017",
        "c past",
        "K=2",
        _square(QRNN),
    ),
}
"""Every structure by the name of its class in `holdfast.nn`."""


def listing(width: int = 128) -> str:
    """A table for people: one line a structure, and the reasons of those that are not compiled.

    >>> [line.split()[:4] for line in listing().splitlines()[4:5]]
    [['ChildSumTreeLSTM', 'h', 'c', '131,584']]

    Arguments:
        width: inputs and units for which parameters are counted.
    """
    rows = [("structure", "states", "with", f"I=H={width}", "runs", "what it is, and whence")]
    for name, entry in STRUCTURES.items():
        count = f"{entry.count(width):,}"
        runs = "compiled" if entry.compiled else "torch"
        rows.append((name, entry.states, entry.sizes, count, runs, entry.what))
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, states, sizes, count, runs, what in rows:
        head = f"{name:<{wide[0]}}  {states:<{wide[1]}}  {sizes:<{wide[2]}}  "
        lines.append(f"{head}{count:>{wide[3]}}  {runs:<{wide[4]}}  {what}")
    reasons: dict[str, list[str]] = {}
    for name, entry in STRUCTURES.items():
        if entry.reason:
            reasons.setdefault(entry.reason, []).append(name)
    lines.append("torch means PyTorch's operations, because")
    lines += [f"  {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    return "".join(f"{line}\n" for line in lines)
