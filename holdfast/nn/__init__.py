"""Layers: PyTorch modules over compiled cells.

>>> import torch
>>> from holdfast.nn import LSTM
>>> out, (h, c) = LSTM(3, 5)(torch.randn(7, 2, 3))  # [T, B, I]
>>> tuple(out.shape)
(7, 2, 5)
"""

from __future__ import annotations

from holdfast.nn import init as init
from holdfast.nn.attention import Attention as Attention
from holdfast.nn.beam import Beam as Beam
from holdfast.nn.block import BlockLSTM as BlockLSTM
from holdfast.nn.concurrent import ConcurrentLSTM as ConcurrentLSTM
from holdfast.nn.convolution import ConvLSTM1d as ConvLSTM1d
from holdfast.nn.convolution import ConvLSTM2d as ConvLSTM2d
from holdfast.nn.convolution import ConvLSTM3d as ConvLSTM3d
from holdfast.nn.crf import CRF as CRF
from holdfast.nn.decoder import Decoder as Decoder
from holdfast.nn.depth import DepthGatedLSTM as DepthGatedLSTM
from holdfast.nn.encoder import Encoder as Encoder
from holdfast.nn.encoder import Regions as Regions
from holdfast.nn.forest import Forest as Forest
from holdfast.nn.grid import GridLSTM as GridLSTM
from holdfast.nn.matrix import MatrixLSTM as MatrixLSTM
from holdfast.nn.named import GRU as GRU
from holdfast.nn.named import LSTM as LSTM
from holdfast.nn.named import RNN as RNN
from holdfast.nn.onnx import from_onnx as from_onnx
from holdfast.nn.persistent import PersistentLSTM as PersistentLSTM
from holdfast.nn.phased import PhasedLSTM as PhasedLSTM
from holdfast.nn.places import SpatioTemporalLSTM as SpatioTemporalLSTM
from holdfast.nn.projected import LSTMP as LSTMP
from holdfast.nn.quasi import QRNN as QRNN
from holdfast.nn.recurrent import Recurrent as Recurrent
from holdfast.nn.sampling import Sampling as Sampling
from holdfast.nn.seq2seq import EncoderDecoder as EncoderDecoder
from holdfast.nn.single import GRUCell as GRUCell
from holdfast.nn.single import LSTMCell as LSTMCell
from holdfast.nn.single import RecurrentCell as RecurrentCell
from holdfast.nn.single import RNNCell as RNNCell
from holdfast.nn.tag_schemes import allowed_transitions as allowed_transitions
from holdfast.nn.tree import ChildSumTreeLSTM as ChildSumTreeLSTM
from holdfast.nn.tree import NaryTreeLSTM as NaryTreeLSTM
from holdfast.nn.truncate import tbptt as tbptt

__all__ = [
    "CRF",
    "GRU",
    "LSTM",
    "LSTMP",
    "QRNN",
    "RNN",
    "Attention",
    "Beam",
    "BlockLSTM",
    "ChildSumTreeLSTM",
    "ConcurrentLSTM",
    "ConvLSTM1d",
    "ConvLSTM2d",
    "ConvLSTM3d",
    "Decoder",
    "DepthGatedLSTM",
    "Encoder",
    "EncoderDecoder",
    "Forest",
    "GRUCell",
    "GridLSTM",
    "LSTMCell",
    "MatrixLSTM",
    "NaryTreeLSTM",
    "PersistentLSTM",
    "PhasedLSTM",
    "RNNCell",
    "Recurrent",
    "RecurrentCell",
    "Regions",
    "Sampling",
    "SpatioTemporalLSTM",
    "allowed_transitions",
    "from_onnx",
    "init",
    "tbptt",
]
