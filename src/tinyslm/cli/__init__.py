"""The command line: one small file for each verb, imported only when the verb is used."""

import atexit
import errno
import gc
import os
import sys
from difflib import get_close_matches
from importlib.metadata import version

from cyclopts import App, CycloptsError, Group, MissingArgumentError, Parameter, UnknownOptionError
from cyclopts.exceptions import UnknownCommandError, UnusedCliTokensError

from tinyslm.cli.options import SETTING, gather
from tinyslm.core.console import fail
from tinyslm.core.errors import TinyslmError

app = App(
    name="tinyslm",
    help="Build your own small language model: from a folder of text to a trained, measured and usable model.",
    version=lambda: version("tinyslm"),
    suppress_keyboard_interrupt=False,
    default_parameter=Parameter(negative=()),  # no --no-json
)
MAKE = Group("Make a model", sort_key=1)
TEACH = Group("Teach it a job", sort_key=2)
MEASURE = Group("Measure it", sort_key=3)
USE = Group("Use it", sort_key=4)
SHIP = Group("Ship it", sort_key=5)
OPTIONS = Group("Options", sort_key=6)

data = App(name="data", help="Turn text into token shards; check examples for fine-tuning.", group=MAKE, sort_key=6)
tokenizer = App(name="tokenizer", help="Make and compare tokenizers.", group=MAKE, sort_key=6)
packs = App(name="packs", help="Everything for one job: examples, graders, a recipe, tasks.", group=TEACH, sort_key=99)


def _add(group: Group, place: str, help: str, name: str = "") -> None:  # noqa: A002
    """Add a verb, shown after those that were added before."""
    name = name or place.partition(":")[0]
    app.command(f"tinyslm.cli.{place}", name=name, help=help, group=group, sort_key=len([*app]))


_add(MAKE, "quickstart:quickstart", "Train a model on the Python standard library, in minutes.")
_add(MAKE, "train:train", "Train a model on your own text, or resume a run.")
_add(MAKE, "plan:plan", "Say beforehand what a training would take and reach.")
_add(MAKE, "config:config", "List every setting of a training run as a TOML file.")
_add(MAKE, "doctor:doctor", "Say what this machine offers, and what that means.")
_add(TEACH, "finetune:finetune", "Teach a model a job by examples.")
_add(MEASURE, "evaluate:evaluate", "Score a model on tasks, or on text in bits per byte.")
_add(MEASURE, "compare:compare", "Compare models in size, quality and speed.")
_add(MEASURE, "show:show", "Explain a model folder, shards or a run folder.")
_add(MEASURE, "look:look", "Write a page that shows how a model reads a text.")
_add(MEASURE, "learn:learn", "Write a course on every part of a model, with its own numbers; check exercises.")
_add(USE, "pull:pull", "Get a model: a known one, or any of the Hugging Face hub.")
_add(USE, "import_:import_", "Make a model folder from a GGUF file.", "import")
_add(USE, "generate:generate", "Continue a prompt with a model.")
_add(USE, "chat:chat", "Talk with a model in the terminal.")
_add(USE, "batch:batch", "Answer every row of a file; resumes after an interruption.")
_add(USE, "watch:watch", "Answer the new files of a folder.")
_add(USE, "agent:agent", "Let a model do a task with tools.")
_add(SHIP, "quantize:quantize", "Write a model in fewer bits, and say what that changed.")
_add(SHIP, "export:export", "Write a model for other programs, and check it there.")
_add(SHIP, "serve:serve", "Serve models through OpenAI's API, with a chat page.")
_add(SHIP, "deploy:deploy", "Make a folder that is ready to publish, and check it.")
_add(SHIP, "card:card", "Print the model card.")
_add(SHIP, "mcp:mcp", "Be an MCP server: complete, chat, classify, extract.")
data.command("tinyslm.cli.data:prepare", help="Read, clean, deduplicate, split and encode text.")
data.command("tinyslm.cli.extend:extend", help="Have a larger model write more examples like yours.")
data.command(
    "tinyslm.cli.check_grader:check_grader", name="check-grader", help="Try a grader on answers that cannot be right."
)
data.command("tinyslm.cli.lint:lint", help="Check examples for fine-tuning, and show which tokens are learned.")
tokenizer.command("tinyslm.cli.tokenizer:train", help="Train a tokenizer on text.")
tokenizer.command("tinyslm.cli.compare_tokenizers:compare", help="Compare tokenizers on a text.")
packs.command("tinyslm.cli.packs:list_", name="list", help="List the packs.")
packs.command("tinyslm.cli.packs:show", help="Show what a pack teaches.")
packs.command("tinyslm.cli.packs:data", help="Write the rows of a pack.")
packs.command("tinyslm.cli.packs:train", help="Teach a model a pack.")
packs.command("tinyslm.cli.packs:evaluate", help="Score a model on the tasks of a pack.")
packs.command("tinyslm.cli.packs:demo", help="Let a taught model do the pack's job on a file.")
app.command(data)
app.command(packs)
app.command(tokenizer)
app["--help"].group = app["--version"].group = OPTIONS


NOT_OURS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of the file system that are not the program's fault."""


def main() -> None:
    """Run the command line; a user's mistake prints two lines and exits with code 2.

    Started several times, as torchrun does, the processes train together, and the first of them does everything else.
    """
    # Threads that wait for each other spin by default; where other programs use the processor too, that takes from
    # both. A short spin costs nothing on a quiet machine (docs/LOG.md).
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    atexit.register(gc.freeze)  # else Python looks through all that there is for cycles at its end: up to a second
    if os.environ.get("WORLD_SIZE", "1") != "1" and "RANK" in os.environ:
        from tinyslm.training.processes import run_together

        run_together(_run)
    _run()


def _run() -> None:
    try:
        app(gather(sys.argv[1:]), exit_on_error=False, print_error=False)
    except TinyslmError as error:
        _leave(error.problem, error.remedy)
    except CycloptsError as error:
        command = " ".join(["tinyslm", *(error.command_chain or ())])
        _leave(_explain(error), f"See what is possible: {command} --help")
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has left; there is nobody to tell
        sys.exit(0)
    except OSError as error:
        if error.errno not in NOT_OURS and "temporary directory" not in str(error):
            raise
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}.", "Check the permissions and the space there, or give another path.")


def _explain(error: CycloptsError) -> str:
    """What is wrong with the command line, in one line."""
    if isinstance(error, UnknownOptionError) and SETTING in (error.token.keyword, error.token.value.partition("=")[0]):
        key = next(argument.split("=")[1] for argument in gather(sys.argv[1:]) if argument.startswith(SETTING))
        return f"Unknown option: --{key}. This command has no settings."
    if isinstance(error, UnknownCommandError):  # its own text would import every verb
        name, *_ = error.unused_tokens or [""]
        close = get_close_matches(name, [*(error.app or app)], n=1)
        return f'Unknown command "{name}".{f""" Did you mean "{close[0]}"?""" if close else ""}'
    if isinstance(error, UnusedCliTokensError):
        return f"Unexpected: {' '.join(error.unused_tokens or ())}. Quotes make one text of several words."
    if isinstance(error, MissingArgumentError) and error.argument and not error.argument.tokens and not error.keyword:
        return f"{error.argument.name} is missing."
    details = getattr(error.__cause__, "errors", None)  # of a value that pydantic refused
    if details is None:
        return " ".join(str(error).split())
    from tinyslm.core.config import wrong_value

    return "; ".join(
        f"--{'-'.join(map(str, mistake['loc'])).replace('_', '-')} {wrong_value(mistake)}"
        for mistake in details(include_url=False)
    )


def _leave(problem: str, remedy: str) -> None:
    fail(problem, remedy)
    sys.exit(2)
