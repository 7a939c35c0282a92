"""Solution: minutes since midnight, wordings for each split, the last time of an answer."""

MAKE = """    hour, minutes = random.randint(0, 20), random.randint(1, 59)
    start, answer = f"{hour:02}:00", f"{hour:02}:{minutes:02}"
    asked = f"What time is it {minutes} minutes after {start}?"
"""
NEW = """    begin, minutes = random.randrange(1440), random.randint(1, 300)
    start, answer = clock(begin), clock(begin + minutes)
    asked = random.choice(ASKED[split]).format(minutes=minutes, start=start)
"""
TABLE = """ASKED = {
    "train": ("What time is it {minutes} minutes after {start}?", "{start} plus {minutes} minutes"),
    "test": ("It is {start}. And in {minutes} minutes?", "Add {minutes} minutes to {start}."),
}


def clock(minutes):
    hour, minute = divmod(minutes % 1440, 60)
    return f"{hour:02}:{minute:02}"


"""
GRADE = '    return Grade(float(answer == example["answer"]))\n'
NEW_GRADE = r"""    times = re.findall(r"(?<![\d:])(\d{1,2}):(\d{2})(?![\d:])", answer)
    return Grade(float(bool(times) and f"{int(times[-1][0]):02}:{times[-1][1]}" == example["answer"]))
"""

EDITS = [
    ("from tinyslm.evaluation", "import re\n\nfrom tinyslm.evaluation"),
    (MAKE, NEW),
    ("def make(", TABLE + "def make("),
    (GRADE, NEW_GRADE),
]
WRONG = [
    ("25:10", [("divmod(minutes % 1440, 60)", "divmod(minutes, 60)")], 2, "it is 0"),
    ("one wording for both", [("ASKED[split]", "ASKED['train']")], 4, "occurs in both splits"),
    ("the first time", [("times[-1][0]", "times[0][0]"), ("times[-1][1]", "times[0][1]")], 5, "08:50 plus 15"),
    ("contains", [(NEW_GRADE, '    return Grade(float(example["answer"] in answer))\n')], 5, "'9:05' for 09:05 gets"),
]
