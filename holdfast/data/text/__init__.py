"""Text to numbers: readers, words, vocabularies, vectors, batches, and scores of chunks.

>>> from holdfast.data.text import Vocabulary, split_words
>>> words = Vocabulary.build([split_words("A cat sat. A dog ran.")])
>>> words.encode(split_words("A dog sat!"))
[3, 5, 7, 1]
"""

from __future__ import annotations

from holdfast.data.text.batches import LengthBatches as LengthBatches
from holdfast.data.text.batches import pad as pad
from holdfast.data.text.columns import TokenTable as TokenTable
from holdfast.data.text.columns import read_conll as read_conll
from holdfast.data.text.lines import read_lines as read_lines
from holdfast.data.text.lines import read_parallel as read_parallel
from holdfast.data.text.schemes import Chunk as Chunk
from holdfast.data.text.schemes import convert_tags as convert_tags
from holdfast.data.text.schemes import find_chunks as find_chunks
from holdfast.data.text.schemes import find_scheme as find_scheme
from holdfast.data.text.schemes import find_whole_chunks as find_whole_chunks
from holdfast.data.text.schemes import write_tags as write_tags
from holdfast.data.text.scoring import ChunkScores as ChunkScores
from holdfast.data.text.scoring import Score as Score
from holdfast.data.text.scoring import score_chunks as score_chunks
from holdfast.data.text.subwords import Subwords as Subwords
from holdfast.data.text.tables import TextTable as TextTable
from holdfast.data.text.tables import read_table as read_table
from holdfast.data.text.vectors import WordVectors as WordVectors
from holdfast.data.text.vectors import read_vectors as read_vectors
from holdfast.data.text.vocabulary import Vocabulary as Vocabulary
from holdfast.data.text.words import split_characters as split_characters
from holdfast.data.text.words import split_words as split_words

__all__ = [
    "Chunk",
    "ChunkScores",
    "LengthBatches",
    "Score",
    "Subwords",
    "TextTable",
    "TokenTable",
    "Vocabulary",
    "WordVectors",
    "convert_tags",
    "find_chunks",
    "find_scheme",
    "find_whole_chunks",
    "pad",
    "read_conll",
    "read_lines",
    "read_parallel",
    "read_table",
    "read_vectors",
    "score_chunks",
    "split_characters",
    "split_words",
    "write_tags",
]
