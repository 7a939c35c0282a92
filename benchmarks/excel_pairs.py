"""The generator of the pack excel: how fast it makes requests with formulas, and whether the formulas are right.

    python benchmarks/excel_pairs.py [--pairs 100000] [--executed 5000]

A sample of the pairs is graded as an answer would be: computed on the sheet and on two altered ones, filled down where
the formula belongs to a row, and cross-checked by a second engine.
"""

import time
from collections import Counter
from random import Random

from harness import finish, parser
from tinyslm.packs.excel.formulas import functions_of
from tinyslm.packs.excel.grading import grade_formula
from tinyslm.packs.excel.requests import make_request


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--pairs", type=int, default=100_000)
    options.add_argument("--executed", type=int, default=5_000)
    given = options.parse_args()
    random, seen = Random(1), {}
    began = time.perf_counter()
    while len(seen) < given.pairs:
        made = make_request(random, "train" if random.random() < 0.9 else "test")
        seen[hash((made.text, made.formula, str(made.table.sheet)))] = made
    seconds = time.perf_counter() - began
    pairs = list(seen.values())
    outcomes: Counter[str] = Counter()
    wrong = []
    began = time.perf_counter()
    for made in Random(2).sample(pairs, min(given.executed, len(pairs))):
        grade = grade_formula(made.fields(), made.formula)
        outcomes["right" if grade.score == 1 else "wrong"] += 1
        outcomes["engines disagree"] += bool(grade.parts.get("disagreed"))
        if grade.score != 1:
            wrong.append({"request": made.text, "formula": made.formula, "why": grade.why})
    functions = Counter(name for made in pairs for name in functions_of(made.formula))
    finish(
        {
            "pairs": len(pairs),
            "seconds": round(seconds, 1),
            "functions": len(functions),
            "executed": sum(outcomes[name] for name in ("right", "wrong")),
            **outcomes,
            "milliseconds per execution": round(1000 * (time.perf_counter() - began) / given.executed, 1),
            "wrong ones": wrong[:20],
        }
    )


if __name__ == "__main__":
    main()
