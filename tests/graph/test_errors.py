"""A wrong definition is refused at the user's line, with what to write instead."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

from holdfast import Cell, cell, maximum, sigmoid, tanh, where
from holdfast.errors import CellError, HoldfastError, Place
from tests.graph import wrong_cells
from tests.graph.wrong_cells import FOREIGN, WRONG, third_power

OURS = ("graph.py", "trace.py", "cell.py", "ops.py", "differentiate.py", "errors.py")
FILE = Path(wrong_cells.__file__).name


def _refusal(define: Callable[[], None]) -> CellError:
    with pytest.raises(CellError) as caught:
        define()
    return caught.value


def _wrong_line(define: Callable[[], None]) -> tuple[int, str]:
    lines, first = inspect.getsourcelines(define)
    (offset,) = (number for number, line in enumerate(lines) if line.endswith("# WRONG\n"))
    return first + offset, lines[offset].strip()


@pytest.mark.parametrize("define", WRONG, ids=lambda define: define.__name__)
def test_a_wrong_definition_is_refused_where_it_is_written(define: Callable[[], None]) -> None:
    problem, remedy, underlined = WRONG[define]
    message = str(_refusal(define))
    line, source = _wrong_line(define)
    assert message.startswith(f"{FILE}:{line}: "), message
    assert problem in message
    assert remedy in message
    first, shown, *caret = message.splitlines()
    assert shown == f"    {source}", "the user's line is shown"
    assert not [name for name in OURS if name in message]
    if underlined is not None:
        start = caret[0].index("^") - 4
        assert source[start : start + caret[0].count("^")] == underlined
    assert len(first) > len("wrong_cells.py:000: "), "there is a message besides the place"


def test_every_wrong_definition_above_is_tested() -> None:
    there = [value for value in vars(wrong_cells).values() if inspect.isfunction(value)]
    wrong = {one.__name__ for one in there if "# WRONG" in inspect.getsource(one)}
    assert wrong == {define.__name__ for define in WRONG}


def test_the_exception_knows_its_place() -> None:
    place = _refusal(third_power).place
    assert place is not None
    assert (place.file, place.line) == (FILE, _wrong_line(third_power)[0])
    assert place.column is not None
    assert place.text[place.column : place.end_column] == "i**3"
    assert issubclass(CellError, HoldfastError)


def test_the_caret_counts_characters() -> None:
    text = 'x = "σσσ" + bad'
    start = len(text[: text.index("bad")].encode())
    shown = Place("here.py", 1, start, start + 3, text).excerpt().splitlines()
    assert shown[2].index("^") == shown[1].index("bad")
    assert shown[2].count("^") == 3


def test_a_symbol_of_another_cell_in_a_comparison_is_refused() -> None:
    with pytest.raises(CellError, match="another definition"):

        @cell(gates="i")
        def bad(i):
            return where(i > FOREIGN, i, 0.0)


def test_an_error_of_the_users_own_stays_what_it_is() -> None:
    with pytest.raises(KeyError, match="missing"):

        @cell(gates="i")
        def bad(i):
            return i + {}["missing"]


def test_without_source_the_line_is_still_named() -> None:
    code = "\n\n@cell(gates='i')\ndef bad(i):\n    return tanh(i ** 3)\n"
    with pytest.raises(CellError, match=r"^typed_in\.py:5: .*\*\* 3"):
        exec(compile(code, "typed_in.py", "exec"), {"cell": cell, "tanh": tanh})


def test_without_source_a_right_cell_works() -> None:
    code = "@cell(gates='i')\ndef good(i):\n    return tanh(i)\n"
    names: dict[str, object] = {"cell": cell, "tanh": tanh}
    exec(compile(code, "typed_in.py", "exec"), names)
    good = names["good"]
    assert isinstance(good, Cell)
    assert "not available" in good.source
    assert "t1 = tanh(i)  # typed_in.py:3" in good.graph.text()


def test_what_is_allowed_is_not_refused() -> None:
    @cell(gates="i", state="c")
    def good(i, c, *, width=2):
        if width > 1:
            c = +c + tanh(i) ** 2.0
        c = where(width > 1, c, i)
        return maximum(c, sigmoid(-i)), c

    assert list(good.graph.outputs) == ["h", "c"]
