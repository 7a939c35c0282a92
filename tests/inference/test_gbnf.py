"""Output constraints as grammars of llama.cpp."""

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.gbnf import gbnf_of
from tinyslm.inference.output_constraint import OutputConstraint


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [
        ("choice", ["yes", 'say "no"', "a\\b"], 'root ::= "yes" | "say \\"no\\"" | "a\\\\b"\n'),
        ("regex", r"[0-9]{1,3}(\.[0-9]+)? kg", 'root ::= [0-9]{1,3} ( "." [0-9]+ )? " " "k" "g"\n'),
        ("regex", r"a.|\d*\$", 'root ::= "a" [^\\n] | [0-9]* "$"\n'),
        ("grammar", 'start: "x" one?\none: T_T | "(" one ")"\nT_T: /a\\/[^"\\n]/\n',
         'root ::= "x" one?\none ::= T-T | "(" one ")"\nT-T ::= ("a" "/" [^"\\n])\n'),
    ],
)  # fmt: skip
def test_conversion(kind: str, value: object, wanted: str) -> None:
    assert gbnf_of(OutputConstraint(kind, value)) == wanted


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("schema", {"type": "object"}),
        ("regex", r"\bword"),
        ("regex", "^a$"),
        ("grammar", "%import common.INT\nstart: INT"),
        ("grammar", "start: a -> b"),
    ],
)
def test_what_is_not_converted(kind: str, value: object) -> None:
    with pytest.raises(TinyslmError, match=r"llama\.cpp"):
        gbnf_of(OutputConstraint(kind, value))
