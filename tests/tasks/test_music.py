"""Piano rolls and long series: what is read, what is refused, and batches of pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from holdfast.data import optional
from holdfast.data.long_memory import SPLITS, Split, read_series
from holdfast.data.music import read_rolls, room, stack, transpose
from holdfast.errors import DataError, MissingExtraError
from tests.helpers import assert_same


def cells(*pieces: Any) -> np.ndarray:
    """A cell array of MATLAB, as the files have it: one row of matrices."""
    array = np.empty((1, len(pieces)), dtype=object)
    for n, piece in enumerate(pieces):
        array[0, n] = piece
    return array


def roll(steps: int, *keys: int) -> np.ndarray:
    """Some keys down, one after the other."""
    piece = np.zeros((steps, 88), dtype=np.uint8)
    for step in range(steps):
        piece[step, keys[step % len(keys)]] = 1
    return piece


def write(path: Path, **variables: Any) -> Path:
    savemat(path, variables)
    return path


def test_the_three_parts_are_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "toy.mat",
        traindata=cells(roll(4, 3, 5), roll(2, 7)),
        validdata=cells(roll(3, 1)),
        testdata=cells(roll(1, 87)),
    )
    rolls = read_rolls(path)
    assert [len(piece) for piece in rolls.train] == [4, 2]
    assert_same(rolls.train[0], torch.from_numpy(roll(4, 3, 5)))
    assert_same(rolls.valid[0], torch.from_numpy(roll(3, 1)))
    assert rolls.test[0].nonzero().tolist() == [[0, 87]]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"validdata": cells(roll(1, 1))}, "there is no variable 'traindata'; the variables are v"),
        (
            {"traindata": np.zeros((3, 88))},
            r"traindata should be a cell array of .*, got an array of float64",
        ),
        ({"traindata": cells(roll(2, 1), roll(2, 1)[:, :87])}, r"traindata\[1\]: .* \(2, 87\)"),
        ({"traindata": cells(2 * roll(2, 1))}, r"traindata\[0\]: a piece should hold 0 and 1 only"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    tmp_path: Path, variables: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "other.mat", **variables)
    with pytest.raises(DataError, match=rf"other\.mat: {message}"):
        read_rolls(path)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mat"
    path.write_text("no such file format " * 20, encoding="utf-8")
    with pytest.raises(DataError, match=r"text\.mat: not a MATLAB file up to version 7\.2"):
        read_rolls(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"text\.mat: not a MATLAB file"):
        read_rolls(path)
    with pytest.raises(DataError, match=r"gone\.mat: cannot be read \(No such file"):
        read_rolls(tmp_path / "gone.mat")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(optional.importlib, "import_module", missing)
    with pytest.raises(MissingExtraError, match=r'scipy is not .* "holdfast\[music\]"'):
        read_rolls(tmp_path / "any.mat")


def test_pieces_of_a_batch_are_shifted_by_one_step(generator: torch.Generator) -> None:
    rolls = [torch.rand(steps, 88, generator=generator).round() for steps in (3, 5, 1)]
    pieces = stack(rolls, dtype=torch.float64)
    assert pieces.lengths.tolist() == [3, 5, 1]
    for row, piece in enumerate(rolls):
        steps = len(piece)
        assert_same(pieces.y[:steps, row], piece.double())
        assert_same(pieces.x[1:steps, row], piece[:-1].double())
        assert not pieces.x[0, row].any()
        assert not pieces.x[steps:, row].any()
        assert not pieces.y[steps:, row].any()
        assert pieces.valid[:, row].tolist() == [True] * steps + [False] * (5 - steps)
    with pytest.raises(ValueError, match="got no pieces"):
        stack([])


def test_notes_move_within_the_keyboard() -> None:
    piece = torch.from_numpy(roll(4, 3, 80))
    assert room(piece) == (3, 7)
    assert_same(transpose(piece, 7), torch.from_numpy(roll(4, 10, 87)))
    assert_same(transpose(piece, -3), torch.from_numpy(roll(4, 0, 77)))
    assert_same(transpose(piece, 0), piece)
    assert transpose(piece, 8).sum() == 2
    assert not transpose(piece, -100).any()
    assert not transpose(piece, 100).any()
    assert room(torch.zeros(2, 88)) == (0, 0)


def test_a_long_series_is_scaled_and_cut(tmp_path: Path) -> None:
    path = tmp_path / "toy.csv"
    path.write_text('"day","x"\n1,4\n2,-1e0\n3,1.5\n4,0\n5,4\n6,4\n', encoding="utf-8")
    series = read_series(path, Split(2, 1))
    assert_same(series.values, torch.tensor([4.0, -1, 1.5, 0, 4, 4], dtype=torch.float64))
    assert (series.low, series.span) == (-1.0, 5.0)
    assert_same(series.scaled[1:4], torch.tensor([0.0, 0.5, 0.2], dtype=torch.float64))
    predictions = range(5)
    assert [list(predictions[part]) for part in series.parts] == [[0, 1], [2], [3, 4]]
    assert read_series(path, Split(2, 1), column="day").values.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x\n1\n2\n", r"toy\.csv: got 2 values; a split of 1 and 1 .* needs at least 4"),
        ("y\n1\n", r"toy\.csv: there is no column 'x'; the columns are 'y'"),
        ("", r"toy\.csv: there is no column 'x'; the columns are none"),
        ("x\n1\nmuch\n2\n3\n", r"toy\.csv:3: 'x' should be a finite number, got 'much'"),
        ("a,x\n1,2\n3\n", r"toy\.csv:3: 'x' should be a finite number, got None"),
        ("x\n1\ninf\n2\n3\n", r"toy\.csv:3: 'x' should be a finite number, got 'inf'"),
        ("x\n1\n1\n1\n1\n", r"toy\.csv: all values of 'x' are equal"),
    ],
)
def test_a_series_of_another_kind_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "toy.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        read_series(path, Split(1, 1))


def test_a_series_without_a_file_or_a_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"arfima\.csv: cannot be read \(No such file"):
        read_series(tmp_path / "arfima.csv")
    with pytest.raises(DataError, match=r"toy\.csv: no split is known for 'toy', only for arfima"):
        read_series(tmp_path / "toy.csv")
    path = tmp_path / "arfima.csv"
    path.write_bytes(b"x\n\xff\n")
    with pytest.raises(DataError, match=r"arfima\.csv: cannot be read \(not a text in UTF-8\)"):
        read_series(path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "counts", "steps"),
    [("JSB_Chorales", (229, 76, 77), 13_807), ("Nottingham", (694, 173, 170), 176_561)],
)
def test_the_files_of_the_papers(
    data_dir: Path, name: str, counts: tuple[int, ...], steps: int
) -> None:
    rolls = read_rolls(data_dir / "polyphonic_music" / f"{name}.mat")
    assert (len(rolls.train), len(rolls.valid), len(rolls.test)) == counts
    assert sum(map(len, rolls.train)) == steps


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("arfima", 4001), ("dji", 5029), ("traffic", 1860)])
def test_the_series_of_the_paper(data_dir: Path, name: str, count: int) -> None:
    series = read_series(data_dir / "zhao_long_memory" / f"{name}.csv")
    assert len(series.values) == count
    assert series.split == SPLITS[name]
