"""What a bundle is asked to be. Imports nothing heavy: the command line reads it for its help."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tinyslm.core.config import Section


class BundleSettings(Section):
    """What a bundle is asked to be."""

    title: str = Field(default="", max_length=100, description="Title for people; by default the model's name.")
    pack: str = Field(default="", description="A pack whose page is deployed too: excel.")
    sdk: Literal["static", "gradio", "docker"] | None = Field(
        default=None, description="For a Space, what runs it: static (the default), gradio or docker."
    )
    licence: str = Field(
        default="",
        description="The licence that you give the model, as the Hugging Face hub calls it (apache-2.0, mit, ...), if "
        "no file says.",
    )
    scores: tuple[Path, ...] = Field(
        default=(),
        description="A file of scores (`tinyslm evaluate --out`) for the model card; may be given several times.",
    )
    fresh: bool = Field(
        default=False,
        description="Check a Gradio Space in a new environment with its own requirements, which takes minutes.",
    )
    runtime: tuple[Path, ...] = Field(
        default=(),
        description="For a page without a network: an archive that `npm pack` wrote; may be given several times.",
    )
