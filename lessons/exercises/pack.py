"""A plugin that adds a pack: what time is it so many minutes after another time?"""

from tinyslm.evaluation.graders import Grade
from tinyslm.packs.pack import Pack, Skill, add_pack


def make(random, split):
    """A row from random numbers, for the split "train" or "test"."""
    hour, minutes = random.randint(0, 20), random.randint(1, 59)
    start, answer = f"{hour:02}:00", f"{hour:02}:{minutes:02}"
    asked = f"What time is it {minutes} minutes after {start}?"
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "start": start, "minutes": minutes, "answer": answer}


def grade(example, answer):
    """Score an answer to a row."""
    return Grade(float(answer == example["answer"]))


LATER = Skill("later", "a time some minutes later", make, grade, max_tokens=16)
add_pack(Pack("clock", "add minutes to times", [LATER]))
