"""The series that ships with the package: hourly traffic on an interstate highway."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

from holdfast.data.optional import require
from holdfast.data.tables import make_frame

ATTRIBUTION = (
    "Metro Interstate Traffic Volume, John Hogue (2019), UCI Machine Learning Repository, data set "
    "492, doi:10.24432/C5X60B, CC BY 4.0; trimmed copy from the AutoTS package, re-compressed"
)


def load_metro_traffic(backend: str = "polars") -> Any:
    """Two years of hourly vehicles on Interstate 94, with weather, as a polars or pandas frame.

    >>> load_metro_traffic().shape
    (17520, 6)

    Columns: ``ds`` (hourly, 2016-10-01 to 2018-09-30, local standard of the source), ``y``
    (vehicles an hour, westbound), ``temp`` (kelvin), ``rain_1h`` and ``snow_1h`` (mm),
    ``clouds_all`` (percent). 104 hours have no measurement and hold null; read them with
    ``missing="fill"``. Source and license: `ATTRIBUTION` and
    ``holdfast/data/metro_traffic/LICENSE.md``.
    """
    import lzma

    polars = require("polars")
    with as_file(files("holdfast.data") / "metro_traffic" / "traffic_hourly.csv.xz") as path:
        content = lzma.decompress(path.read_bytes())
    frame = polars.read_csv(content, infer_schema_length=None, try_parse_dates=True)
    frame = frame.rename({"datetime": "ds", "traffic_volume": "y"})
    frame = frame.select("ds", "y", "temp", "rain_1h", "snow_1h", "clouds_all")
    return frame if backend == "polars" else make_frame(frame.to_dict(), backend)
