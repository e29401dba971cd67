"""The catalogue: one variant a file, its mathematics and its citation.

>>> from holdfast.cells import CELLS
>>> sorted(CELLS)
['coupled', 'gru', 'gru_2014', 'lstm', 'lstm_1997', 'peephole', 'rnn', 'rnn_relu']
"""

from __future__ import annotations

from holdfast.cells.coupled import coupled as coupled
from holdfast.cells.gru import gru as gru
from holdfast.cells.gru_2014 import gru_2014 as gru_2014
from holdfast.cells.lstm import lstm as lstm
from holdfast.cells.lstm_1997 import lstm_1997 as lstm_1997
from holdfast.cells.peephole import peephole as peephole
from holdfast.cells.rnn import rnn as rnn
from holdfast.cells.rnn import rnn_relu as rnn_relu
from holdfast.compiler.cell import Cell

CELLS: dict[str, Cell] = {
    cell.name: cell for cell in (lstm, lstm_1997, peephole, coupled, gru, gru_2014, rnn, rnn_relu)
}
"""Every cell of the catalogue by name."""
