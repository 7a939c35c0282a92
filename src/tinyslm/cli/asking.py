"""Options of the verbs that generate text: the engine, constraints on the text, the prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter, Token
from pydantic import AfterValidator, Field

from tinyslm.core.config import Section

if TYPE_CHECKING:
    import torch

    from tinyslm.batch.prompts import PromptTemplate
    from tinyslm.evaluation.runtimes.endpoint import Endpoint
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.output_constraint import OutputConstraint
    from tinyslm.inference.settings import SamplingSettings

FAILED = 4
"""Exit code of a command that completed with failures."""

NO_HEAL = "Turn off token healing: keep the prompt's last tokens even if the prompt ends inside a longer one."


def given_text(given: str) -> str:
    """A text that the user gave: itself, or for `@FILE` what is in that file, without its last line end.

    A text that begins with `@` is given as `@@`. Raises `TinyslmError` for a file that cannot be read.
    """
    from tinyslm.core.files import in_home
    from tinyslm.core.text_files import read_small_text

    if not given.startswith("@"):
        return given
    if given.startswith("@@"):
        return given[1:]
    text = read_small_text(in_home(given[1:]), "@FILE; a text that begins with @ is given as @@")
    return text.removesuffix("\n").removesuffix("\r")


def _from_token(_kind: object, tokens: Sequence[Token]) -> str:
    return given_text(tokens[0].value)


AnyValue = Parameter(allow_leading_hyphen=True)
"""A value that may look like an option."""
Text = Parameter(allow_leading_hyphen=True, converter=_from_token)
"""The same for a text among a verb's parameters: `@FILE` reads it from a file."""
TextArgument = Parameter(converter=_from_token)
"""The same for one that is given without an option's name; there, what looks like an option is one."""
FromFile = AfterValidator(given_text)
TextField = Annotated[str, AnyValue, FromFile]
"""The same in a section."""


class ConstraintOptions(Section):
    """Constraints on the text: at most one of them."""

    output_schema: Annotated[str | None, Parameter(name="--schema", allow_leading_hyphen=True)] = Field(
        default=None, description="A JSON schema that the text must satisfy: a file, or JSON that begins with a brace."
    )
    regex: Annotated[str | None, AnyValue] = Field(
        default=None, description="A regular expression that the whole text must match."
    )
    choice: Annotated[tuple[str, ...], AnyValue] = Field(
        default=(), description="An allowed text; may be given several times."
    )
    grammar: str | None = Field(default=None, description="A file with a Lark grammar that the text must follow.")

    def constraint(self) -> OutputConstraint | None:
        """The constraint that the options ask for."""
        from tinyslm.inference.output_constraint import constraint_from_options

        return constraint_from_options(
            schema=self.output_schema, regex=self.regex, choices=self.choice, grammar=self.grammar
        )


class PromptOptions(ConstraintOptions):
    """How a row becomes a prompt; without a template or column, the row is a request itself."""

    template: TextField = Field(
        default="",
        description="Jinja that makes a prompt from a row's columns, such as {{ title }}; @FILE reads it from a file.",
    )
    column: str = Field(default="", description="The column that is the prompt.")
    system: TextField = Field(default="", description="A system message before each prompt; implies --chat.")
    chat: bool = Field(default=False, description="The prompt is a user's message: answer it instead of continuing it.")
    no_heal: bool = Field(default=False, description=NO_HEAL)

    def prompt_template(self, sampling: SamplingSettings) -> PromptTemplate:
        """The template of all rows."""
        from tinyslm.batch.prompts import PromptTemplate

        return PromptTemplate(
            self.template, self.column, self.system, self.chat, self.constraint(), sampling, not self.no_heal
        )


class ComputingOptions(Section):
    """What computes."""

    engine: str = Field(
        default="auto",
        description="What computes: native (compiled for this processor), torch; auto: native where possible.",
    )
    dtype: str = Field(
        default="auto",
        description="Number format to compute in: fp32, bf16, or auto: bf16 for a model stored in it, where the "
        "hardware has it, else fp32.",
    )


class EngineOptions(ComputingOptions):
    """What computes, and with which weights."""

    adapter: Path | None = Field(
        default=None,
        description="An adapter of the model: its folder, or the run folder of the fine-tuning that trained it.",
    )
    yes: bool = Field(
        default=False, description="Pull MODEL without asking if it is a name in `tinyslm pull --list` and not here."
    )


class GeneratorOptions(EngineOptions):
    """What computes: an engine here, or a server."""

    endpoint: str = Field(
        default="",
        description="The address of a server that speaks OpenAI's API and runs the model instead; MODEL is then the "
        "server's name of it. The key is read from OPENAI_API_KEY.",
    )


def wanted_dtype(name: str) -> torch.dtype | None:
    """The number format called `name`; `None` for auto, which depends on the model. Raises `TinyslmError`."""
    from tinyslm.hardware.device import pick_device, pick_dtype

    return None if name == "auto" else pick_dtype(pick_device(), name)


@contextmanager
def model_folder(model: Path) -> Iterator[Path]:
    """A model folder or run folder; of a GGUF file what is imported from it, of an unfinished run its best weights."""
    from tinyslm.core.console import warn
    from tinyslm.export.gguf_cache import model_folder_of
    from tinyslm.model.folder import is_unfinished

    if not is_unfinished(model):
        yield model_folder_of(model)
        return
    from tinyslm.training.unfinished import best_so_far

    with best_so_far(model) as (folder, step):
        warn(f"The run in {model} has not ended: this is its best model so far, of step {step:,}.")
        yield folder


@contextmanager
def opened(model: Path, options: EngineOptions, *, threaded: bool = True) -> Iterator[Engine]:
    """An engine for what `model_folder` takes; it is closed with the block."""
    from tinyslm.cli.pull import pulled
    from tinyslm.core.console import notice

    model = pulled(model, yes=options.yes)
    if threaded:
        notice(f"Loading {model} ...")  # before the imports, which take a second
    from tinyslm.inference.opening import open_engine
    from tinyslm.model.adapted import AdaptedModel

    with model_folder(model) as folder:
        source = AdaptedModel(folder, options.adapter) if options.adapter else folder
        made = open_engine(source, options.engine, dtype=wanted_dtype(options.dtype))
        try:
            if threaded:
                made.start()
            yield made
        finally:
            made.close()


@contextmanager
def opened_generator(
    model: str | Path, options: GeneratorOptions, *, threaded: bool = True
) -> Iterator[Engine | Endpoint]:
    """The server of `--endpoint`, or an engine for the model's path."""
    from tinyslm.core.errors import TinyslmError
    from tinyslm.evaluation.runtimes.endpoint import Endpoint

    if options.endpoint and options.adapter:
        raise TinyslmError("--adapter does not go with --endpoint.", "Give the server's name of the adapter as MODEL.")
    if options.endpoint:
        yield Endpoint(options.endpoint, str(model))
        return
    with opened(Path(model), options, threaded=threaded) as engine:
        yield engine
