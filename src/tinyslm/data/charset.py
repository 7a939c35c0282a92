"""Detect the character encoding of a file, and convert it to a stream of UTF-8.

A file counts as UTF-8 until invalid bytes occur. Byte order marks determine the encoding; UTF-16 and UTF-32 without one
are recognised by the positions of their zero bytes. Other encodings are guessed and reported, or named by the user.
"""

from __future__ import annotations

import codecs
import io
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.core.text_files import ByteStream, byte_order_mark
from tinyslm.data.charset_guess import NAMES, guess_encoding
from tinyslm.data.documents import READ_AS, Tally

BLOCK = 1 << 18  # bytes read at a time
_NOT_TEXT = bytes((*range(8), *range(14, 27), *range(28, 32)))  # control characters that text hardly ever has
_BINARY = (b"%PDF-", b"\x89PNG", b"GIF8", b"\xff\xd8\xff", b"PK\x03\x04", b"\x7fELF", b"RIFF", b"OggS", b"fLaC")
_SHIFTED = {b"\x1b$B": "iso2022_jp", b"\x1b$@": "iso2022_jp", b"\x1b$)C": "iso2022_kr"}
"""Encodings that use only ASCII bytes, by the escape sequence before their double-byte characters."""
_TAR = (257, b"ustar")
_ASCII = bytes(range(128))
_ASCII_TEXT = bytes((*b"\t\n\r", *range(32, 127)))

# Codecs that the web uses for these names (WHATWG Encoding Standard): supersets of Python's codecs of these names.
_WIDER = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
_CODECS = {name: codec for codec, name in NAMES.items()}
_NO_CHARSET = {"idna", "punycode", "unicode-escape", "raw-unicode-escape", "undefined"}


def codec_of(label: str) -> str:
    """Python's codec for the name of an encoding, interpreted as on the web: `iso-8859-1` is windows-1252.

    Raises `LookupError` for names that are not character encodings.
    """
    label = label.strip().lower()
    name = codecs.lookup(_CODECS.get(label, label)).name
    if name.replace("_", "-") in _NO_CHARSET:
        raise LookupError(label)
    b"    ".decode(name, "replace")  # raises `LookupError` for codecs that are not text encodings, such as `hex`
    return _WIDER.get(name, name)


def name_of(encoding: str) -> str:
    """The usual name of one of Python's codecs."""
    return NAMES.get(encoding, encoding.replace("_", "-"))


def check_encoding(label: str) -> str:
    """Return `label` if it is empty or names an encoding. Raises `ValueError` with a suggestion otherwise."""
    try:
        if label:
            codec_of(label)
    except (LookupError, ValueError):
        allowed = [*NAMES.values(), "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "latin-1"]
        raise ValueError(f'there is no encoding "{label}" ({did_you_mean(label.lower(), allowed)})') from None
    return label


def looks_binary(head: bytes) -> bool:
    """Whether a file that starts with `head` is not text, by its signature or its share of control characters."""
    if head.startswith(_BINARY) or head.startswith(_TAR[1], _TAR[0]):
        return True
    strange = len(head) - len(head.translate(None, _NOT_TEXT))
    return strange * (10 if _utf8_sequences(head, whole=False)[1] == 0 else 50) > len(head)


def wide_encoding(head: bytes) -> str:
    """Detect UTF-16 and UTF-32 without a byte order mark; "" for other encodings.

    Zero bytes must be in the usual positions, and the decoded text must look like prose.
    """
    unlike_ascii = len(head.translate(None, _ASCII_TEXT))
    if b"\0" not in head or unlike_ascii * 4 < len(head) or head.startswith(_BINARY):
        return ""
    even, odd = head[::2].count(0), head[1::2].count(0)
    for encoding, width in (("utf-32-le", 4), ("utf-32-be", 4), ("utf-16-le", 2), ("utf-16-be", 2)):
        here, elsewhere = (odd, even) if encoding.endswith("le") else (even, odd)
        if width == 2 and (here * 200 < len(head) or elsewhere * 20 > here):
            continue
        whole = head[: len(head) - len(head) % width]
        try:  # a pair of surrogates may be cut at the end
            text = codecs.getincrementaldecoder(encoding)().decode(whole)
        except UnicodeDecodeError:
            continue
        if _is_prose(text[:10_000]):
            return encoding
    return ""


def _shifted_encoding(head: bytes) -> str:
    """Detect an encoding that switches between ASCII and double-byte characters; "" for other encodings."""
    if not head.isascii():
        return ""
    for mark, encoding in _SHIFTED.items():
        if mark in head:
            try:
                text = codecs.getincrementaldecoder(encoding)().decode(head)
            except UnicodeDecodeError:
                continue
            if not text.isascii() and "\x1b" not in text:
                return encoding
    return ""


def _is_prose(text: str) -> bool:
    shown = text.translate({9: 32, 10: 32, 13: 32})
    odd = sum(unicodedata.category(character) in ("Cc", "Cn", "Co") for character in shown)
    return odd * 50 <= len(text) and any(character.isspace() for character in text)


def _utf8_sequences(data: bytes, *, whole: bool) -> tuple[int, int]:
    """The numbers of multi-byte characters and of invalid sequences in `data`, decoded as UTF-8.

    whole: `data` is the end of the file, so an incomplete last character is invalid.
    """
    text = codecs.getincrementaldecoder("utf-8")("replace").decode(data, whole)
    if text.isascii():
        return 0, 0
    bad = text.count("\ufffd") - data.count("\ufffd".encode())
    return len(text) - len(text.encode("ascii", "ignore")) - bad, bad


def utf8_stream(raw: BinaryIO, name: str, encoding: str, tally: Tally, *, strict: bool = False) -> BinaryIO:
    """Convert `raw` to valid UTF-8 without a byte order mark; empty if it is not text.

    encoding: for a file that is not UTF-8 and has no byte order mark; empty: guess it. tally: counts what is guessed,
    skipped or replaced, under the file's `name`. strict: undecodable bytes raise `TinyslmError`; otherwise they are
    counted and replaced by U+FFFD.
    """
    blocks = _Utf8(raw, name, codec_of(encoding) if encoding else "", tally, strict=strict)
    return io.BufferedReader(ByteStream(blocks), BLOCK)


class _Utf8(Iterator[bytes]):
    def __init__(self, raw: BinaryIO, name: str, encoding: str, tally: Tally, *, strict: bool) -> None:
        self._raw, self._name, self._given, self._tally, self._strict = raw, name, encoding, tally, strict
        self._encoding = ""  # undecided as long as all bytes are ASCII
        self._decoder: codecs.IncrementalDecoder | None = None
        self._line = 1
        self._started = self._ended = False

    def __next__(self) -> bytes:
        """The next block; it may be empty."""
        if self._ended:
            raise StopIteration
        block = self._raw.read(BLOCK)
        self._ended = not block
        if not self._started:
            self._started = True
            block = self._start(block)
        if self._decoder is None and not block.isascii():
            block = self._decide(block)
        if self._decoder is None:
            self._line += block.count(b"\n")
            return block
        return self._convert(self._decoder, block)

    def _start(self, head: bytes) -> bytes:
        """Detect byte order marks, UTF-16, UTF-32 and binary files. Returns `head` without its mark."""
        encoding, mark = byte_order_mark(head)
        if not encoding and self._given and not _extends_ascii(self._given):
            encoding = self._given
        if not encoding and (encoding := wide_encoding(head)):
            self._tally.add(READ_AS + encoding, self._name)
        if not head:
            self._tally.add("empty_files", self._name)
        elif encoding:
            self._use(encoding)
        elif not self._given and (encoding := _shifted_encoding(head)):
            self._tally.add(READ_AS + name_of(encoding), self._name)
            self._use(encoding)
        elif looks_binary(head):
            return self._skip("binary_files")
        return head[mark:]

    def _decide(self, block: bytes) -> bytes:
        """Choose the encoding by the first block that is not ASCII, and by the next one if its first half is ASCII."""
        more = self._raw.read(BLOCK) if block[: BLOCK // 2].isascii() else b""
        sequences, bad = _utf8_sequences(block + more, whole=len(more or block) < BLOCK)
        block += more
        if sequences >= bad:
            self._use("utf-8")
            if self._given and codecs.lookup(self._given).name != "utf-8" and sequences:
                self._tally.add("utf8_files", self._name)
            return block
        if not (encoding := self._given or guess_encoding(block)):
            if self._line == 1:
                return self._skip("undecodable_files")
            encoding = "utf-8"
        elif not self._given:
            self._tally.add(READ_AS + name_of(encoding), self._name)
        self._use(encoding)
        return block

    def _use(self, encoding: str) -> None:
        self._encoding = encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()

    def _skip(self, kind: str) -> bytes:
        self._tally.add(kind, self._name)
        self._ended = True
        return b""

    def _convert(self, decoder: codecs.IncrementalDecoder, block: bytes) -> bytes:
        """Convert a block to UTF-8. Undecodable bytes are counted under their first line."""
        state = decoder.getstate()
        try:
            text = decoder.decode(block, self._ended)
            if self._encoding == "utf-8" and decoder.getstate() == state == (b"", 0):
                self._line += block.count(b"\n")
                return block
        except UnicodeDecodeError:
            decoder.setstate(state)
            decoder.errors = "replace"
            text = decoder.decode(block, self._ended)
            decoder.errors = "strict"
            self._report(text, block)
        self._line += text.count("\n")
        return text.encode("utf-8", "replace")

    def _report(self, text: str, block: bytes) -> None:
        own = block.count("\ufffd".encode()) if self._encoding == "utf-8" else 0
        line = self._line + text.count("\n", 0, text.find("\ufffd"))
        if self._strict:
            name = name_of(self._encoding)
            raise TinyslmError(
                f"{self._name}:{line} has bytes that are not {name}.",
                "Correct that line or name the encoding with --data.encoding; without --strict, bytes become U+FFFD.",
            )
        self._tally.add("undecodable_bytes", f"{self._name}:{line}", max(1, text.count("\ufffd") - own))


def _extends_ascii(encoding: str) -> bool:
    if encoding.startswith(("iso2022", "hz")):  # ASCII until an escape sequence
        return False
    try:
        return _ASCII.decode(encoding) == _ASCII.decode()
    except UnicodeDecodeError:
        return False
