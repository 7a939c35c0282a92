"""The chapters, in the order of the article."""

from tinyslm.course.chapter import CHAPTERS
from tinyslm.course.chapters.attention import ATTENTION
from tinyslm.course.chapters.prediction import PREDICTION
from tinyslm.course.chapters.residual import RESIDUAL
from tinyslm.course.chapters.tokens import TOKENS

CHAPTERS.add("tokens", TOKENS)
CHAPTERS.add("attention", ATTENTION)
CHAPTERS.add("residual", RESIDUAL)
CHAPTERS.add("prediction", PREDICTION)

__all__ = ["CHAPTERS"]
