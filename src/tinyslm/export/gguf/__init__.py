"""GGUF, llama.cpp's file format: models written for it, proved in it, and read from it."""

from contextlib import AbstractContextManager, closing
from math import prod
from pathlib import Path

from tinyslm.evaluation.runtimes.llama_cpp import LlamaCpp
from tinyslm.export.format import Format, Scheme, Source, Stored
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.export.gguf.importing import read_source
from tinyslm.export.gguf.reader import Gguf
from tinyslm.export.gguf.writer import write
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors

LONGEST = 2048
"""Tokens that llama.cpp makes room for, unless the model reads fewer: a check needs no more."""


def open_file(path: Path, source: Source, threads: int) -> AbstractContextManager[LlamaCpp]:
    """The file, loaded by llama.cpp until the block ends. Raises `TinyslmError` if llama.cpp does not load it."""
    context = min(ARCHITECTURES[source.config.family].context(source.config), LONGEST)
    has_template = source.tokenizer.chat_template is not None
    size = source.config.vocab_size
    return closing(LlamaCpp(path, context=context, vocab_size=size, has_template=has_template, threads=threads))


def reopen(path: Path, threads: int) -> AbstractContextManager[LlamaCpp]:
    """See `Format`."""
    return open_file(path, read_source(path), threads)


def examine(path: Path) -> Stored:
    """See `Format`; llama.cpp's server leaves one place of the context free."""
    source, places = read_source(path), Gguf(path).tensors.values()
    return Stored(
        source.begin,
        context=min(ARCHITECTURES[source.config.family].context(source.config), LONGEST) - 1,
        vocab_size=source.config.vocab_size,
        bytes=sum(place.size for place in places),
        cached=source.config.cached_values,
        values=sum(prod(place.shape) for place in places),
    )


def supports(model: Decoder) -> str:
    """Why llama.cpp cannot run such a model, or ""."""
    architecture = ARCHITECTURES.get(model.config.family)
    if architecture is None:
        return f"llama.cpp does not have the family {model.config.family}"
    return architecture.why_not(model.config, state_tensors(model))


def longest(model: Decoder) -> int:
    """How many tokens llama.cpp reads right: its server leaves one place of the context free."""
    return min(ARCHITECTURES[model.config.family].context(model.config), LONGEST) - 1


# Mean KL divergence (nats) as measured without calibration, on a model of 15 M parameters trained on stories and on
# SmolLM2-135M, which suffers more as few of its widths fit the blocks (of 256). The bounds are twice the worse or more.
#
#     scheme     f16     bf16    q8_0    q6_k    q5_k_m  q4_k_m  q4_0
#     15 M       1e-6    4e-6    8e-5    2e-4    9e-4    1.3e-3  7e-3
#     SmolLM2    1e-5    1e-4    2.5e-3  7.5e-3  8e-3    3.7e-2  0.3
#
# A file that is wrong (a lost scale, rows in another order) is off by a nat and more.
GGUF = Format(
    name="gguf",
    extra="gguf",
    schemes={
        "f32": Scheme("-F32.gguf", 1e-4, exact=True),
        "f16": Scheme("-F16.gguf", 1e-3),
        "bf16": Scheme("-BF16.gguf", 5e-3),
        "q8_0": Scheme("-Q8_0.gguf", 2e-2),
        "q6_k": Scheme("-Q6_K.gguf", 5e-2),
        "q5_k_m": Scheme("-Q5_K_M.gguf", 1e-1),
        "q4_k_m": Scheme("-Q4_K_M.gguf", 2e-1),
        "q4_0": Scheme("-Q4_0.gguf", 6e-1),
    },
    usual=("f16", "q8_0", "q4_k_m"),
    supports=supports,
    write=write,
    open=open_file,
    longest=longest,
    companions=lambda name: (str(Path(name).with_suffix(".Modelfile")),),
    reopen=reopen,
    examine=examine,
)
