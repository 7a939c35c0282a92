"""What the verbs that generate text share: which engine, what the text must look like, how a prompt is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.core.config import Section

if TYPE_CHECKING:
    import torch

    from tinyslm.inference.engine import Engine
    from tinyslm.inference.settings import SamplingSettings
    from tinyslm.serving.automation.asking import Asking
    from tinyslm.serving.automation.form import Form

FAILED = 4
"""Exit code of a command that came to its end, though not everything in it succeeded."""

NO_HEAL = "Turn off token healing: keep the prompt's last tokens even if the prompt ends inside a longer one."

Text = Parameter(allow_leading_hyphen=True)


class FormOptions(Section):
    """What the text must look like: at most one of them."""

    json_form: Annotated[str | None, Parameter(name="--schema", allow_leading_hyphen=True)] = Field(
        default=None, description="A JSON schema that the text is to satisfy: a file, or JSON that begins with a brace."
    )
    regex: Annotated[str | None, Text] = Field(
        default=None, description="A regular expression that the whole text is to match."
    )
    choice: Annotated[tuple[str, ...], Text] = Field(
        default=(), description="A text that may be the answer; given several times, it is one of these."
    )
    grammar: str | None = Field(default=None, description="A file with a Lark grammar that the text is to follow.")

    def form(self) -> Form | None:
        """What the options ask for, if anything."""
        from tinyslm.serving.automation.form import form_of

        return form_of(schema=self.json_form, regex=self.regex, choices=self.choice, grammar=self.grammar)


class PromptOptions(FormOptions):
    """How a row becomes a prompt (without a template or column it is a request itself), and what the answer must be."""

    template: Annotated[str, Text] = Field(
        default="",
        description="Jinja that makes a prompt of a row's columns, as {{ title }}; @FILE reads it from a file.",
    )
    column: str = Field(default="", description="The column that is the prompt.")
    system: Annotated[str, Text] = Field(default="", description="A system message before each; includes --chat.")
    chat: bool = Field(default=False, description="The prompt is what a user says: answer it, do not go on from it.")
    no_heal: bool = Field(default=False, description=NO_HEAL)

    def asking(self, sampling: SamplingSettings) -> Asking:
        """What all rows have in common."""
        from tinyslm.core.text_files import read_small_text
        from tinyslm.serving.automation.asking import Asking

        named = self.template.startswith("@")
        template = read_small_text(Path(self.template[1:]), "--template") if named else self.template
        return Asking(template, self.column, self.system, self.chat, self.form(), sampling, not self.no_heal)


class EngineOptions(Section):
    """What computes."""

    engine: str = Field(
        default="auto", description="What computes: native, torch, onnx or llama.cpp; auto: the fastest of them."
    )
    dtype: str = Field(
        default="auto",
        description="Number format to compute in: fp32, bf16, or auto: bf16 for a model stored in it, where the "
        "hardware has it, else fp32.",
    )


def wanted_dtype(name: str) -> torch.dtype | None:
    """The number format called `name`; `None` for auto, which depends on the model. Raises `TinyslmError`."""
    from tinyslm.hardware.device import pick_device, pick_dtype

    return None if name == "auto" else pick_dtype(pick_device(), name)


@contextmanager
def opened(model: Path, options: EngineOptions, *, threaded: bool = True) -> Iterator[Engine]:
    """An engine for a model folder, a run folder, a GGUF file or an ONNX folder; it is closed with the block."""
    from tinyslm.export.engines import open_engine

    made = open_engine(model, options.engine, dtype=wanted_dtype(options.dtype))
    try:
        if threaded:
            made.start()
        yield made
    finally:
        made.close()
