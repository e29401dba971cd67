"""The tasks by name: which data, how it is cut, what is scored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.forecast import readers
from benchmarks.forecast.task import Task

ETT_ROWS, ETT_PART, ETT_WINDOW = 14_400, 2_880, 96
ETT_HORIZONS = (96, 192, 336, 720)

BEIJING_STEP = 25
"""Hours between origins: one more than a day has, so that each hour has its turn."""

SPREAD = ("MAE", "RMSE", "CRPS", "coverage 80", "coverage 95")
M4 = ("sMAPE", "MASE", "OWA")


@dataclass(frozen=True)
class Source:
    """A task before its data is read: the file or folder under HOLDFAST_DATA, and how to read it.

    published: what others report, in words.
    """

    name: str
    title: str
    data: str
    read: Callable[[Path], Task]
    published: str = ""


def _ett(which: str, horizon: int) -> Callable[[Path], Task]:
    def read(path: Path) -> Task:
        return Task(
            name=f"{which.lower()}-{horizon}",
            frame=readers.ett(path, ETT_ROWS),
            horizon=horizon,
            test=ETT_PART,
            valid=ETT_PART,
            season=24,
            frequency="h",
            metrics=("MSE", "MAE"),
            window=ETT_WINDOW,
            in_deviations=True,
        )

    return read


def _m4(name: str, horizon: int, season: int, frequency: str, more: str = "") -> Source:
    def read(folder: Path) -> Task:
        files = (folder / f"{name}-train.csv.xz", folder / f"{name}-test.csv.xz")
        baselines = ("naive", "seasonal naive", "Naive2") if season > 1 else ("naive", "Naive2")
        return Task(
            name=f"m4-{name.lower()}",
            frame=readers.m4(*files, frequency),
            horizon=horizon,
            test=horizon,
            valid=horizon,
            season=season,
            frequency=frequency,
            metrics=M4,
            calendar=False,
            baselines=baselines,
        )

    return Source(f"m4-{name.lower()}", f"M4 {name}, {horizon} ahead", "m4", read, more)


def _metro(path: Path) -> Task:
    frame = readers.metro(path)
    test, valid = len(frame) // 5, len(frame) // 10
    return Task(
        name="metro",
        frame=frame,
        horizon=24,
        test=test,
        valid=valid,
        step=24,
        season=168,
        frequency="h",
        metrics=SPREAD,
        covariates=("temp", "rain_1h", "snow_1h", "clouds_all"),
        baselines=("naive", "seasonal naive", "AutoETS"),
    )


def _beijing(column: str, name: str) -> Callable[[Path], Task]:
    def read(path: Path) -> Task:
        frame = readers.beijing(path / "prsa_12stations_csv.tar.xz", column)
        rows = len(frame) // frame["unique_id"].nunique()
        test = rows // 5 - (rows // 5 - 24) % BEIJING_STEP
        return Task(
            name=f"beijing-{name}",
            frame=frame,
            horizon=24,
            test=test,
            valid=rows // 10,
            step=BEIJING_STEP,
            season=24,
            frequency="h",
            metrics=SPREAD,
            leads=(1, 6, 24),
            baselines=("naive", "seasonal naive", "AutoETS"),
        )

    return read


def _passengers(path: Path) -> Task:
    return Task(
        name="airpassengers",
        frame=readers.passengers(path),
        horizon=12,
        test=12,
        valid=12,
        season=12,
        frequency="MS",
        metrics=SPREAD,
        baselines=("naive", "seasonal naive", "AutoETS"),
    )


def _dji(path: Path) -> Task:
    return Task(
        name="dji",
        frame=readers.returns(path),
        horizon=1,
        test=1028,
        valid=1500,
        season=1,
        frequency="D",
        metrics=("RMSE", "MAE"),
        calendar=False,
        baselines=("zero", "naive"),
    )


_BEIJING = "at twelve places of Beijing, the next 24 hours, from every 25th hour"

_SEGRNN = {
    "ETTh1": dict(
        zip(ETT_HORIZONS, (".368 / .395", ".408 / .419", ".444 / .440", ".446 / .457"), strict=True)
    ),
    "ETTh2": dict(zip(ETT_HORIZONS, (".278", ".359", ".421", ".432"), strict=True)),
}

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *(
            Source(
                f"{which.lower()}-{horizon}",
                f"{which}: all seven series, {horizon} hours ahead from {ETT_WINDOW}",
                f"ett/{which}.csv.xz",
                _ett(which, horizon),
                f"SegRNN, from its repository: MSE / MAE {_SEGRNN[which][horizon]}",
            )
            for which in ("ETTh1", "ETTh2")
            for horizon in ETT_HORIZONS
        ),
        _m4("Hourly", 48, 24, "h", "ES-RNN, the winner [K?]: sMAPE 9.328, MASE .893"),
        _m4("Weekly", 13, 1, "7D", "ES-RNN, the winner [K?]: sMAPE 7.817, MASE 2.356"),
        Source(
            "metro",
            "Traffic on Interstate 94, the next 24 hours, at midnight",
            "metro_traffic/traffic_hourly.csv.xz",
            _metro,
        ),
        Source(
            "beijing-temp",
            f"Temperature {_BEIJING}",
            "beijing_air",
            _beijing("TEMP", "temp"),
        ),
        Source(
            "beijing-pm25",
            f"PM2.5 {_BEIJING}",
            "beijing_air",
            _beijing("PM2.5", "pm25"),
        ),
        Source(
            "airpassengers",
            "AirPassengers, the last 12 months",
            "small_series/AirPassengers.csv.xz",
            _passengers,
        ),
        Source(
            "dji",
            "A daily series of a stock index (Zhao et al. 2020), the next day",
            "zhao_long_memory/dji.csv",
            _dji,
            "Zhao et al. 2020, LSTM with one unit: RMSE .2492",
        ),
    )
}
"""Every task by the name that the command line takes."""
