"""Text as it is generated, token by token."""

import codecs

from tinyslm.tokenizer.backend import Speller
from tinyslm.tokenizer.tokenizer import Tokenizer


class TextStream:
    """Turns ids that arrive one at a time into text.

    A token may end in the middle of a character: its bytes wait until the character is whole, so that what `push`
    gave stays right. Everything that `push` and `flush` gave, joined, is `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer, *, continues: bool = False) -> None:
        """`continues`: the ids go on from other text, so that a space at their beginning is kept.

        Tokenizers with byte fallback begin every text with a space that `decode` drops again.
        """
        self._speller = Speller(tokenizer.spelling, continues=continues)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int, skip: int = 0) -> str:
        """The text that this token completes, without the token's first `skip` bytes; may be empty."""
        return self._decoder.decode(self._speller.push(token)[skip:])

    def flush(self) -> str:
        """The end: U+FFFD for a character that was left unfinished, else nothing."""
        return self._decoder.decode(b"", final=True)
