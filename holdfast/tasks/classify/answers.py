"""What several networks say together, and which classes that means."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from holdfast.tasks.classify.calibration import probabilities
from holdfast.tasks.classify.encoding import Encoded
from holdfast.tasks.classify.training import scores_of


def joint_scores(nets: Any, examples: Encoded, several: bool) -> Tensor:
    """The scores `[n, K]` of all examples, by the mean probability of the networks."""
    with torch.no_grad():
        return mean_scores([scores_of(net, examples) for net in nets], several)


def mean_scores(scores: Sequence[Tensor], several: bool) -> Tensor:
    """Scores whose probabilities are the means of those of `scores`, each `[..., K]`.

    >>> one, two = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    >>> mean_scores([one, two], several=False).softmax(1).tolist()
    [[0.5, 0.5]]
    """
    if len(scores) == 1:
        return scores[0]
    stacked = torch.stack(list(scores)).double()
    if several:
        # The logit of a mean, from logarithms of both chances so that neither rounds to 0.
        yes, no = (torch.nn.functional.logsigmoid(sign * stacked) for sign in (1, -1))
        return (yes.logsumexp(0) - no.logsumexp(0)).float()
    return (stacked.log_softmax(-1).logsumexp(0) - np.log(len(scores))).float()


def chances(scores: Tensor, warmth: float, several: bool) -> np.ndarray:
    """Calibrated probabilities `[n, K]`, float64."""
    return probabilities(scores.double() / warmth, several).numpy()


def chosen(found: np.ndarray, thresholds: Sequence[float]) -> Any:
    """The likeliest class of each `(n,)`, or with thresholds the labels above theirs `(n, K)`."""
    if not len(thresholds):
        return found.argmax(1)
    return found >= np.array(thresholds)
