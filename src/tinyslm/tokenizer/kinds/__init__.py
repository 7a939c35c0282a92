"""The kinds of tokenizers that can be trained, by name."""

from tinyslm.core.registry import Registry
from tinyslm.tokenizer.kinds.byte_level import BPE, BYTE, CHAR
from tinyslm.tokenizer.kinds.kind import TokenizerKind
from tinyslm.tokenizer.kinds.unigram import UNIGRAM
from tinyslm.tokenizer.kinds.wordpiece import WORDPIECE

KINDS: Registry[TokenizerKind] = Registry("tokenizer kind")
for _kind in (BPE, UNIGRAM, WORDPIECE, CHAR, BYTE):
    KINDS.add(_kind.name, _kind)
