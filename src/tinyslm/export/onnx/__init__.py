"""The format "onnx": a folder that ONNX Runtime and onnxruntime-genai run as it is, with no PyTorch and no tinyslm."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from tinyslm.core.errors import require_extra
from tinyslm.core.files import atomic_folder
from tinyslm.evaluation.runtimes.onnx_runtime import OnnxRuntime
from tinyslm.export.format import Format, Options, Original, Scheme, Source, Stored, Written
from tinyslm.export.onnx.genai import GRAPH, longest, read_config, write_config
from tinyslm.export.onnx.graph import write_graph
from tinyslm.export.onnx.tokenizer_files import write_tokenizer
from tinyslm.inspection.importance import importance_matrix
from tinyslm.model.decoder import Decoder
from tinyslm.tokenizer.tokenizer import Tokenizer

BITS = {"fp32": 32, "int8": 8, "int4": 4}


def write(original: Original, scheme: str, path: Path, options: Options) -> Written:
    """A folder with the graph, the tokenizer's files and `genai_config.json`."""
    try:
        import onnx_ir  # noqa: F401
        import onnxruntime_genai  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise require_extra(ONNX.extra, "Exporting to ONNX") from None
    weighed = BITS[scheme] == 4
    importance = importance_matrix(original.model, original.tokenizer, options.calibration) if weighed else {}
    with atomic_folder(path) as folder:
        notes = write_graph(original.model, BITS[scheme], folder / GRAPH, importance)
        write_config(original, folder)
        notes += write_tokenizer(original.tokenizer, folder, longest(original.model.config))
    return Written(path, (*_length_notes(original.model), *notes))


def open_folder(path: Path, source: Source, threads: int) -> AbstractContextManager[OnnxRuntime]:
    """The folder, loaded by onnxruntime and onnxruntime-genai."""
    return nullcontext(OnnxRuntime(path, has_template=source.tokenizer.chat_template is not None, threads=threads))


def reopen(path: Path, threads: int) -> AbstractContextManager[OnnxRuntime]:
    """See `Format`."""
    has_template = Tokenizer.load(path).chat_template is not None
    return nullcontext(OnnxRuntime(path, has_template=has_template, threads=threads))


def examine(path: Path) -> Stored:
    """See `Format`."""
    said, tokenizer = read_config(path), Tokenizer.load(path)
    return Stored(
        tokenizer.start_ids or (tokenizer.eos_id,),
        context=said.context_length,
        vocab_size=said.vocab_size,
        bytes=sum(file.stat().st_size for file in path.glob("*.onnx*")),
        cached=2 * said.decoder.num_hidden_layers * said.decoder.num_key_value_heads * said.decoder.head_size,
    )


def supports(model: Decoder) -> str:
    """Why the model cannot be written: ONNX Runtime's attention wants heads of a multiple of 8 values."""
    width = model.config.head_dim
    return f"its heads are {width} wide, and ONNX Runtime's attention takes only multiples of 8" if width % 8 else ""


def _length_notes(model: Decoder) -> list[str]:
    if longest(model.config) == model.config.longest:
        return []
    return [
        f"{model.config.rope_scaling.kind} rope scaling changes with the length of a text: the graph is for texts of "
        f"up to {longest(model.config)} tokens (of {model.config.longest})"
    ]


ONNX = Format(
    name="onnx",
    extra="onnx",
    schemes={
        "fp32": Scheme("-onnx-fp32", largest_kl=1e-5, exact=True),
        "int8": Scheme("-onnx-int8", largest_kl=0.02),
        "int4": Scheme("-onnx-int4", largest_kl=0.5),
    },
    usual=("fp32", "int4"),
    supports=supports,
    write=write,
    open=open_folder,
    longest=lambda model: longest(model.config),
    reopen=reopen,
    examine=examine,
)
