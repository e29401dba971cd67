"""Every option of a layer beyond those of `torch.nn`: one list, its checks, and what it makes.

`Recurrent`, `LSTM`, `GRU` and `RNN` pass these on by name; nothing else declares them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from holdfast.compiler.cell import Cell
from holdfast.compiler.vary import CANDIDATE, RECURRENT, SITES, ZONEOUT, Function, Variation, vary
from holdfast.errors import CellError

DEFAULTS = {
    "proj_size": 0,
    "num_layers": 1,
    "bias": True,
    "batch_first": False,
    "dropout": 0,
    "bidirectional": False,
}
"""What layers take as those of `torch.nn` do, and what it is unless given."""


@dataclass(frozen=True)
class Options:
    """What a layer does beyond `torch.nn`; the defaults change nothing.

    >>> Options(zoneout=0.1, layer_norm=True).changed
    {'zoneout': 0.1, 'layer_norm': True}

    Arguments:
        merge: how a bidirectional layer joins its outputs: "concat" or "sum".
        residual: add a layer's input to its output. The first layer does so only where the widths
            agree; for the others they must.
        highway: `t * output + (1 - t) * input` with a gate `t = sigmoid(W x + b)` of its own, the
            parameters `weight_highway_l0` and `bias_highway_l0`, in the same places as `residual`
            (Srivastava et al. 2015).
        recurrence: "dense"; "diagonal", one weight a unit, `u_i_l0` and so on, in the place of
            `weight_hh`; or the number of heads, blocks of units that do not see each other.
        input_dropout, output_dropout: probability with which a feature of the input, or of the
            output, of every layer is zeroed, for a whole sequence (Gal & Ghahramani 2016).
        recurrent_dropout: the same on the recurrence, as `recurrent_dropout_on` says: "h", one mask
            a sequence on the h that R multiplies, or "candidate", another mask each step on what
            is taken in (Semeniuta et al. 2016).
        zoneout: probability with which a unit keeps its old value for a step: one number for h and
            every state, or a mapping such as `{"c": 0.5, "h": 0.05}`. Evaluation takes the
            expectation (Krueger et al. 2017).
        weight_dropout: probability with which an element of `weight_hh` is zeroed, one mask a call
            for all rows and steps (DropConnect; Merity et al. 2018).
        layer_norm: normalize `W x`, `R h` and the state before the output (Ba et al. 2016).
        clip: bound of the arguments of activations.
        state_clip: bound of every state besides h.
        activations: another activation for "gate", "candidate" or "output": a name, such as
            "hard_sigmoid", or a function made of Holdfast's operations.
        learned_start: initial states are parameters, `h_start_l0` and so on; zeros at first.
        forget_bias: the sum of the biases of the gate f at first.
        recompute: "none": training keeps what the backward pass needs; "full": it keeps the output
            and some states, and the backward pass runs the forward pass again, chunk by chunk, with
            the same results; "auto": "full" where "none" would keep more than a thirty-second part
            of the memory, for one layer and direction.

    All dropouts act in training only.

    Errors: `TypeError` and `ValueError` for values that no layer can take.
    """

    merge: str = "concat"
    residual: bool = False
    highway: bool = False
    recurrence: str | int = "dense"
    input_dropout: float = 0.0
    output_dropout: float = 0.0
    recurrent_dropout: float = 0.0
    recurrent_dropout_on: str = "h"
    zoneout: float | Mapping[str, float] = 0.0
    weight_dropout: float = 0.0
    layer_norm: bool = False
    clip: float | None = None
    state_clip: float | None = None
    activations: Mapping[str, str | Function] | None = None
    learned_start: bool = False
    forget_bias: float | None = None
    recompute: str = "auto"

    @classmethod
    def of(cls, layer: str, given: Mapping[str, Any]) -> Options:
        """The options given to a layer by name.

        Errors: `TypeError` for a name that is no option.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(name, known, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise TypeError(
                    f"{layer}: got an unexpected keyword argument {name!r}{hint} "
                    f"The options are: {', '.join(known)}"
                )
        return cls(**given)

    def __post_init__(self) -> None:
        for name in ("residual", "highway", "layer_norm", "learned_start"):
            if not isinstance(value := getattr(self, name), bool):
                raise TypeError(f"{name} should be of type bool, got: {type(value).__name__}")
        _check_choice("merge", self.merge, ("concat", "sum"))
        _check_choice("recompute", self.recompute, ("auto", "none", "full"))
        _check_choice("recurrent_dropout_on", self.recurrent_dropout_on, ("h", "candidate"))
        for name in ("input_dropout", "output_dropout", "recurrent_dropout", "weight_dropout"):
            _check_probability(name, getattr(self, name))
        if isinstance(self.zoneout, Mapping):
            for state, value in self.zoneout.items():
                _check_probability(f"zoneout of {state}", value)
        else:
            _check_probability("zoneout", self.zoneout)
        for name in ("clip", "state_clip"):
            bound = getattr(self, name)
            if bound is not None and not (_is_number(bound) and bound > 0):
                raise ValueError(f"{name} should be a number above 0 or None, got: {bound!r}")
        if self.forget_bias is not None and not _is_number(self.forget_bias):
            raise TypeError(f"forget_bias should be a number or None, got: {self.forget_bias!r}")
        self._check_recurrence()
        self._check_activations()
        if self.residual and self.highway:
            raise ValueError("residual and highway are two ways around a layer; take one of them")
        if self.diagonal and self.layer_norm:
            raise ValueError(
                "layer_norm and recurrence='diagonal' do not go together: there is no `R h` to "
                "normalize"
            )
        if self.diagonal and self.weight_dropout:
            raise ValueError(
                "weight_dropout and recurrence='diagonal' do not go together: there is no "
                "weight_hh; take recurrent_dropout"
            )

    def _check_recurrence(self) -> None:
        value = self.recurrence
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise TypeError(
                "recurrence should be 'dense', 'diagonal' or a number of heads, got: "
                f"{type(value).__name__}"
            )
        if isinstance(value, str):
            _check_choice("recurrence", value, ("dense", "diagonal"), ", or a number of heads")
        elif value < 1:
            raise ValueError(f"recurrence as a number of heads must be at least 1, got: {value}")

    def _check_activations(self) -> None:
        if self.activations is None:
            return
        if not isinstance(self.activations, Mapping):
            raise TypeError(
                f"activations should be a mapping from {', '.join(SITES)} to activations, got: "
                f"{type(self.activations).__name__}"
            )
        for site, chosen in self.activations.items():
            _check_choice("activations: the place", site, SITES)
            if not isinstance(chosen, str) and not callable(chosen):
                raise TypeError(
                    f"activations: expected a name or a function for {site}, got: "
                    f"{type(chosen).__name__}"
                )

    @property
    def diagonal(self) -> bool:
        """Whether a unit sees only itself in the recurrence."""
        return self.recurrence == "diagonal"

    @property
    def heads(self) -> int:
        """Blocks of R; 1 where it is dense."""
        return self.recurrence if isinstance(self.recurrence, int) else 1

    @property
    def changed(self) -> dict[str, Any]:
        """The options that differ from their defaults, by name."""
        pairs = ((field, getattr(self, field.name)) for field in fields(self))
        return {field.name: value for field, value in pairs if value != field.default}

    def zones(self, cell: Cell) -> dict[str, float]:
        """The states that zone out, with their probabilities above 0.

        Errors: `ValueError` for a state that the cell does not have.
        """
        names = ("h", *(name for name in cell.states if name not in cell.carried))
        if not isinstance(self.zoneout, Mapping):
            return dict.fromkeys(names, float(self.zoneout)) if self.zoneout else {}
        for name in self.zoneout:
            if name not in names:
                raise ValueError(
                    f"zoneout of {name!r}: the cell {cell.name} has the states {', '.join(names)}"
                )
        return {name: float(p) for name in names if (p := self.zoneout.get(name, 0.0))}

    def vary(self, cell: Cell, bias: bool, training: bool) -> Cell:
        """The cell with these options; in evaluation without the masks of dropouts.

        Errors: `ValueError` where the cell has no place for one of them.
        """
        dropout = self.recurrent_dropout_on if training and self.recurrent_dropout else ""
        variation = Variation(
            recurrent_mask=dropout == "h",
            candidate_mask=dropout == "candidate",
            zoneout=tuple(self.zones(cell)),
            layer_norm=self.layer_norm,
            norm_bias=bias or not self.layer_norm,
            clip=float(self.clip or 0.0),
            state_clip=float(self.state_clip or 0.0),
            activations=tuple(sorted((self.activations or {}).items(), key=lambda pair: pair[0])),
            diagonal=self.diagonal,
        )
        try:
            return vary(cell, variation)
        except CellError as error:
            options = ", ".join(variation.named)
            raise ValueError(f"{options} with the cell {cell.name}: {error}") from None

    def table(self, cell: Cell, training: bool) -> list[tuple[float, float, float]]:
        """Of each mask of the cell: the probability of its second value, and its two values.

        >>> from holdfast.cells import lstm
        >>> options = Options(zoneout={"c": 0.25})
        >>> options.table(options.vary(lstm, True, False), training=False)
        [(0.0, 0.75, 0.75)]
        """
        zones = self.zones(cell)
        rows = []
        for mask in cell.masks:
            if mask.name in (RECURRENT, CANDIDATE):
                rows.append(dropout_row(self.recurrent_dropout))
                continue
            p = zones[mask.name.removeprefix(ZONEOUT)]
            rows.append((p, 1.0, 0.0) if training else (0.0, 1.0 - p, 1.0 - p))
        return rows


def dropout_row(p: float) -> tuple[float, float, float]:
    """A row of the table for a dropout of probability p, which keeps the mean.

    >>> dropout_row(0.5)
    (0.5, 2.0, 0.0)
    """
    return (float(p), 1.0 / (1.0 - p), 0.0) if p < 1 else (1.0, 0.0, 0.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_choice(name: str, value: Any, choices: tuple[str, ...], more: str = "") -> None:
    if value not in choices:
        expected = " or ".join(f"'{choice}'" for choice in choices)
        raise ValueError(f"{name} should be {expected}{more}, got: {value!r}")


def _check_probability(name: str, value: Any) -> None:
    if not _is_number(value) or not 0 <= value <= 1:
        raise ValueError(
            f"{name} should be a number in range [0, 1], a probability, got: {value!r}"
        )


def described(layer: Any) -> list[str]:
    """The sizes of a layer, and what differs from its defaults."""
    changed = [
        f"{name}={getattr(layer, name)}"
        for name, default in DEFAULTS.items()
        if getattr(layer, name) != default
    ]
    changed += [f"{name}={value!r}" for name, value in layer.options.changed.items()]
    return [str(layer.input_size), str(layer.hidden_size), *changed]
