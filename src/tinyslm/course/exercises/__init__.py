"""The exercises, in the order of their difficulty."""

from tinyslm.course.exercises.exercise import EXERCISES, Check, Exercise
from tinyslm.course.exercises.family import FAMILY
from tinyslm.course.exercises.grader import GRADER
from tinyslm.course.exercises.grouping import GROUPING
from tinyslm.course.exercises.kv_cache import KV_CACHE
from tinyslm.course.exercises.pack import PACK
from tinyslm.course.exercises.rope import ROPE
from tinyslm.course.exercises.sampler import SAMPLER
from tinyslm.course.exercises.splitting import SPLITTING
from tinyslm.course.exercises.stage import STAGE
from tinyslm.course.exercises.task import TASK
from tinyslm.course.exercises.tokenizer import TOKENIZER
from tinyslm.course.exercises.tying import TYING

EXERCISES.add("tying", TYING)
EXERCISES.add("sampler", SAMPLER)
EXERCISES.add("splitting", SPLITTING)
EXERCISES.add("rope", ROPE)
EXERCISES.add("grouping", GROUPING)
EXERCISES.add("kv_cache", KV_CACHE)
EXERCISES.add("grader", GRADER)
EXERCISES.add("task", TASK)
EXERCISES.add("tokenizer", TOKENIZER)
EXERCISES.add("pack", PACK)
EXERCISES.add("family", FAMILY)
EXERCISES.add("stage", STAGE)

__all__ = ["EXERCISES", "Check", "Exercise"]
