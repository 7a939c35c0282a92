"""An exported graph opened for generating: as it was exported, but logits only where they are asked for.

Two things are added to the graph while it is read: an input `wanted`, the places among the new tokens whose logits are
computed, and an output `hidden`, the final hidden states there.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.export.onnx.genai import GRAPH, read_config
from tinyslm.export.onnx.graph import cache_names

PRODUCTS = ("MatMul", "MatMulNBits", "Gemm")
WANTED, HIDDEN = "wanted", "hidden"


@dataclass(frozen=True)
class Sizes:
    """Of a graph: blocks, key and value heads, their width, ids, the width of hidden states; and the longest text."""

    depth: int
    kv_heads: int
    head_dim: int
    vocab_size: int
    dim: int
    context: int


@dataclass(frozen=True)
class OnnxModel:
    """A graph in ONNX Runtime; `rounded`: some of its matrices are, to 4 or 8 bits."""

    session: Any
    sizes: Sizes
    rounded: bool


def open_model(folder: Path, threads: int) -> OnnxModel:
    """The graph of a folder that `export --to onnx` wrote.

    Raises `TinyslmError` for one that is damaged, or that another program wrote in another way.
    """
    try:
        import onnx
        import onnxruntime
    except ImportError:
        raise require_extra("onnx", "Running ONNX folders") from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.log_severity_level = 3  # errors only
    # Weights beside the graph are looked for here.
    settings.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    try:
        model = onnx.load(str(folder / GRAPH), load_external_data=False)
        dim = _choose_logits(model.graph)
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, ["CPUExecutionProvider"])
        sizes = _sizes(folder, session, dim)
    except TinyslmError:
        raise
    except Exception as error:  # of many kinds: from the reader, from protobuf, from the runtime
        raise TinyslmError(
            f"ONNX Runtime does not run {folder}: {' '.join(str(error).split())[:200]}.", "Export the model again."
        ) from None
    return OnnxModel(session, sizes, any(node.op_type == "MatMulNBits" for node in model.graph.node))


def _choose_logits(graph: Any) -> int:
    """Put a choice of places before the output projection; returns the width of the hidden states."""
    from onnx import TensorProto, helper

    makers = {name: node for node in graph.node for name in node.output}
    node = makers.get("logits")
    while node is not None and node.op_type not in PRODUCTS:
        node = next((makers[name] for name in node.input if name in makers), None)
    if node is None:
        raise ValueError("it has no output projection")
    before = node.input[0]
    normed = makers[before]
    dim = next(tensor.dims[0] for tensor in graph.initializer if tensor.name in normed.input and len(tensor.dims) == 1)
    node.input[0] = HIDDEN
    choice = helper.make_node("Gather", [before, WANTED], [HIDDEN], axis=1)
    graph.node.insert(list(graph.node).index(node), choice)
    graph.input.append(helper.make_tensor_value_info(WANTED, TensorProto.INT64, [WANTED]))
    graph.output.append(helper.make_tensor_value_info(HIDDEN, TensorProto.FLOAT, ["batch", WANTED, dim]))
    next(one for one in graph.output if one.name == "logits").type.tensor_type.shape.dim[1].dim_param = WANTED
    del graph.value_info[:]  # shapes that were noted for all places
    return int(dim)


def _sizes(folder: Path, session: Any, dim: int) -> Sizes:
    """What the graph says of itself; only how long texts may be is the configuration's to say."""
    context = read_config(folder).context_length
    inputs = {one.name: one.shape for one in session.get_inputs()}
    outputs = {one.name: one.shape for one in session.get_outputs()}
    depth = sum(name.endswith(".key") for name in inputs)
    past = inputs.get("past_key_values.0.key", ())
    expected = {"input_ids", "attention_mask", WANTED, *cache_names(depth, "past_key_values")}
    if set(inputs) != expected or len(past) != 4 or not all(isinstance(size, int) for size in (past[1], past[3])):
        raise TinyslmError(
            f"The graph in {folder} takes other inputs than those that tinyslm writes.",
            "Export the model folder with tinyslm: tinyslm export MODEL --to onnx --out FOLDER",
        )
    return Sizes(depth, past[1], past[3], int(outputs["logits"][-1]), dim, context)
