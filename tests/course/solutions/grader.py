"""Solution: sets of items."""

BODY = '''    """The share of items that are right."""
    wanted = references(example)[0]
    return Grade(float(answer == wanted))
'''
NEW = '''    """The items in both lists, divided by those in at least one of them."""
    return max((compared(one, answer) for one in references(example)), key=lambda grade: grade.score)


def compared(wanted, answer):
    ours, theirs = parts(wanted), parts(answer)
    wrong = [f"{one} is missing" for one in sorted(ours - theirs)] + [f"{one} is too much" for one in theirs - ours]
    return Grade(len(ours & theirs) / len(ours | theirs), why=", ".join(wrong))


def parts(text):
    return {one.strip().casefold() for one in text.split(",")} - {""}
'''

EDITS = [(BODY, NEW)]
WRONG = [
    ("lists in place of sets", [("len(ours & theirs)", "sum(one.strip() in ours for one in answer.split(','))")],
     4, "apple, apple, apple"),
    ("the first answer only", [("in references(example))", "in references(example)[:1])")], 6, "rouge, vert"),
    ("capitals", [(".casefold()", "")], 2, "'Apple,PEAR , plum' gets"),
    ("recall only", [("len(ours | theirs)", "len(ours)")], 3, "gets 1, not 0.75"),
]  # fmt: skip
