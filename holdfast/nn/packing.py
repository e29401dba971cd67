"""Parameters in the order in which kernels read them, and the gradients of the small ones back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

from holdfast.compiler.build import packer
from holdfast.compiler.cell import Cell
from holdfast.compiler.emit.llvm import output_tile
from holdfast.compiler.emit.llvm_forward import inner_tile
from holdfast.compiler.emit.llvm_loops import Sizes, Tile
from holdfast.compiler.emit.llvm_pairs import PAIRS
from holdfast.nn.narrow import narrowed, paired

_ANYTHING = torch.zeros(1, device="cpu")
"""Where kernels would find what a cell does not have."""


@cache
def shapes(cell: Cell, sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of a cell."""
    found = cell.shapes(sizes.input, sizes.hidden)
    if "weight_hh" in found:
        found["weight_hh"] = (found["weight_hh"][0], sizes.depth)
    if sizes.projection:
        found["weight_hr"] = (sizes.projection, sizes.hidden)
    return found


@cache
def runs(cell: Cell, part: str) -> tuple[tuple[int, int, int], ...]:
    """Neighbors among the affine sums that have a part (`x`, `h`, `bias_ih`, `bias_hh`).

    Each run is its first sum, the one after its last, and how many sums with the part come before:
    where its rows begin in the parameter. Gates that are called have no `h`, but a run of R's rows
    is theirs.
    """
    found: list[tuple[int, int, int]] = []
    count = 0
    for n, acc in enumerate(cell.accumulators):
        if getattr(acc, part):
            joins = bool(found) and found[-1][1] == n and count == found[-1][2] + n - found[-1][0]
            if part == "h" and acc.inner:
                pass
            elif joins:
                found[-1] = (found[-1][0], n + 1, found[-1][2])
            else:
                found.append((n, n + 1, count))
            count += 1
    return tuple(found)


@cache
def inner(cell: Cell) -> tuple[tuple[str, int, int], ...]:
    """Gates that are called: name, position among the sums, position among those with R."""
    recurrent = [n for n, acc in enumerate(cell.accumulators) if acc.h]
    return tuple(
        (cell.accumulators[n].leaf, n, position)
        for position, n in enumerate(recurrent)
        if cell.accumulators[n].inner
    )


def rows_of(weight: Tensor, position: int, hidden_size: int) -> Tensor:
    """The rows of one gate in a parameter."""
    return weight[position * hidden_size : (position + 1) * hidden_size]


def _outer(cell: Cell, weight: Tensor, hidden_size: int) -> Tensor:
    """The rows of R that multiply the previous h."""
    if not inner(cell):
        return weight
    parts = [
        weight[first * hidden_size : (first + end - start) * hidden_size]
        for start, end, first in runs(cell, "h")
    ]
    return torch.cat(parts) if parts else weight[:0]


def pack_forward(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, sizes: Sizes, cut: Tile
) -> dict[str, Tensor]:
    """W, R, biases and per-unit weights by the names of a forward kernel's slots."""
    pack, hidden = packer(x.dtype), sizes.hidden
    from_x = sum(acc.x for acc in cell.accumulators)
    packed = {"weights_x": _ANYTHING}
    if from_x:
        packed["weights_x"] = pack.gates(parameters["weight_ih"], from_x, cut)
    packed["weights_h"] = packed["weights_x"]
    recurrent = parameters.get("weight_hh")
    if recurrent is not None:
        for name, _, position in inner(cell):
            own = rows_of(recurrent, position, hidden)
            packed[f"weights {name}"] = pack.gates(own, 1, inner_tile(cut, sizes))
        outer = _outer(cell, recurrent, hidden)
        if outer.shape[0]:
            packed["weights_h"] = pack.gates(outer, outer.shape[0] // hidden, cut)
    bias = _bias(cell, parameters, x, hidden)
    packed["bias"] = pack.gates(bias, len(cell.accumulators), cut)
    packed["units"] = pack_units(cell, parameters, x, cut)
    if sizes.projection:
        packed["weights_r"] = pack.gates(parameters["weight_hr"], 1, output_tile(cut, sizes))
    return packed | narrowed(packed, sizes.narrow) if sizes.narrow else packed


def pack_backward(
    cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, sizes: Sizes, cut: Tile
) -> dict[str, Tensor]:
    """R and per-unit weights by the names of a backward kernel's slots."""
    pack, hidden = packer(x.dtype), sizes.hidden
    packed = {"units": pack_units(cell, parameters, x, cut), "weights_h": _ANYTHING}
    recurrent = parameters.get("weight_hh")
    if recurrent is not None:
        for name, _, position in inner(cell):
            own = _by_column(rows_of(recurrent, position, hidden), sizes)
            packed[f"weights {name}"] = pack.rows(own, cut)
        outer = _by_column(_outer(cell, recurrent, hidden), sizes)
        if outer.shape[0]:
            tile = output_tile(cut, sizes) if sizes.projection else cut
            packed["weights_h"] = pack.rows(outer, tile)
    if sizes.projection:
        packed["weights_r"] = pack.rows(parameters["weight_hr"], cut)
    if sizes.narrow == PAIRS:
        packed["weights_h"] = paired(packed["weights_h"])
    return packed


def _by_column(weight: Tensor, sizes: Sizes) -> Tensor:
    """A block-diagonal R as `[sums * units of a head, H]`: the rows that each column has."""
    if sizes.heads == 1:
        return weight
    width = sizes.depth
    blocks = weight.view(-1, sizes.heads, width, width)  # [sums, heads, units, columns]
    return blocks.permute(0, 2, 1, 3).reshape(-1, sizes.hidden)


def dense(weight: Tensor, hidden_size: int) -> Tensor:
    """A block-diagonal R `[G * H, H / heads]` as the whole matrix, with its zeros."""
    width = weight.shape[1]
    if width == hidden_size:
        return weight
    heads = hidden_size // width
    whole = weight.new_zeros(weight.shape[0] // hidden_size, heads, width, heads, width)
    blocks = weight.view(-1, heads, width, width)
    for head in range(heads):
        whole[:, head, :, head] = blocks[:, head]
    return whole.view(-1, hidden_size)


def pack_units(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, cut: Tile) -> Tensor:
    """Per-unit weights `[count, padded]`; anything at all where a cell has none."""
    if not cell.weights:
        return _ANYTHING
    weights = torch.stack([parameters[name] for name in cell.weights])
    return packer(x.dtype).rows(weights, Tile(cut.lanes, cut.padded // cut.lanes, 1, 1))


def _bias(cell: Cell, parameters: Mapping[str, Tensor], x: Tensor, hidden_size: int) -> Tensor:
    """One bias for each affine sum, `[sums * H, 1]`."""
    sums = cell.accumulators
    if "bias_ih" in parameters and all(acc.bias_ih and acc.bias_hh for acc in sums):
        return (parameters["bias_ih"] + parameters["bias_hh"]).view(-1, 1)
    total = x.new_zeros(len(sums), hidden_size)
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            rows = parameters[name].view(-1, hidden_size)
            for start, end, first in runs(cell, name):
                total[start:end] += rows[first : first + end - start]
    return total.view(-1, 1)


def bias_count(cell: Cell) -> int:
    """Affine sums with a bias, whose gradients a backward kernel sums."""
    return sum(acc.bias_ih or acc.bias_hh for acc in cell.accumulators)


def summed(
    cell: Cell,
    parameters: Mapping[str, Tensor],
    d_bias: Tensor,
    d_units: Tensor,
    hidden_size: int,
) -> dict[str, Tensor]:
    """Gradients of those of the biases and per-unit weights that `parameters` has, from the sums
    of each thread."""
    biases = (d_bias.sum(0) if d_bias.shape[0] > 1 else d_bias[0])[:, :hidden_size]
    units = (d_units.sum(0) if d_units.shape[0] > 1 else d_units[0])[:, :hidden_size]
    found: dict[str, Tensor] = {}
    for name in ("bias_ih", "bias_hh"):
        if name in parameters:
            places = _places(cell, name)
            rows = biases if len(places) == len(biases) else biases[places]
            found[name] = rows.clone(memory_format=torch.contiguous_format).view(-1)
    for n, name in enumerate(cell.weights):
        if name in parameters:
            found[name] = units[n].clone()
    return found


@cache
def _places(cell: Cell, name: str) -> list[int]:
    """Which of the summed biases belong to a parameter."""
    biased = [acc for acc in cell.accumulators if acc.bias_ih or acc.bias_hh]
    return [n for n, acc in enumerate(biased) if getattr(acc, name)]
