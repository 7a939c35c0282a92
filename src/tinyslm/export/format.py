"""What an export format is: a value that writes a model for another runtime, and opens what it wrote there.

A format knows nothing of how exports are judged; `checks.py` knows nothing of how they are made.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Original:
    """The model that is exported: its folder, its weights in fp32 and its tokenizer."""

    folder: Path
    model: Decoder
    tokenizer: Tokenizer


@dataclass(frozen=True)
class Options:
    """What a format may need beside the model.

    calibration: texts to measure which weights matter most, for schemes that use it. threads: for every runtime.
    """

    calibration: Sequence[str] = ()
    threads: int = 1


@dataclass(frozen=True)
class Written:
    """What was written: one file or one folder; `notes` names every tensor that could not have the scheme."""

    path: Path
    notes: Sequence[str] = ()


class Runtime(Protocol):
    """An exported model, loaded by the program that users will run it with."""

    def encode(self, text: str) -> list[int]:
        """Ids of a text as this runtime's own tokenizer makes them, special tokens read as text, none added."""

    def next_logprobs(self, ids: Sequence[int]) -> NDArray[Any]:
        """Natural logarithms of the probabilities of every token after `ids`, fp32 `[vocab_size]`."""

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """At most `count` most probable tokens after `ids`; ends before an end token of the model."""

    def encode_chat(self, messages: Sequence[dict[str, str]]) -> list[int] | None:
        """Ids of a conversation by the runtime's own reading of the chat template, with the generation prompt.

        `None` where the runtime has no such thing, or the model no template.
        """


@runtime_checkable
class Scoring(Protocol):
    """What a runtime has beside `Runtime` where it can score a whole sequence at once; then this is used instead."""

    def all_logprobs(self, ids: Sequence[int]) -> NDArray[Any]:
        """`next_logprobs` after each of `ids`, fp32 `[len(ids), vocab_size]`: row t is what follows `ids[: t + 1]`."""


@dataclass(frozen=True)
class Format:
    """One export format.

    extra: the optional dependency group that writing and opening need.
    schemes: what numbers can be stored as, each with the largest mean KL divergence (nats) from the original that
    still counts as working, and whether greedy tokens must be equal. usual: the schemes made when none is asked for.
    supports: why a model cannot be written in this format, or "" if it can.
    write: to a path that does not exist, in a folder of the export's own; what goes with it (a Modelfile) stands beside
    it, and names it without its folder. open: loads it, until the block ends. longest: how many tokens the runtime
    reads and computes as the model does. beside: from the name of what is written, the names of what stands beside it.
    """

    name: str
    extra: str
    schemes: dict[str, "Scheme"]
    usual: Sequence[str]
    supports: Callable[[Decoder], str]
    write: Callable[[Original, str, Path, Options], Written]
    open: Callable[[Written, Original, Options], AbstractContextManager[Runtime]]
    longest: Callable[[Decoder], int] = lambda model: model.config.longest
    beside: Callable[[str], Sequence[str]] = lambda name: ()


@dataclass(frozen=True)
class Scheme:
    """How numbers are stored, and what is demanded of the result.

    suffix: what the file or folder is called after the model's name, such as `-q4_k_m.gguf`. largest_kl: nats, mean.
    exact: whether greedy tokens must be equal, but for ties.
    """

    suffix: str
    largest_kl: float
    exact: bool = False
