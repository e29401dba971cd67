"""JOBS: estimators in scikit-learn's manners.

>>> from holdfast.tasks import Forecaster
>>> Forecaster(horizon=12).get_params()["horizon"]
12
"""

from __future__ import annotations

from holdfast.tasks.classify.estimator import SequenceClassifier as SequenceClassifier
from holdfast.tasks.forecast.estimator import Forecaster as Forecaster
from holdfast.tasks.forecast.evaluate import Evaluation as Evaluation
from holdfast.tasks.forecast.evaluate import evaluate as evaluate
from holdfast.tasks.language.estimator import LanguageModel as LanguageModel
from holdfast.tasks.tag.decoding import Tagged as Tagged
from holdfast.tasks.tag.estimator import Tagger as Tagger
from holdfast.tasks.tag.evaluation import TagEvaluation as TagEvaluation
from holdfast.tasks.translate.estimator import Translator as Translator

__all__ = [
    "Evaluation",
    "Forecaster",
    "LanguageModel",
    "SequenceClassifier",
    "TagEvaluation",
    "Tagged",
    "Tagger",
    "Translator",
    "evaluate",
]
