"""Wrong cell definitions: the refused line is marked; what the message must say stands below."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch

from holdfast import cell, tanh, where
from holdfast.compiler.graph import Builder
from holdfast.compiler.ops import apply

FOREIGN = Builder().leaf("gate", "foreign")


def _number(symbol, limit):
    """A helper function that decides on a symbol: the caller's line is the one to name."""
    return symbol if symbol > limit else limit


def in_place():
    @cell(gates="i", state="c")
    def bad(i, c):
        c += tanh(i)  # WRONG
        return tanh(c), c


def item():
    @cell(gates="i", state="c")
    def bad(i, c):
        c[0] = tanh(i)  # WRONG
        return tanh(c), c


def indexed():
    @cell(gates="i")
    def bad(i):
        return tanh(i[0])  # WRONG


def unpacked():
    @cell(gates="i")
    def bad(i):
        left, right = i  # WRONG
        return left * right


def python_if():
    @cell(gates="i")
    def bad(i):
        return i if i > 0 else -i  # WRONG


def python_and():
    @cell(gates="i f")
    def bad(i, f):
        return where(i > 0 and f > 0, i, f)  # WRONG


def chained():
    @cell(gates="i f")
    def bad(i, f):
        return where(-1 < i < 1, i, f)  # WRONG


def python_min():
    @cell(gates="i f")
    def bad(i, f):
        return min(i, f)  # WRONG


def in_a_helper():
    @cell(gates="i")
    def bad(i):
        return tanh(_number(i, 0.0))  # WRONG


def math_tanh():
    @cell(gates="i")
    def bad(i):
        return math.tanh(i)  # WRONG


def numpy_tanh():
    @cell(gates="i")
    def bad(i):
        return np.tanh(i)  # WRONG


def numpy_array():
    @cell(gates="i")
    def bad(i):
        return np.ones(3) * i  # WRONG


def torch_tanh():
    @cell(gates="i")
    def bad(i):
        return torch.tanh(i)  # WRONG


def torch_list():
    @cell(gates="i f")
    def bad(i, f):
        return torch.stack([i, f])  # WRONG


def torch_keyword():
    @cell(gates="i")
    def bad(i):
        return torch.tanh(input=i)  # WRONG


def tensor():
    @cell(gates="i")
    def bad(i):
        return tanh(i) * torch.ones(3)  # WRONG


def matrix_product():
    @cell(gates="i f")
    def bad(i, f):
        return tanh(i @ f)  # WRONG


def third_power():
    @cell(gates="i")
    def bad(i):
        return tanh(i**3)  # WRONG


def symbol_power():
    @cell(gates="i")
    def bad(i):
        return tanh(i**i)  # WRONG


def power_of_number():
    @cell(gates="i")
    def bad(i):
        return tanh(2**i)  # WRONG


def floor_division():
    @cell(gates="i")
    def bad(i):
        return tanh(i // 2)  # WRONG


def bit_and():
    @cell(gates="i f")
    def bad(i, f):
        return where((i > 0) & (f > 0), i, f)  # WRONG


def rounded():
    @cell(gates="i")
    def bad(i):
        return tanh(round(i))  # WRONG


def method():
    @cell(gates="i")
    def bad(i):
        return i.sigmoid()  # WRONG


def text():
    @cell(gates="i")
    def bad(i):
        return tanh(i + "1")  # WRONG


def nothing_used():
    @cell(gates="i")
    def bad(i):
        return tanh(i * None)  # WRONG


def condition_as_number():
    @cell(gates="i")
    def bad(i):
        return i * (i > 0)  # WRONG


def number_as_condition():
    @cell(gates="i f")
    def bad(i, f):
        return where(i, f, 0.0)  # WRONG


def foreign_symbol():
    @cell(gates="i")
    def bad(i):
        return tanh(i + FOREIGN)  # WRONG


def wrong_arity():
    @cell(gates="i")
    def bad(i):
        return apply("tanh", i, i)  # WRONG


def part_without_terms():
    @cell(gates={"i": "W x + b"})
    def bad(i):
        return tanh(i.input)  # WRONG


def part_with_more_terms():
    @cell(gates={"i": "W x + R h + b + 1"})
    def bad(i):
        return tanh(i.recurrent)  # WRONG


def part_of_a_state():
    @cell(gates="i", state="c")
    def bad(i, c):
        return tanh(i), c.input  # WRONG


def called_without_its_matrix():
    @cell(gates={"i": "W x + R h + b", "f": "W x + u*h + b"})
    def bad(i, f):
        return tanh(i + f(i))  # WRONG


def called_with_two_operands():
    @cell(gates={"i": "W x + R h + b", "f": "R h"}, state="c")
    def bad(i, f, c):
        return tanh(i + f(i) + f(c)), i  # WRONG


def called_and_used():
    @cell(gates={"i": "W x + R h + b", "f": "R h"})
    def bad(i, f):  # WRONG
        return tanh(i + f(i)) + f


def three_results():
    @cell(gates="i", state="c")
    def bad(i, c):  # WRONG
        return tanh(i), c, c


def missing_state():
    @cell(gates="i", state="c")
    def bad(i, c):  # WRONG
        return tanh(i + c)


def returns_nothing():
    @cell(gates="i")
    def bad(i):  # WRONG
        tanh(i)


def returns_condition():
    @cell(gates="i")
    def bad(i):  # WRONG
        return i > 0


def returns_bool():
    @cell(gates="i", state="c")
    def bad(i, c):  # WRONG
        return tanh(i + c), True


def returns_foreign():
    @cell(gates="i")
    def bad(i):  # WRONG
        return FOREIGN


def unknown_argument():
    @cell(gates="i")
    def bad(i, forget):  # WRONG
        return tanh(i)


def starred():
    @cell(gates="i")
    def bad(*gates):  # WRONG
        return tanh(gates[0])


def gate_not_an_argument():
    @cell(gates="i f")
    def bad(i):  # WRONG
        return tanh(i)


def state_not_an_argument():
    @cell(gates="i", state="c")
    def bad(i):  # WRONG
        return tanh(i), i


def weight_not_an_argument():
    @cell(gates="i", weights="p")
    def bad(i):  # WRONG
        return tanh(i)


def unused_gate():
    @cell(gates="i f")
    def bad(i, f):  # WRONG
        return tanh(i)


def unknown_term():
    @cell(gates={"i": "W x + V y"})
    def bad(i):  # WRONG
        return tanh(i)


def subtracted_term():
    @cell(gates={"i": "W x - 1"})
    def bad(i):  # WRONG
        return tanh(i)


def repeated_term():
    @cell(gates={"i": "W x + W x"})
    def bad(i):  # WRONG
        return tanh(i)


def both_recurrences():
    @cell(gates={"i": "W x + R h + u*h"})
    def bad(i):  # WRONG
        return tanh(i)


def no_input():
    @cell(gates={"i": "R h + b"})
    def bad(i):  # WRONG
        return tanh(i)


def gate_twice():
    @cell(gates="i i")
    def bad(i):  # WRONG
        return tanh(i)


def gate_twice_in_a_mapping():
    @cell(gates={"i f": "W x + b", "o i": "R h"})
    def bad(i, f, o):  # WRONG
        return tanh(i + f + o)


def gate_and_state():
    @cell(gates="i", state="i")
    def bad(i):  # WRONG
        return tanh(i), i


def named_h():
    @cell(gates="i", state="h")
    def bad(i, h):  # WRONG
        return tanh(i + h), h


def not_a_name():
    @cell(gates="i 2f")
    def bad(i):  # WRONG
        return tanh(i)


def named_as_a_matrix():
    @cell(gates="i", weights="weight_ih")
    def bad(i, weight_ih):  # WRONG
        return tanh(i * weight_ih)


def named_as_a_term():
    @cell(gates={"i": "W x + u*h"}, weights="u_i")
    def bad(i, u_i):  # WRONG
        return tanh(i * u_i)


WRONG: dict[Callable[[], None], tuple[str, str, str | None]] = {
    in_place: ("in place", "c = c + ...", "c += tanh(i)"),
    item: ("in place", "bind the new value to a name", None),
    indexed: ("indexed", "for all units", "i[0]"),
    unpacked: ("iterated", "name each state and gate", None),
    python_if: ("`if`", "where(condition, value, other)", None),
    python_and: ("`and`", "where(condition, value, other)", None),
    chained: ("cannot decide", "where(condition, value, other)", None),
    python_min: ("`min`", "minimum(x, y)", "min(i, f)"),
    in_a_helper: ("cannot decide", "maximum(x, y)", "_number(i, 0.0)"),
    math_tanh: ("math", "use sigmoid, tanh", "math.tanh(i)"),
    numpy_tanh: ("NumPy", "functions of holdfast", "np.tanh(i)"),
    numpy_array: ("NumPy", "functions of holdfast", "np.ones(3) * i"),
    torch_tanh: ("torch.tanh", "use holdfast.tanh", "torch.tanh(i)"),
    torch_list: ("torch.stack", "holdfast", "torch.stack([i, f])"),
    torch_keyword: ("torch.tanh", "use holdfast.tanh", "torch.tanh(input=i)"),
    tensor: ("mul got a Tensor", "declare what it needs", "tanh(i) * torch.ones(3)"),
    matrix_product: ("`@`", "declare a gate", "i @ f"),
    third_power: ("`** 3`", "** 2", "i**3"),
    symbol_power: ("**", "sqrt or exp", "i**i"),
    power_of_number: ("`2 **`", "exp(log(base)", "2**i"),
    floor_division: ("`//`", "+ - * /", "i // 2"),
    bit_and: ("`&`", "nest where", "(i > 0) & (f > 0)"),
    rounded: ("rounding", "+ - * /", "round(i)"),
    method: ("`sigmoid`", "such as tanh(x)", "i.sigmoid"),
    text: ("add got a str", "expected a symbol or a number", 'i + "1"'),
    nothing_used: ("mul got a NoneType", "expected a symbol or a number", "i * None"),
    condition_as_number: ("a condition was used as a number", "where(a > b", "i * (i > 0)"),
    number_as_condition: ("comparison", "where(a > b", "where(i, f, 0.0)"),
    foreign_symbol: ("another definition", "symbol", "i + FOREIGN"),
    wrong_arity: ("tanh takes 1 values, got 2", "takes 1", 'apply("tanh", i, i)'),
    part_without_terms: ("`.input` belongs to a gate", "Declare such a gate", "i.input"),
    part_with_more_terms: ("`.recurrent` belongs", "Declare such a gate", "i.recurrent"),
    part_of_a_state: ("`.input` belongs", "this is c_prev", "c.input"),
    called_without_its_matrix: ("only a gate that has `R h`", "R then multiplies", "f(i)"),
    called_with_two_operands: ("called with two operands", "declare two gates", "f(c)"),
    called_and_used: ("is called and used as it is, too", "declare two gates", None),
    three_results: ("returns 3 values", "return new_h, new_c", None),
    missing_state: ("returns 1 values", "return new_h, new_c", None),
    returns_nothing: ("returns nothing", "return new_h", None),
    returns_condition: ("the new h is a condition", "return new_h", None),
    returns_bool: ("the new c is a bool", "return new_h, new_c", None),
    returns_foreign: ("another definition", "the new h", None),
    unknown_argument: ("unknown argument `forget`", "Declare it", None),
    starred: ("unknown argument `gates`", "Declare it", None),
    gate_not_an_argument: ("the gate `f`", "add it to def bad(i, f)", None),
    state_not_an_argument: ("the state `c`", "add it to def bad(i, c)", None),
    weight_not_an_argument: ("the weight `p`", "add it to def bad(i, p)", None),
    unused_gate: ("the gate `f` does not reach any result", "use it or drop it", None),
    unknown_term: ("unknown term `V y`", "W x + R h + b", None),
    subtracted_term: ("unknown term `W x - 1`", "W x + R h + b", None),
    repeated_term: ("stands twice", "W x + W x", None),
    both_recurrences: ("not both", "take `R h`", None),
    no_input: ("no gate has the term `W x`", "would not see its input", None),
    gate_twice: ("`i` is declared twice", "gates, states and weights", None),
    gate_twice_in_a_mapping: ("`i` is declared twice", "gates, states and weights", None),
    gate_and_state: ("`i` is declared twice", "gates, states and weights", None),
    named_h: ("`h` is the output of the previous step", "name the gate or state", None),
    not_a_name: ("`2f` is not a name", "2f", None),
    named_as_a_matrix: ("`weight_ih`", "name it otherwise", None),
    named_as_a_term: ("`u_i`", "name it otherwise", None),
}
"""Each wrong definition: what the message says is wrong, what to do, what the caret underlines."""
