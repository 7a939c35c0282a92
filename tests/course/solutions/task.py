"""Solution: nouns times verbs times words that follow, in the singular and in the plural."""

ROW = '    yield "row 1", {"good": "The cat sleeps.", "bad": "The cat sleep."}\n'
ROWS = """    for noun in ("cat", "dog", "child's friend", "teacher", "bird"):
        for verb in ("sleep", "wait", "sing", "work"):
            for after in ("today", "in the garden", "again"):
                one, many = f"{verb}s {after}.", f"{verb} {after}."
                yield f"{noun} {verb} {after}", {"good": f"The {noun} {one}", "bad": f"The {noun} {many}"}
                yield f"{noun}s {verb} {after}", {"good": f"The {noun}s {many}", "bad": f"The {noun}s {one}"}
"""
PLURAL = ROWS.splitlines(keepends=True)[-1]

EDITS = [(ROW, ROWS)]
WRONG = [
    ("too few", [('"dog", "child\'s friend", "teacher", "bird"', '"dog"')], 1, "It has 48 examples"),
    ("the longer one is right", [(PLURAL, PLURAL.replace("noun}s", "noun}").replace("{many}", "x{one}")
                                  .replace('bad": f"The {noun} {one}', 'bad": f"The {noun} x{many}'))],
     4, "the longer sentence is right"),
    ("twice", [(PLURAL, PLURAL * 2)], 2, "occur twice"),
]  # fmt: skip
