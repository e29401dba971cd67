"""Language models: what comes next in a text, by characters, words or subwords.

>>> from holdfast.tasks import LanguageModel
>>> LanguageModel(level="word").get_params()["level"]
'word'
"""

from __future__ import annotations
