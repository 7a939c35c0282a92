"""What an export format is: a value that writes a model for another runtime, and opens what it wrote there.

A format knows nothing of how exports are judged; `checks.py` knows nothing of how they are made.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinyslm.evaluation.protocols import Runtime
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """A model folder without its weights: what it takes to cut text for it and to run its exports."""

    config: ModelConfig
    tokenizer: Tokenizer

    @property
    def begin(self) -> tuple[int, ...]:
        """What stands before a text: the end of the one before, where the tokenizer says nothing else."""
        return self.tokenizer.start_ids or (self.tokenizer.eos_id,)

    @cached_property
    def vocabulary(self) -> tuple[int, dict[str, int]]:
        """How many tokens the model scores, and the number of each: models with equal ones can be compared."""
        content = self.tokenizer.content
        added = {token["content"]: token["id"] for token in content["added_tokens"]}
        vocab = content["model"]["vocab"]
        numbers = vocab if isinstance(vocab, dict) else {piece: number for number, (piece, _) in enumerate(vocab)}
        return self.config.vocab_size, {**numbers, **added}


@dataclass(frozen=True)
class Original:
    """The model that is exported: its folder, its weights in fp32 and its tokenizer."""

    folder: Path
    model: Decoder
    tokenizer: Tokenizer

    @property
    def source(self) -> Source:
        """The same without the weights."""
        return Source(self.model.config, self.tokenizer)


@dataclass(frozen=True)
class Options:
    """What a format may need besides the model.

    calibration: texts to measure which weights matter most, for schemes that use it. threads: for every runtime.
    """

    calibration: Sequence[str] = ()
    threads: int = 1


@dataclass(frozen=True)
class Written:
    """What was written: one file or one folder; `notes` names every tensor that could not have the scheme."""

    path: Path
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Stored:
    """What an export says of itself.

    begin: what stands before a text (see `Source`). context: how many tokens its program reads; vocab_size: how many it
    knows. bytes: of its weights; values: how many these are, if it says so. cached: values in the KV cache per token.
    """

    begin: tuple[int, ...]
    context: int
    vocab_size: int
    bytes: int
    cached: int
    values: int | None = None


@dataclass(frozen=True)
class Format:
    """One export format.

    extra: the optional dependency group that writing and opening need.
    schemes: what numbers can be stored as, each with the largest mean KL divergence (nats) from the original that
    still counts as working, and whether greedy tokens must be equal. usual: the schemes made when none is asked for.
    supports: why a model cannot be written in this format, or "" if it can.
    write: to a path that does not exist, in a folder of the export's own; what goes with it (a Modelfile) stands next
    to it, and names it without its folder. open: runs what lies at a path, made from this source, on so many threads
    until the block ends. longest: how many tokens the runtime reads and computes as the model does. companions: from
    the name of what is written, the names of the files next to it. reopen, examine: as `open`, and what it says of
    itself, for a path alone; `None` where what is written is read as a model folder.
    """

    name: str
    extra: str
    schemes: dict[str, "Scheme"]
    usual: Sequence[str]
    supports: Callable[[Decoder], str]
    write: Callable[[Original, str, Path, Options], Written]
    open: Callable[[Path, Source, int], AbstractContextManager[Runtime]]
    longest: Callable[[Decoder], int] = lambda model: model.config.longest
    companions: Callable[[str], Sequence[str]] = lambda name: ()
    reopen: Callable[[Path, int], AbstractContextManager[Runtime]] | None = None
    examine: Callable[[Path], Stored] | None = None


@dataclass(frozen=True)
class Scheme:
    """How numbers are stored, and what is demanded of the result.

    suffix: what the file or folder is called after the model's name, such as `-q4_k_m.gguf`. largest_kl: nats, mean.
    exact: whether greedy tokens must be equal, but for ties.
    """

    suffix: str
    largest_kl: float
    exact: bool = False
