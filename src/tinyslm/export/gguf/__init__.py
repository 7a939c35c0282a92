"""GGUF, llama.cpp's file format: models written for it, proved in it, and read from it."""

from tinyslm.export.format import Format, Scheme
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.export.gguf.llama_cpp import open_file
from tinyslm.export.gguf.writer import write
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import state_tensors


def supports(model: Decoder) -> str:
    """Why llama.cpp cannot run such a model, or ""."""
    architecture = ARCHITECTURES.get(model.config.family)
    if architecture is None:
        return f"llama.cpp does not have the family {model.config.family}"
    return architecture.why_not(model.config, state_tensors(model))


GGUF = Format(
    name="gguf",
    extra="gguf",
    schemes={
        "f32": Scheme("-F32.gguf", 1e-4, exact=True),
        "f16": Scheme("-F16.gguf", 1e-3),
        "bf16": Scheme("-BF16.gguf", 5e-3),
        "q8_0": Scheme("-Q8_0.gguf", 1e-2),
        "q6_k": Scheme("-Q6_K.gguf", 5e-2),
        "q5_k_m": Scheme("-Q5_K_M.gguf", 1e-1),
        "q4_k_m": Scheme("-Q4_K_M.gguf", 3e-1),
        "q4_0": Scheme("-Q4_0.gguf", 5e-1),
    },
    usual=("f16", "q8_0", "q4_k_m"),
    supports=supports,
    write=write,
    open=open_file,
)
