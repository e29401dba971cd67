"""The tasks on which recurrent networks have been tried since 1997, as their papers specify them.

>>> from holdfast.data.classic import adding
>>> x, target, lengths = adding(batch=32, T=100, generator=0)
>>> x.shape[1:], target.shape, lengths.shape
(torch.Size([32, 2]), torch.Size([32, 1]), torch.Size([32]))

Every generator takes a `torch.Generator` or a seed and returns padded tensors, time first:
`Answers` where there is one target for each row, `Steps` where there is one for each step.
"""

from __future__ import annotations

from holdfast.data.classic.batches import Answers as Answers
from holdfast.data.classic.batches import Steps as Steps
from holdfast.data.classic.grammar import REBER as REBER
from holdfast.data.classic.grammar import continual_reber as continual_reber
from holdfast.data.classic.grammar import counting as counting
from holdfast.data.classic.grammar import embedded_reber as embedded_reber
from holdfast.data.classic.grammar import embedded_reber_sets as embedded_reber_sets
from holdfast.data.classic.grammar import legal_after as legal_after
from holdfast.data.classic.grammar import reber_steps as reber_steps
from holdfast.data.classic.lags import noise_free_lag as noise_free_lag
from holdfast.data.classic.lags import random_filler_lag as random_filler_lag
from holdfast.data.classic.lags import two_sequences as two_sequences
from holdfast.data.classic.lags import very_long_lag as very_long_lag
from holdfast.data.classic.marked import adding as adding
from holdfast.data.classic.marked import multiplication as multiplication
from holdfast.data.classic.marked import temporal_order as temporal_order
from holdfast.data.classic.recall import adding_fixed as adding_fixed
from holdfast.data.classic.recall import copy_baseline as copy_baseline
from holdfast.data.classic.recall import copy_memory as copy_memory
from holdfast.data.classic.recall import parity as parity
from holdfast.data.classic.timed import generate_timed_spikes as generate_timed_spikes
from holdfast.data.classic.timed import measure_spike_delay as measure_spike_delay
from holdfast.data.classic.timed import periodic_function as periodic_function
