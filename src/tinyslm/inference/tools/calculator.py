"""A calculator: one arithmetic expression, parsed and evaluated here. Nothing is ever run as Python.

Whole numbers and decimals are exact (0.1 + 0.2 is 0.3), roots and logarithms are floating point. Limits on length,
depth and digits keep every expression quick: `9**9**9` is refused before it is evaluated.

Grammar, from the lowest precedence to the highest; all operators but powers group from left to right:

    sum      product, then + or - and a product, any number of times
    product  power, then * / // % or "of" and a power, any number of times
    power    a sign and a power; or a value, and after ^ a power
    value    a number, a constant, a function of sums, or a sum in brackets; then any number of percent signs
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Annotated

from pydantic import Field

from tinyslm.inference.tools.expressions import Kind, Token, tokens_of, unexpected
from tinyslm.inference.tools.tool import ToolError, tool

LONGEST = 500  # characters
DEEPEST = 50  # brackets within brackets, signs before signs, powers of powers
MOST_BITS = 4_096  # of a numerator or a denominator: some 1,200 digits
SIGNS = "^[0-9A-Za-z+*/%^().,π×·÷−_ -]+$"
"""The characters of an expression that a model may write. Without quotes and braces, small models find its end."""
_LARGEST_EXPONENT = 308  # in a number such as 1e308

Number = Fraction | float

_PRODUCTS: dict[str, Callable[[Number, Number], Number]] = {
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "of": operator.mul,
}
_CONSTANTS = {"pi": math.pi, "π": math.pi, "e": math.e}


@tool
def calculator(expression: Annotated[str, Field(pattern=SIGNS)]) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: numbers, + - * / // % ^ and brackets, pi, e, and the functions sqrt, abs, round, floor, ceil, min,
            max, exp, log, log10, log2, sin, cos, tan; such as "(3 + 4) * 2.5" or "15% of 80".
    """
    return calculate(expression)


def calculate(expression: str) -> str:
    """The value of an expression, as text: whole, or with up to 15 significant digits.

    A percentage that is added or subtracted is a share of the other term: 80 + 15% is 92.

    Raises `ToolError` if it is not an expression, has no value, or exceeds the limits.
    """
    if len(expression) > LONGEST:
        raise ToolError(f"The expression has {len(expression)} characters; at most {LONGEST} are read.")
    try:
        return _written(_Expression(expression).value())
    except ZeroDivisionError:
        raise ToolError("Division by zero.") from None
    except OverflowError:
        raise ToolError("The result is too large.") from None
    except (ValueError, TypeError) as error:
        raise ToolError(f"This has no value: {error}.") from None


class _Expression:
    """Evaluates an expression while parsing it, with one method for each line of the grammar.

    The methods return a value, and whether it is just a percentage.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = tokens_of(text)
        self._place = 0
        self._depth = 0

    def value(self) -> Number:
        value, _ = self._sum()
        self._expect("end")
        return value

    def _sum(self) -> tuple[Number, bool]:
        value, share = self._product()
        while sign := self._operator("+", "-"):
            term, term_share = self._product()
            if term_share and not share:
                term = _small(value * term)
            value = _small(value + term if sign == "+" else value - term)
            share = share and term_share
        return value, share

    def _product(self) -> tuple[Number, bool]:
        value, share = self._power()
        while sign := self._operator(*_PRODUCTS):
            value, share = _small(_PRODUCTS[sign](value, self._power()[0])), False
        return value, share

    def _power(self) -> tuple[Number, bool]:
        self._depth += 1
        if self._depth > DEEPEST:
            raise ToolError(f"The expression is nested more than {DEEPEST} deep.")
        if sign := self._operator("+", "-"):
            value, share = self._power()
            value = -value if sign == "-" else value
        else:
            value, share = self._percentage()
            if self._operator("^"):
                value, share = _small(_power(value, self._power()[0])), False
        self._depth -= 1
        return value, share

    def _percentage(self) -> tuple[Number, bool]:
        value, share = self._single(), False
        while self._next.kind == "percent":
            self._read()
            value, share = _small(value / 100), True
        return value, share

    def _single(self) -> Number:
        token = self._read()
        match token.kind:
            case "number":
                return _number(token.text)
            case "name" if token.text in _CONSTANTS:
                return _CONSTANTS[token.text]
            case "name":
                raise ToolError(f"{token.text!r:.40} is not a number: write numbers, pi, e or functions.")
            case "call":
                return self._call(token.text)
            case "(":
                value, _ = self._sum()
                self._expect(")")
                return value
        raise unexpected(self._text, token.at)

    def _call(self, name: str) -> Number:
        function = _FUNCTIONS.get(name)
        if function is None:
            raise ToolError(f"There is no function {name:.40}; there are: {', '.join(_FUNCTIONS)}.")
        arguments: list[Number] = []
        while self._next.kind != ")":
            arguments.append(self._sum()[0])
            if self._next.kind != ",":
                break
            self._read()
        self._expect(")")
        return _small(function(*arguments))

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    def _read(self) -> Token:
        token = self._next
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _operator(self, *names: str) -> str:
        """Read and return the next token if it is one of these operators; otherwise return ""."""
        return self._read().text if self._next.kind == "operator" and self._next.text in names else ""

    def _expect(self, kind: Kind) -> None:
        token = self._read()
        if token.kind != kind:
            raise unexpected(self._text, token.at)


def _number(text: str) -> Number:
    digits, _, exponent = text.replace(",", "").replace("_", "").lower().partition("e")
    if abs(int(exponent or 0)) > _LARGEST_EXPONENT:
        raise OverflowError
    return _small(Fraction(f"{digits.removesuffix('.')}e{exponent or 0}"))


def _power(base: Number, exponent: Number) -> Number:
    """Whole powers are exact, and refused before they are worked out when large; the rest is floating point."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if base == 0 and exponent < 0:
            raise ZeroDivisionError
        if abs(exponent) * (_bits(base) - 1) > MOST_BITS:
            raise OverflowError
        return Fraction(base**exponent.numerator)
    value: float | complex = float(base) ** float(exponent)
    if isinstance(value, complex):
        raise ValueError("a root of a negative number")
    return value


def _bits(number: Fraction) -> int:
    return max(abs(number.numerator).bit_length(), number.denominator.bit_length())


def _small(number: Number) -> Number:
    if isinstance(number, float):
        if not math.isfinite(number):
            raise OverflowError
    elif _bits(number) > MOST_BITS:
        raise OverflowError
    return number


def _written(number: Number) -> str:
    if isinstance(number, Fraction) and number.denominator == 1:
        return str(number.numerator)
    value = float(number)
    return f"{value:.15g}"


def _sqrt(number: Number) -> Number:
    """Exact for squares of whole numbers."""
    if isinstance(number, Fraction) and number >= 0:
        above, below = math.isqrt(number.numerator), math.isqrt(number.denominator)
        if above**2 == number.numerator and below**2 == number.denominator:
            return Fraction(above, below)
    return math.sqrt(number)


def _rounded(number: Number, digits: Number = Fraction(0)) -> Number:
    if digits != int(digits) or not -300 <= digits <= 300:
        raise ValueError("digits to round to")
    return Fraction(round(number, int(digits))) if isinstance(number, Fraction) else round(number, int(digits))


def _of_float(function: Callable[[float], float]) -> Callable[[Number], Number]:
    return lambda number: function(float(number))


_FUNCTIONS: dict[str, Callable[..., Number]] = {
    "sqrt": _sqrt,
    "abs": abs,
    "round": _rounded,
    "floor": lambda number: Fraction(math.floor(number)),
    "ceil": lambda number: Fraction(math.ceil(number)),
    "min": lambda *numbers: min(numbers),
    "max": lambda *numbers: max(numbers),
    "exp": _of_float(math.exp),
    "log": lambda number, *base: math.log(float(number), *[float(one) for one in base]),
    "log10": _of_float(math.log10),
    "log2": _of_float(math.log2),
    "sin": _of_float(math.sin),
    "cos": _of_float(math.cos),
    "tan": _of_float(math.tan),
}
