"""The calculator: right for arithmetic, harmless for everything else."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.inference.tools.calculator import calculate, calculator
from tinyslm.inference.tools.tool import ToolError


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", "7"),
        ("(1 + 2) * -3", "-9"),
        ("0.1 + 0.2", "0.3"),
        ("7 / 2", "3.5"),
        ("1/3", "0.333333333333333"),
        ("7 // 2 + 7 % 2", "4"),
        ("-7 // 2", "-4"),
        ("2 ** 10", "1024"),
        ("2 ** -1", "0.5"),
        ("2 ** 0.5", "1.4142135623731"),
        ("1.5 ** 2", "2.25"),
        ("0 ** 0", "1"),
        ("(-1) ** 1000001", "-1"),
        ("1 ** 10 ** 300", "1"),
        ("sqrt(16)", "4"),
        ("sqrt(2.25)", "1.5"),
        ("round(2.675, 2)", "2.68"),
        ("floor(2.7) + ceil(2.1)", "5"),
        ("max(1, 2.5, 2)", "2.5"),
        ("abs(-3)", "3"),
        ("log(8, 2)", "3"),
        ("round(pi, 4)", "3.1416"),
        ("123456789 * 987654321", "121932631112635269"),
        ("10 ** 30 + 1", "1" + "0" * 29 + "1"),
        ("  2\n", "2"),
        ("1_000 + 1e3", "2000"),
        ("+".join(["1"] * 200), "200"),
        # As people and models write it.
        ("2^10", "1024"),
        ("2^3^2", "512"),
        ("-2^2", "-4"),
        ("2^-1", "0.5"),
        ("17 x 23", "391"),
        ("3x4X2", "24"),
        ("3 × 4 · 2 ÷ 6", "4"),
        ("5 − 2 – 1", "2"),
        ("2 x (3 + 4) x sqrt(4)", "28"),
        ("1,234,567.50 + 1", "1234568.5"),
        ("max(1,234)", "234"),
        ("max((1,234), 2)", "1234"),
        ("12 * 3 =", "36"),
        ("12 * 3 = ?", "36"),
        ("+.5 - -1.", "1.5"),
        ("2 * π - 2 * pi", "0"),
        ("(" * 40 + "1" + ")" * 40, "1"),
        # Percentages.
        ("15% of 80", "12"),
        ("15 percent of 80", "12"),
        ("20%", "0.2"),
        ("80 + 15%", "92"),
        ("80 - 25%", "60"),
        ("80 * 15%", "12"),
        ("200 + 10% of 50", "205"),
        ("100 + 10% + 10%", "121"),
        ("10% + 5%", "0.15"),
        ("100 - (10% + 5%)", "99.85"),
        ("-10% of 50", "-5"),
        ("50% ^ 2", "0.25"),
        ("1/2 of 30", "15"),
        ("7 % 4", "3"),
        ("7 % (2 + 2)", "3"),
        ("7 % -4", "-3.93"),
    ],
)
def test_arithmetic(expression, value):
    assert calculate(expression) == value


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("9**9**9", "too large"),
        ("9**9**9**9", "too large"),
        ("(9**1000)**(9**1000)", "too large"),
        ("2**-(10**9)", "too large"),
        ("10**1233 * 10**1233", "too large"),
        ("0.1**5000", "too large"),
        ("1e400", "too large"),
        ("exp(10000)", "too large"),
        ("1/0", "zero"),
        ("0**-1", "zero"),
        ("5 % 0", "zero"),
        ("(-8)**0.5", "no value"),
        ("sqrt(-1)", "no value"),
        ("log(0)", "no value"),
        ("max()", "no value"),
        ("round(1, 10**9)", "no value"),
        ("sqrt(1, 2)", "no value"),
        ("-" * 400 + "1", "nested"),
        ("(" * 240 + "1" + ")" * 240, "nested"),
        ("2" + "^2" * 200, "nested"),
        ("1e999999999", "too large"),
        ("1" * 501, "characters"),
        ("", "not complete"),
        ("1 +", "not complete"),
        ("(1", "not complete"),
        ("max(1,", "not complete"),
        ("2 * * 3", "'\\* 3' is not arithmetic"),
        ("1)", "not arithmetic"),
        ("()", "not arithmetic"),
        ("1, 2", "not arithmetic"),
        ("% 3", "not arithmetic"),
        ("3(4)", "no operator before '\\(4\\)': write \\*"),
        ("(2)(3)", "no operator"),
        ("2 pi", "no operator"),
        ("2xor 3", "no operator"),
        ("3 4", "no operator"),
        ("0x10", "decimal"),
        ("x", "'x' is not a number"),
        ("x * 3", "'x' is not a number"),
        ("sqrt", "not a number"),
        ("True", "not a number"),
        ("'a' * 9", "not arithmetic"),
        ("1j", "no operator"),
        ("[1] * 9", "not arithmetic"),
        ("1 << 99999", "not arithmetic"),
        ("~1", "not arithmetic"),
        ("1 < 2", "not arithmetic"),
        ("1 == 2", "not arithmetic"),
        ("1 if 1 else 2", "no operator"),
        ("lambda: " + "-" * 400 + "1", "not arithmetic"),
        ("a := 1", "not arithmetic"),
        ("f'{1}'", "not arithmetic"),
        ("__import__('os').system('ls')", "not arithmetic"),
        ("__import__(1)", "no function __import__"),
        ("().__class__.__bases__[0].__subclasses__()", "not arithmetic"),
        ("sqrt.__globals__", "not arithmetic"),
        ("max(*[1, 2])", "not arithmetic"),
        ("round(1, ndigits=2)", "not arithmetic"),
        ("\0", "not arithmetic"),
    ],
)
def test_everything_else_is_refused_at_once(expression, words):
    with pytest.raises(ToolError, match=words):
        calculate(expression)


@given(st.text(alphabet="0123456789.+-*/%^×() eE_,pisqrtmaxlogf", max_size=60))
def test_no_text_does_harm(expression):
    with suppress(ToolError):
        assert len(calculate(expression)) < 1_400


def test_it_is_a_tool():
    assert calculator.call(**calculator.check({"expression": "2+2"})) == "4"


def test_an_expression_that_a_model_writes_ends_before_the_call_does(agent_tokenizer):
    matcher = tools_grammar([calculator.schema()], "required", False, agent_tokenizer).matcher()
    start = '<tool_call>\n{"name":"calculator","arguments":{"expression":"17 × 23'
    for end, taken in (("}}", 0), (" = 391", 1), ('"}}\n</tool_call>', 16)):
        place = matcher.copy()
        assert place.take(list(start.encode())) == len(start.encode())
        assert place.take(list(end.encode())) == taken
    assert place.finished
