"""A plugin that adds a task: does a model prefer the sentence whose verb agrees with its subject?"""

from tinyslm.evaluation.tasks.loading import TASKS
from tinyslm.evaluation.tasks.scored import PAIRS
from tinyslm.evaluation.tasks.task_config import TaskConfig


def rows():
    """The examples: pairs of a location for messages and a row."""
    yield "row 1", {"good": "The cat sleeps.", "bad": "The cat sleep."}


TASKS.add("agreement", TaskConfig(PAIRS, make=rows, about="subjects and verbs that agree"))
