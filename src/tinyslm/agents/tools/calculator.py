"""A calculator: one arithmetic expression, parsed and worked out here. Nothing is ever run as Python.

Whole numbers and decimals are exact (0.1 + 0.2 is 0.3), roots and logarithms are floating point. Limits on length,
depth and digits keep every expression quick: `9**9**9` is refused before it is worked out.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from fractions import Fraction

from tinyslm.agents.tool import ToolError, tool

LONGEST = 500  # characters
DEEPEST = 300  # brackets within brackets, signs before signs, terms of a sum
MOST_BITS = 4_096  # of a numerator or a denominator: some 1,200 digits

Number = Fraction | float

_SIGNS: dict[type[ast.unaryop], Callable[[Number], Number]] = {
    ast.UAdd: lambda number: number,
    ast.USub: lambda number: -number,
}
_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_CONSTANTS = {"pi": math.pi, "e": math.e}


@tool
def calculator(expression: str) -> str:
    """Work out an arithmetic expression.

    Args:
        expression: numbers, + - * / // % ** and brackets, pi, e, and the functions sqrt, abs, round, floor, ceil, min,
            max, exp, log, log10, log2, sin, cos, tan; such as "(3 + 4) * 2.5".
    """
    return calculate(expression)


def calculate(expression: str) -> str:
    """The value of an expression, as text: whole, or with up to 15 significant digits.

    Raises `ToolError` for what is no such expression, has no value, or is too large.
    """
    if len(expression) > LONGEST:
        raise ToolError(f"The expression has {len(expression)} characters; at most {LONGEST} are read.")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ToolError("This is no arithmetic expression.") from None
    try:
        return _written(_value(tree.body, 0))
    except ZeroDivisionError:
        raise ToolError("Division by zero.") from None
    except OverflowError:
        raise ToolError("The result is too large.") from None
    except (ValueError, TypeError) as error:
        raise ToolError(f"This has no value: {error}.") from None


def _value(node: ast.expr, depth: int) -> Number:
    if depth > DEEPEST:
        raise ToolError(f"The expression is nested more than {DEEPEST} deep.")
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return _CONSTANTS[node.id]
    if isinstance(node, ast.UnaryOp) and (sign := _SIGNS.get(type(node.op))):
        return sign(_value(node.operand, depth + 1))
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, depth + 1), _value(node.right, depth + 1)
        return _small(_power(left, right) if isinstance(node.op, ast.Pow) else _operation(node.op, left, right))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        function = _FUNCTIONS.get(node.func.id)
        if function is None:
            raise ToolError(f"There is no function {node.func.id}; there are: {', '.join(_FUNCTIONS)}.")
        return _small(function(*[_value(one, depth + 1) for one in node.args]))
    what = node.id if isinstance(node, ast.Name) else type(node).__name__
    raise ToolError(f"{what} is no arithmetic: write numbers, + - * / // % **, brackets, pi, e and functions.")


def _constant(value: object) -> Number:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ToolError(f"{value!r:.60} is no number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    return _small(Fraction(repr(value)))


def _operation(kind: ast.operator, left: Number, right: Number) -> Number:
    if (work := _OPERATORS.get(type(kind))) is None:
        raise ToolError(f"There is no operator {type(kind).__name__}; there are: + - * / // % **.")
    return work(left, right)


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
