"""JOBS: estimators in scikit-learn's manners.

>>> from holdfast.tasks import Forecaster
>>> Forecaster(horizon=12).get_params()["horizon"]
12
"""

from __future__ import annotations

from holdfast.tasks.evaluate import Evaluation as Evaluation
from holdfast.tasks.evaluate import evaluate as evaluate
from holdfast.tasks.forecast import Forecaster as Forecaster

__all__ = ["Evaluation", "Forecaster", "evaluate"]
