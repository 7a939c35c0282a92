"""The chapters, in the order of the article."""

from tinyslm.course.chapter import CHAPTERS
from tinyslm.course.chapters.article import ARTICLE
from tinyslm.course.chapters.attention import ATTENTION
from tinyslm.course.chapters.embeddings import EMBEDDINGS
from tinyslm.course.chapters.prediction import PREDICTION
from tinyslm.course.chapters.residual import RESIDUAL
from tinyslm.course.chapters.scale import SCALE
from tinyslm.course.chapters.tokens import TOKENS
from tinyslm.course.chapters.training import TRAINING

CHAPTERS.add("tokens", TOKENS)
CHAPTERS.add("embeddings", EMBEDDINGS)
CHAPTERS.add("attention", ATTENTION)
CHAPTERS.add("residual", RESIDUAL)
CHAPTERS.add("prediction", PREDICTION)
CHAPTERS.add("training", TRAINING)
CHAPTERS.add("scale", SCALE)
CHAPTERS.add("article", ARTICLE)

__all__ = ["CHAPTERS"]
