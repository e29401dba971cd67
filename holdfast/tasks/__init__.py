"""JOBS: estimators in scikit-learn's manners.

>>> from holdfast.tasks import Forecaster
>>> Forecaster(horizon=12).get_params()["horizon"]
12
"""

from __future__ import annotations

from holdfast.tasks.forecast.estimator import Forecaster as Forecaster
from holdfast.tasks.forecast.evaluate import Evaluation as Evaluation
from holdfast.tasks.forecast.evaluate import evaluate as evaluate
from holdfast.tasks.language.estimator import LanguageModel as LanguageModel

__all__ = ["Evaluation", "Forecaster", "LanguageModel", "evaluate"]
