"""A tokenizer for arithmetic expressions as people and models write them.

Besides Python's operators, there are `^` for powers, `x`, `×`, `·` and `÷`, the Unicode minus signs, thousands
separators (1,234.50), percentages (15%, 15 percent) and `of`. Two signs are ambiguous. `x` multiplies where an operator
is expected. `%` before a number, a name or a bracket is the remainder of a division, and a percentage elsewhere.
Within a function's brackets, commas separate its arguments, so that numbers have no thousands separators there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tinyslm.inference.tools.tool import ToolError

Kind = Literal["number", "name", "call", "operator", "percent", "(", ")", ",", "end"]


@dataclass(frozen=True)
class Token:
    """A part of an expression.

    kind: "call" is the name of a function and its opening bracket. text: as it is written; operators in one spelling,
    one of + - * / // % ^ of. at: its index in the expression.
    """

    kind: Kind
    text: str
    at: int


_SPELLINGS = str.maketrans("×·⋅∗÷−–", "****/--")
_PLAIN = r"\d+(?:_\d+)*"
_REST = r"(?:\.\d*)?(?:[eE][+-]?\d+)?"
_NUMBER = re.compile(rf"(?:\d{{1,3}}(?:,\d{{3}})+(?![\d_])|{_PLAIN}|(?=\.\d)){_REST}")
_ARGUMENT = re.compile(rf"(?:{_PLAIN}|(?=\.\d)){_REST}")
_OTHER_BASE = re.compile(r"0[xXoObB][\dA-Fa-f]")
_NAME = re.compile(r"[^\W\d]\w*")
_CALL = re.compile(r"([^\W\d]\w*)\s*\(")
_OPERATOR = re.compile(r"\*\*|//|[-+*/^]|[xX](?![^\W\d])|of\b")
_PERCENT = re.compile(r"%|percent\b")
_OPERAND = re.compile(r"\s*(?:\d|\.\d|\(|(?!of\b|[xX](?![^\W\d]))[^\W\d])")
_SPACE = re.compile(r"\s*")


def tokens_of(expression: str) -> list[Token]:
    """The tokens of an expression, followed by one of the kind "end"; an equals sign at the end is ignored.

    Raises `ToolError`, quoting the place, where neither a number nor an operator can be read.
    """
    text = expression.translate(_SPELLINGS).rstrip("=? \t\r\n")
    tokens: list[Token] = []
    calls: list[bool] = []  # for each bracket that is open, whether it is a function's
    at = _space(text, 0)
    while at < len(text):
        complete = bool(tokens) and tokens[-1].kind in ("number", "name", "percent", ")")
        token, length = _after_operand(text, at) if complete else _operand(text, at, bool(calls) and calls[-1])
        if token.kind in ("call", "("):
            calls.append(token.kind == "call")
        elif token.kind == ")" and calls:
            calls.pop()
        tokens.append(token)
        at = _space(text, at + length)
    return [*tokens, Token("end", "", at)]


def _operand(text: str, at: int, in_call: bool) -> tuple[Token, int]:
    """The token at a place where a value is expected, and its length."""
    if _OTHER_BASE.match(text, at):
        raise ToolError(f"{text[at : at + 20]!r}: write numbers with decimal digits.")
    if found := (_ARGUMENT if in_call else _NUMBER).match(text, at):
        return Token("number", found[0], at), len(found[0])
    if found := _CALL.match(text, at):
        return Token("call", found[1], at), len(found[0])
    if found := _NAME.match(text, at):
        return Token("name", found[0], at), len(found[0])
    match text[at]:
        case "(":
            return Token("(", "(", at), 1
        case ")":
            return Token(")", ")", at), 1
        case "+" | "-" as sign:
            return Token("operator", sign, at), 1
    raise unexpected(text, at)


def _after_operand(text: str, at: int) -> tuple[Token, int]:
    """The token at a place where an operator is expected, and its length."""
    if found := _PERCENT.match(text, at):
        remainder = found[0] == "%" and _OPERAND.match(text, at + 1)
        return Token("operator" if remainder else "percent", "%", at), len(found[0])
    if found := _OPERATOR.match(text, at):
        return Token("operator", {"**": "^", "x": "*", "X": "*"}.get(found[0], found[0]), at), len(found[0])
    match text[at]:
        case ")":
            return Token(")", ")", at), 1
        case ",":
            return Token(",", ",", at), 1
    if _OPERAND.match(text, at):
        raise ToolError(f"There is no operator before {text[at:]!r:.40}: write * to multiply.")
    raise unexpected(text, at)


def unexpected(text: str, at: int) -> ToolError:
    """The error for text that is not arithmetic, quoting it from index `at` on."""
    what = f"{text[at:]!r:.40} is not arithmetic here" if at < len(text) else "The expression is not complete"
    return ToolError(f"{what}: write numbers, + - * / // % ^, brackets, pi, e and functions.")


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at
