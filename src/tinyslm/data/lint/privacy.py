"""Checks for secrets and personal data, which a trained model can repeat to anyone.

Findings show only the first characters. Examples from documentation ("AKIAIOSFODNN7EXAMPLE", "user@example.com", the
test numbers of card companies) are not reported.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from tinyslm.data.lint.check import Check, Examples, Hit

_PLACEHOLDER = re.compile(
    r"(?i)pass|secret|token|user|example|sample|dummy|placeholder|change|your|test|null|none|true|false|redacted"
    r"|x{3}|\*{3}|\.{3}|1234|0123|abcd"
)
"""Matches parts of invented values."""
SHOWN = 4
"""Number of characters to show of a secret."""


class Kind(NamedTuple):
    """A kind of secret or personal data. hint: every match contains one of these. real: rejects false matches."""

    pattern: re.Pattern[str]
    hint: tuple[str, ...]
    real: Callable[[str], bool]


def _random(text: str) -> bool:
    """Whether a key looks random: no placeholder, and many different characters."""
    body = re.sub(r"^[A-Za-z]+[-_]", "", text)
    common = max(Counter(body).values(), default=0)
    varied = len(set(body)) >= 8 and common <= len(body) / 3
    return varied and any(char.isdigit() for char in body) and not _PLACEHOLDER.search(body)


def _password(text: str) -> bool:
    """Whether an assigned value looks like a real password or key."""
    value = re.split(r"[:=]\s*", text, maxsplit=1)[-1].strip("\"'`,;")
    kinds = sum(re.search(kind, value) is not None for kind in ("[a-z]", "[A-Z]", r"\d", r"[\W_]"))
    code = re.search(r"[$%<>{}()\[\]\\/|*]|\.\.|://|^[A-Za-z_]+\.[A-Za-z_.]+$", value)
    strong = kinds >= 3 or (len(value) >= 20 and _random(value))
    return strong and not code and not _PLACEHOLDER.search(value)


def _url_password(text: str) -> bool:
    value = text.rpartition("@")[0].rpartition(":")[2]
    named = re.search(r"[$<>{}\[\]%*]", value) or _PLACEHOLDER.search(value)
    return len(value) > 5 and len(set(value)) > 3 and not named


_KEYS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,}"
    r"|sk-(?:proj-|ant-|svcacct-|or-v1-)?[A-Za-z0-9_-]{32,}|AIza[A-Za-z0-9_-]{35}|xox[abeprs]-[A-Za-z0-9-]{20,}"
    r"|(?:sk|rk)_live_[A-Za-z0-9]{20,}|hf_[A-Za-z0-9]{30,}|glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36}"
    r"|pypi-AgEI[A-Za-z0-9_-]{50,}|SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{40,}|dop_v1_[a-f0-9]{64}"
    r"|eyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,})(?![A-Za-z0-9])"
)
SECRETS: Mapping[str, Kind] = {
    "a private key": Kind(
        re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----\s+(?:[\w-]+: .*\s+)*[A-Za-z0-9+/=]{32}"),
        ("PRIVATE KEY",),
        lambda text: True,
    ),
    "an access key or token": Kind(
        _KEYS,
        ("AKIA", "ASIA", "gh", "sk", "AIza", "xox", "rk_", "hf_", "glpat", "npm_", "pypi", "SG.", "dop_", "eyJ"),
        _random,
    ),
}
PASSWORDS: Mapping[str, Kind] = {
    "a password": Kind(
        re.compile(
            r"(?i)(?<![a-z])(?:pass(?:word|wd|phrase)|pwd|kennwort|passwort|mot de passe|contraseña|api[_ -]?key"
            r"|secret(?:[_ ]key)?"
            r"|access[_ -]?token)\b[\"']?\s*(?:[:=]|\bis\b\s*:?)\s*[\"'`]?[^\s\"'`,;]{8,64}"
        ),
        ("pass", "pwd", "kennwort", "mot de", "contra", "key", "secret", "token"),
        _password,
    ),
    "a password in an address": Kind(
        re.compile(r"[a-z][a-z0-9+.-]{2,15}://[^\s/:@\"'<>]{1,64}:[^\s/@\"'<>]{4,64}@[\w.-]+"), ("://",), _url_password
    ),
}

_DOCUMENTED_CARDS = {
    "4111111111111111", "4242424242424242", "4012888888881881", "4000056655665556", "5555555555554444",
    "5105105105105100", "378282246310005", "371449635398431", "6011111111111117", "6011000990139424",
    "30569309025904", "3530111333300000", "3566002020360505", "4222222222222",
}  # fmt: skip
_DOCUMENTED_IBANS = {
    "GB82WEST12345698765432",
    "GB29NWBK60161331926819",
    "DE89370400440532013000",
    "FR1420041010050500013M02606",
}
_CARD_PREFIX = re.compile(r"4|5[1-5]|2[2-7]|3[47]|6011|65|35|30[0-5]|36|38")


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _card(text: str) -> bool:
    """Whether a number has a valid Luhn checksum and the prefix of a card company."""
    number = _digits(text)
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(number))]
    luhn = sum(value - 9 * (value > 9) for value in doubled) % 10 == 0
    return luhn and bool(_CARD_PREFIX.match(number)) and number not in _DOCUMENTED_CARDS and len(set(number)) > 4


def _iban(text: str) -> bool:
    """Whether an IBAN has a valid checksum (ISO 13616)."""
    value = text.replace(" ", "")
    moved = "".join(str(int(char, 36)) for char in value[4:] + value[:4])
    return 15 <= len(value) <= 34 and int(moved) % 97 == 1 and value not in _DOCUMENTED_IBANS


_INVENTED_DOMAIN = re.compile(
    r"(?:^|\.)(?:example|test|invalid|localhost|local|domain|company|yourcompany|acme|e?mail|site|corp|host|server"
    r"|foo|bar|abc|xyz)\.\w+$|\.(?:example|test|invalid|local|localhost|internal|lan|so|py|js)$|^(?:example|domain)\."
)
_NO_PERSON = re.compile(
    r"(?:git|user\d*|username|e?mail|name|you|your[._-]?\w+|me|someone|somebody|nobody|no[._-]?reply|do-not-reply|info"
    r"|support|contact|sales|admin|administrator|root|system|postmaster|webmaster|help|hello|office|service|security"
    r"|abuse|team|press|jobs|hr|billing|news|newsletter|alerts?|notifications?|account|address|recipient|sender|from|to"
    r"|(?:first|last)[._-]?name.*|j(?:ohn|ane)?[._-]?doe|foo|bar|test\w*)"
)


def _email(text: str) -> bool:
    """Whether an address may belong to a person, not to a role or to documentation."""
    name, _, domain = text.lower().rpartition("@")
    return not _INVENTED_DOMAIN.search(domain) and not _NO_PERSON.fullmatch(name)


def _phone(text: str) -> bool:
    number = _digits(text)
    fiction = re.search(r"555[ .-]?(?:01\d\d|1234|1212|5555)$", text) or re.search("1234567|0{6}|9876543", number)
    return 10 <= len(number) <= 15 and not fiction and len(set(number)) > 3


PERSONAL: Mapping[str, Kind] = {
    "an e-mail address": Kind(
        re.compile(r"(?<![\w.+/:%-])[\w.+-]{2,64}@(?:[A-Za-z0-9-]{2,63}\.){1,4}[A-Za-z]{2,12}(?![\w@/:*-])"),
        ("@",),
        _email,
    ),
    "a phone number": Kind(
        re.compile(
            r"(?<![\w.+/=#-])(?:\+\d{1,3}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,4}(?:[ .-]\d{2,5}){1,4}|\+\d{10,14}"
            r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[.-]\d{4}|(?:1-)?[2-9]\d{2}-[2-9]\d{2}-\d{4})(?![\w/-]|\.\d)"
        ),
        ("+", "-", "("),
        _phone,
    ),
    "a card number": Kind(
        re.compile(r"(?<![\w.,/-])(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{1,7}|3\d{3}([ -]?)\d{6}\2\d{4,5})(?![\w/-]|[.,]\d)"),
        (),
        _card,
    ),
    "an IBAN": Kind(re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b"), (), _iban),
    "a social security number": Kind(
        re.compile(
            r"(?i)\b(?:ssn|social security)\b.{0,30}?\b(?!000|666|9|123-45-6789)\d{3}-(?!00)\d{2}-(?!0000)\d{4}\b"
        ),
        ("ssn", "SSN", "ecurity"),
        lambda text: True,
    ),
}


def _found(data: Examples, kinds: Mapping[str, Kind]) -> Iterator[Hit]:
    for one, text in zip(data.conversations, data.texts, strict=True):
        for name, kind in kinds.items():
            if kind.hint and not any(hint in text for hint in kind.hint):
                continue
            match = next((found for found in kind.pattern.finditer(text) if kind.real(found[0])), None)
            if match:
                yield Hit(one.place, f"{name}, {_beginning(match[0])}")
                break


def _beginning(text: str) -> str:
    """The first characters of a secret; in an assignment, the name and the first characters of the value."""
    name, sign, value = re.match(r"(.*?[:=]\s*[\"'`]?)?()(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]
    return f'"{(name or "") + sign}{value[:SHOWN]}…"'.replace("\n", " ")


CHECKS = {
    "secrets": Check(
        "error",
        "Rows with a secret",
        "Revoke it, because it is no longer secret, and replace it in the data with an invented one.",
        lambda data: _found(data, SECRETS),
    ),
    "passwords": Check(
        "warning",
        "Rows with what looks like a password",
        "Replace it with an invented one, such as CHANGE_ME.",
        lambda data: _found(data, PASSWORDS),
    ),
    "personal-data": Check(
        "warning",
        "Rows with personal data",
        "Replace it with invented data: a model can repeat it to anyone.",
        lambda data: _found(data, PERSONAL),
    ),
}
