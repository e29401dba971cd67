"""Tagging: a tag for every token of a sentence, with a recurrent layer and a chain over the tags.

>>> from holdfast.tasks import Tagger
>>> Tagger(column="pos").get_params()["output"]
'crf'
"""

from __future__ import annotations
