"""A plugin that adds a grader: answers that are lists of items, separated by commas."""

from tinyslm.evaluation.graders import GRADERS, Grade, references


@GRADERS.register("items")
def items(example, answer):
    """The share of items that are right."""
    wanted = references(example)[0]
    return Grade(float(answer == wanted))
