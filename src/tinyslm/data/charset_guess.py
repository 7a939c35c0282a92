"""Guess the encoding of text that is not Unicode.

The score of each usual encoding is the log-probability of the bytes above 127, decoded with it, in the best fitting
language: by the frequencies of letters and by their neighbours. If no score is plausible, `charset-normalizer` tries
all other encodings. By itself, it mistakes most short Western European texts for Central European ones.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from functools import cache
from math import log

SAMPLE = 1 << 13  # bytes to score, from lines that are not ASCII

# Letters that are not ASCII, by language, in descending frequency.
_WESTERN = (
    *("éàèêçâîôûëïùœæ", "üäöß", "óíáéñúü", "ãçáéóíêõâúàôü", "àèùòìé"),
    *("äåöé", "åøæé", "ëéïèö", "íáðéöúþýóæ", "àéèíòóçúïü"),
)
_CENTRAL = ("łąęóżśćńź", "íáěéřšýčžůúťňóď", "áíýčéžšúľťôňäóĺďŕ", "áéőóöíüúű", "ăîşâţ", "čšžćđ")
_LATIN = {
    **dict.fromkeys(("cp1252", "iso8859_15", "mac_roman", "cp850"), _WESTERN),
    **dict.fromkeys(("cp1250", "iso8859_2", "cp852"), _CENTRAL),
    "cp1254": ("ıüşğçöâî",),
    "cp1257": ("ėšųžįąčęū", "āīšēūņļģķžč", "äõöüšž"),
}
_CYRILLIC = (
    "оеаинтсрвлкмдпугяызбйьчхжшюцщэфъё",
    "оаніирвтесклудмпзяьбгйчхцїжєюшщґф",
    "аиоентрсвлкдпмзгяъубчцйжщхюшфь",
    "аиоенрсуткјвдмплгзбшчцжћњђхљџф",
)
_OTHER = {
    **dict.fromkeys(("cp1251", "koi8_r", "cp866", "mac_cyrillic", "iso8859_5"), _CYRILLIC),
    "koi8_u": _CYRILLIC[1:2],
    "cp1253": ("ατοιενρσκηπςυμλίόάγέδήωχθύφβξζψώϊ",),
    "cp1255": ("יוהלרבתמאשנעםדקחפסכגטצןזךףץ",),
    "cp1256": ("اليمونرتبةعدسفهكقأحجشطصىخإذضزغثءؤئآظ", "ايردنهومتبسلكشزفگعخقجآپحطصچژ"),
    "cp874": ("านรอกเงมย่ลวด้ทิสตะีปับคหแจื์พชุขใไโูณผถศึธภญซ็ำษฐฉ",),
}
_SINGLE = {**_LATIN, **_OTHER}

# Two-byte characters by ranges of their first bytes: first, last, share of usual text, number of characters.
_DOUBLE = {
    "gb18030": ((0xA1, 0xA3, 0.12, 280), (0xB0, 0xD7, 0.85, 3755), (0xD8, 0xF7, 0.02, 3008)),
    "big5hkscs": ((0xA1, 0xA3, 0.12, 400), (0xA4, 0xC6, 0.85, 5401), (0xC9, 0xF9, 0.02, 7652)),
    "cp949": ((0xA1, 0xA3, 0.12, 280), (0xB0, 0xC8, 0.85, 2350), (0xCA, 0xFD, 0.02, 4888)),
    "cp932": ((0x81, 0x81, 0.12, 150), (0x82, 0x83, 0.5, 170), (0x88, 0x97, 0.35, 2965), (0x98, 0xEA, 0.02, 3390)),
    "euc_jp": ((0xA1, 0xA1, 0.12, 150), (0xA4, 0xA5, 0.5, 170), (0xB0, 0xCF, 0.35, 2965), (0xD0, 0xF4, 0.02, 3390)),
}
_FIRST_SET = ("gb18030", "cp949")  # characters with a second byte below 0xA1 are later extensions, and rare
_ASCII_COST = 3.0  # minus the log-probability that a second byte in ASCII would have as a letter by itself
_RARE = log(0.01 / 20_000)

NAMES = {
    **{f"cp{number}": f"windows-{number}" for number in range(1250, 1258)},
    "koi8_r": "koi8-r",
    "koi8_u": "koi8-u",
    "cp866": "ibm866",
    "cp850": "ibm850",
    "cp852": "ibm852",
    "cp874": "windows-874",
    "iso8859_2": "iso-8859-2",
    "iso8859_5": "iso-8859-5",
    "iso8859_15": "iso-8859-15",
    "mac_roman": "macintosh",
    "mac_cyrillic": "x-mac-cyrillic",
    "cp932": "shift_jis",
    "euc_jp": "euc-jp",
    "gb18030": "gb18030",
    "big5hkscs": "big5",
    "cp949": "euc-kr",
}
"""The usual names of the scored encodings, by Python's names."""

_MARKS = "’‘“”„–—…«»€°§·•£¿¡\xa0\xad"
_BETWEEN_LETTERS = {*"’–—…·\xad\xa0"}
_POSSIBLE = -5.5  # mean log-probability per byte above 127 that a plausible encoding exceeds
_UNLIKELY = log(0.01)
_RUN = log(0.3)  # for adjacent non-ASCII letters, which are rare in Latin scripts
_PRIOR = {"cp1252": 0.0, "cp1251": 0.0, "cp1250": -1.0, "koi8_r": -1.0}  # log-probabilities
_OTHER_PRIOR = -2.0
_OLD_PRIOR = -6.0
_OLD = ("iso8859_2", "iso8859_5", "iso8859_15", "mac_roman", "mac_cyrillic", "cp850", "cp852", "cp866")


def guess_encoding(data: bytes) -> str:
    """Python's name for the most likely encoding of text that is not UTF-8; "" if none is plausible."""
    from charset_normalizer import from_bytes

    lines = dict.fromkeys(line for line in data.split(b"\n") if not line.isascii())
    sample = b"\n".join(lines)[:SAMPLE]
    number = len(sample.translate(None, bytes(range(128))))
    scores = {encoding: _single(sample, encoding) for encoding in _SINGLE}
    scores |= {encoding: _double(sample, encoding) for encoding in _DOUBLE}
    likely = {encoding: score + _prior(encoding) for encoding, score in scores.items()}
    best = max(likely, key=likely.__getitem__)
    if likely[best] > _POSSIBLE * number:
        return best
    match = from_bytes(sample, enable_fallback=False).best()
    return match.encoding if match and match.encoding not in ("ascii", "utf_8") else ""


def _prior(encoding: str) -> float:
    return _PRIOR.get(encoding, _OLD_PRIOR if encoding in _OLD else _OTHER_PRIOR)


def _double(sample: bytes, encoding: str) -> float:
    """Log-probability of the characters above 127 in `sample`, decoded with a two-byte encoding."""
    text = sample.decode(encoding, "replace").removesuffix("\ufffd")  # the last one may have been cut
    return sum(
        count * _pair(character.encode(encoding, "replace"), encoding)
        for character, count in Counter(text).items()
        if character > "\x7f"
    )


def _pair(code: bytes, encoding: str) -> float:
    if len(code) == 2 and not (encoding in _FIRST_SET and code[1] < 0xA1):
        for first, last, share, size in _DOUBLE[encoding]:
            if first <= code[0] <= last:
                return log(share / size) + (_ASCII_COST if code[1] < 0x80 else 0.0)
    return _RARE


def _single(sample: bytes, encoding: str) -> float:
    """Log-probability of the characters above 127 in `sample`, in the best fitting language of a one-byte encoding."""
    text = f" {sample.decode(encoding, 'replace')} "
    around = Counter(triple for triple in zip(text, text[1:], text[2:], strict=False) if triple[1] > "\x7f")
    latin = encoding in _LATIN
    context = sum(count * _context(*triple, latin=latin) for triple, count in around.items())
    characters: Counter[str] = Counter()
    for (_, character, _), count in around.items():
        characters[character] += count
    return context + max(_fit(characters, letters) for letters in _SINGLE[encoding])


def _fit(characters: Counter[str], letters: str) -> float:
    known = _probabilities(letters)
    return sum(
        count * known.get(character, log(0.002) if _is_letter(character) else log(0.0001))
        for character, count in characters.items()
    )


@cache
def _probabilities(letters: str) -> dict[str, float]:
    """Log-probabilities of letters (by Zipf's law), of capitals (a twentieth of that) and of usual punctuation."""
    total = sum(1 / (rank + 2) for rank in range(len(letters)))
    known = {mark: log(0.3 / len(_MARKS)) for mark in _MARKS}
    for rank, letter in enumerate(letters):
        share = 0.7 / (rank + 2) / total
        known[letter] = log(share)
        if letter.upper() != letter and len(letter.upper()) == 1:
            known[letter.upper()] = log(share / 20)
    return known


def _context(before: str, character: str, after: str, *, latin: bool) -> float:
    """Log-probability of a character by its neighbours: low for a capital after a small letter or a mark in a word.

    latin: whether most letters of the script are ASCII. Words of other scripts contain no ASCII letters.
    """
    near = [other for other in (before, after) if _is_letter(other)]
    if not _is_letter(character):
        return _UNLIKELY if len(near) == 2 and character not in _BETWEEN_LETTERS else 0.0
    if (character.isupper() and before.islower()) or (not latin and any(other.isascii() for other in near)):
        return _UNLIKELY
    return _RUN if latin and not after.isascii() and after.isalpha() else 0.0


def _is_letter(character: str) -> bool:
    return character.isalpha() or unicodedata.category(character) == "Mn"
