"""Online use: observations come one by one, and a forecast is there at any time.

Two memories can be kept for each id:

- ``"window"``: the last rows. Adding one costs a few microseconds; a forecast reads the window anew
  and equals `Forecaster.predict` on the rows of this id, bit for bit.
- ``"carried"``: the states of the recurrent layer, which go on from the first row that the stream
  saw, however long ago. Rows are read once, before the next forecast. It equals the network run
  over all of these rows in one window, which `whole_forecast` does.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from holdfast.data.frequency import show
from holdfast.data.panel import Panel, Series
from holdfast.data.tables import Columns
from holdfast.data.windows import Windows, make_windows
from holdfast.errors import DataError
from holdfast.tasks.forecast.nets.direct import DirectNet

if TYPE_CHECKING:
    from holdfast.tasks.forecast.estimator import Forecaster

MEMORIES = ("window", "carried")
# A carried memory reads its new rows at least so often.
MOST_UNREAD = 64


@dataclass
class Tail:
    """The last rows of one id: a buffer that begins anew when it is full."""

    id: str
    static: np.ndarray
    keep: int
    widths: tuple[int, int]
    count: int = 0
    begin: int = 0
    end: int = 0
    last: np.datetime64 | None = None
    buffers: dict[str, np.ndarray] = field(default_factory=dict)
    unread: int = 0
    states: Any = None
    output: Tensor | None = None

    def __post_init__(self) -> None:
        size = 2 * self.keep + 1
        past, future = self.widths
        self.buffers = {
            "y": np.zeros(size),
            "observed": np.zeros(size, dtype=bool),
            "past": np.zeros((size, past)),
            "future": np.zeros((size, future)),
        }

    def push(self, y: float, observed: bool, past: np.ndarray, future: np.ndarray) -> None:
        """One more row; beyond `keep` the oldest is forgotten."""
        buffers = self.buffers
        if self.end == len(buffers["y"]):
            kept = slice(self.end - self.keep + 1, self.end)
            for values in buffers.values():
                values[: self.keep - 1] = values[kept].copy()
            self.begin, self.end = 0, self.keep - 1
        at = self.end
        buffers["y"][at] = y
        buffers["observed"][at] = observed
        buffers["past"][at] = past
        buffers["future"][at] = future
        self.end += 1
        self.count += 1
        self.unread += 1
        self.begin = max(self.begin, self.end - self.keep)

    def filled(self, seasons: tuple[int, ...]) -> float:
        """What stands for a missing value: the one a season ago, else the last one."""
        rows = self.end - self.begin
        lag = next((m for m in sorted(seasons, reverse=True) if m <= rows), 1)
        return float(self.buffers["y"][self.end - lag])


class Stream:
    """Forecasts from observations that come one by one, for any number of ids.

    >>> from holdfast.data import load_metro_traffic
    >>> from holdfast.tasks import Forecaster
    >>> table = load_metro_traffic().tail(2500)
    >>> model = Forecaster(24, missing="fill", hidden_size=8, max_epochs=1).fit(table[:2400])
    >>> stream = model.stream(table[:2490])
    >>> for y in table["y"][2490:]:
    ...     stream.add(y)
    >>> bool((stream.forecast() == model.predict(table)["forecast"].to_numpy()).all())
    True

    Arguments:
        model: a fitted `Forecaster`, but none that reads several places together.
        X: a table to begin with; ids that are not in it begin with their first `add`.
        memory: ``"window"`` or ``"carried"``; see above.

    Errors: `DataError` for another memory, for a model that cannot keep it, unknown names of
    covariates, and a time that does not follow the last one.
    """

    def __init__(
        self, model: Forecaster, X: Any = None, *, static: Any = None, memory: str = "window"
    ) -> None:
        if memory not in MEMORIES:
            raise DataError(f"memory={memory!r}; expected one of {', '.join(map(repr, MEMORIES))}")
        if model.net_.joint:
            raise DataError("a model of places reads all of them together; it has no stream")
        if memory == "carried" and (not isinstance(model.net_, DirectNet) or model.members > 1):
            raise DataError(
                f'memory="carried" needs model="direct" with one member, got {model.model!r} with '
                f'{model.members}; take memory="window"'
            )
        self.model = model
        self.memory = memory
        recipe = model.recipe_
        longest = max((*model.frequency_.seasons(), 1))
        self._keep = max(recipe.history, longest) + MOST_UNREAD + 1
        self._names = {
            role: tuple(c.name for c in model.schema_.of(role)) for role in ("past", "future")
        }
        self._widths = (len(self._names["past"]), len(self._names["future"]))
        self._codes = {
            c.name: {label: float(code) for code, label in enumerate(c.labels)}
            for c in model.schema_.covariates
            if c.kind != "number"
        }
        self._tails: dict[str, Tail] = {}
        self._panel = Panel((), model.frequency_, Columns(), model.schema_, True, "", "stream", "")
        if X is not None:
            for series in model.known(X, static=static).series:
                self._begin(series)

    def __len__(self) -> int:
        return len(self._tails)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids that have rows."""
        return tuple(self._tails)

    def add(
        self,
        y: float | None,
        id: str = "",
        *,
        time: Any = None,
        past: dict[str, Any] | None = None,
        future: dict[str, Any] | None = None,
        static: dict[str, Any] | None = None,
    ) -> None:
        """One observation of `id`, the row after its last; None or NaN for a missing one.

        `time` is needed for the first row of an id; afterwards it is checked where it is given.
        `past` and `future` hold the covariates of this row, `static` those of a new id.
        """
        tail = self._tails.get(id)
        if tail is None:
            tail = self._new(id, time, static or {})
        elif time is not None:
            self._check_time(tail, np.datetime64(time, "us"))
        missing = y is None or y != y
        if missing and not tail.count:
            raise DataError(f"series {id!r}: its first value is missing; begin with one")
        value = tail.filled(self.model.frequency_.seasons()) if missing else float(y)  # type: ignore[arg-type]
        given = [
            self._values(r, self._names[r], v or {})
            for r, v in (("past", past), ("future", future))
        ]
        if tail.count:
            tail.last = self._next(tail)
        tail.push(value, not missing, *given)
        if self.memory == "carried" and tail.unread >= MOST_UNREAD:
            self._read(tail, self._windows(tail, None))

    def forecast(
        self,
        id: str = "",
        *,
        quantiles: tuple[float, ...] = (),
        future: dict[str, Any] | None = None,
    ) -> np.ndarray:
        """The next H values of `id` (H,), or their quantiles (H, Q).

        `future` holds the H values of each future covariate.
        """
        tail = self._tails.get(id)
        if tail is None or not tail.count:
            raise DataError(f"series {id!r} has no rows yet; add some first")
        windows, model = self._windows(tail, future), self.model
        if self.memory == "window":
            found = model.forecast_from(windows, windows.last(), quantiles)
            return found.quantiles[0] if quantiles else found.point[0]
        self._read(tail, windows)
        assert tail.output is not None
        return finish(model.net_, windows, tail.output, quantiles)

    def _begin(self, series: Series) -> None:
        """Take over the rows of a series of a table."""
        tail = Tail(series.id, series.static, self._keep, self._widths)
        self._tails[series.id] = tail
        for row in range(len(series)):
            tail.last = series.times[row]
            tail.push(series.y[row], series.observed[row], series.past[row], series.future[row])
            if self.memory == "carried" and tail.unread >= MOST_UNREAD:
                self._read(tail, self._windows(tail, None))

    def _new(self, id: str, time: Any, static: dict[str, Any]) -> Tail:
        """An id that begins now."""
        if time is None:
            raise DataError(f"series {id!r} is new; say the `time` of its first row")
        names = tuple(c.name for c in self.model.schema_.of("static"))
        tail = Tail(id, self._values("static", names, static), self._keep, self._widths)
        tail.last = np.datetime64(time, "us")
        self._tails[id] = tail
        return tail

    def _next(self, tail: Tail) -> np.datetime64:
        assert tail.last is not None
        return self.model.frequency_.after(tail.last, 1)[0]

    def _check_time(self, tail: Tail, time: np.datetime64) -> None:
        expected = self._next(tail)
        if tail.count and time != expected:
            raise DataError(
                f"series {tail.id!r}: got a row of {show(time)}, expected {show(expected)}, one "
                f"{self.model.frequency_} after the last; add None for rows that are missing"
            )

    def _values(self, role: str, names: tuple[str, ...], given: dict[str, Any]) -> np.ndarray:
        """The covariates of one row as numbers, labels as their codes; NaN where one is missing."""
        unknown = sorted(set(given) - set(names))
        if unknown:
            known = ", ".join(names) or "none"
            raise DataError(f"{role}: {unknown[0]!r} is unknown; the model has {known}")
        row = np.full(len(names), np.nan)
        for place, name in enumerate(names):
            value = given.get(name)
            if name in self._codes:
                row[place] = self._codes[name].get(str(value), np.nan)
            elif value is not None:
                row[place] = float(value)
        return row

    def _windows(self, tail: Tail, future: dict[str, Any] | None) -> Windows:
        """The kept rows of an id as windows, with what is known of its future."""
        kept = slice(tail.begin, tail.end)
        buffers, H = tail.buffers, self.model.horizon
        names, known = self._names["future"], buffers["future"][kept]
        if names and future is not None:
            ahead = [
                self._values("future", names, {n: v[h] for n, v in future.items()})
                for h in range(H)
            ]
            known = np.concatenate([known, np.stack(ahead)])
        count = tail.end - tail.begin
        assert tail.last is not None
        times = self.model.frequency_.moved(tail.last, np.arange(1 - count, 1))
        series = Series(
            tail.id,
            times,
            buffers["y"][kept],
            buffers["observed"][kept],
            buffers["past"][kept],
            known,
            tail.static,
        )
        return windows_of(self.model, replace(self._panel, series=(series,)))

    def _read(self, tail: Tail, windows: Windows) -> None:
        """Let the layer read the rows that it has not seen yet."""
        if not tail.unread:
            return
        tail.output, tail.states = read_rows(self.model.net_, windows, tail.unread, tail.states)
        tail.unread = 0


def windows_of(model: Forecaster, panel: Panel) -> Windows:
    """The windows of a panel for a fitted model."""
    known = {id: place for place, id in enumerate(model.ends_)}
    return make_windows(panel, model.scaling_, model.recipe_, model.schema_, known)


def read_rows(net: Any, windows: Windows, last: int, states: Any) -> tuple[Tensor, Any]:
    """The direct network's layer over the `last` rows of one series: its last output and states."""
    longest = max(windows.recipe.lags, default=1)
    wide = replace(windows, recipe=replace(windows.recipe, window=last + longest))
    with torch.inference_mode():
        batch = wide.batch(wide.last())
        rows = net.rows(batch, net.covariates(batch), last)
        out, states = net.recurrent(rows, states)
    return out[:, -1:], states


def finish(
    net: Any, windows: Windows, output: Tensor, quantiles: tuple[float, ...] = ()
) -> np.ndarray:
    """The direct network's head on the layer's last output: (H,), or quantiles (H, Q)."""
    with torch.inference_mode():
        batch = windows.batch(windows.last())
        raw, base = net.steps(output, batch, net.covariates(batch).future)
        raw, base, scale = raw[:, 0], base[:, 0], batch.scale[:, None]
        if quantiles:
            scaled = net.head.quantiles(raw, base, quantiles, scale)
        else:
            scaled = net.head.point(raw, base, scale)[..., None]
    values = windows.undo(scaled.double().numpy(), np.zeros((1, 1, 1), dtype=int))[0]
    return values if quantiles else values[:, 0]


def whole_forecast(model: Forecaster, X: Any) -> dict[str, np.ndarray]:
    """What a carried stream forecasts after the table X, by one pass over all of its rows."""
    out = {}
    for series in model.known(X).series:
        windows = windows_of(model, replace(model.known(X), series=(series,)))
        output, _ = read_rows(model.net_, windows, len(series), None)
        out[series.id] = finish(model.net_, windows, output)
    return out
