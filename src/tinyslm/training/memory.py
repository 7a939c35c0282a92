"""How much memory a training needs at its fullest moment, from its settings alone.

Counted is what stands beside each other: weights and the optimizer's state always; then either a forward pass at its
end (what the backward pass wants to see again, and the gradients of earlier micro-batches), or an update (gradients
and Muon's work space), or a validation. What each layer keeps
follows from its code in `model/` and `model/kernels/`; tests/training/test_memory.py compares this with what is really
kept, and with real processes.

Legend of comments: d dim, f ffn_dim, h heads, g kv_heads, k head_dim, n tokens computed at once.
"""

import torch

from tinyslm.evaluation.loss import TOKENS_AT_ONCE
from tinyslm.hardware.device import pick_dtype
from tinyslm.model.config import GATED, ModelConfig
from tinyslm.model.kernels.library import kernels
from tinyslm.model.loss import chunk_rows
from tinyslm.training.config import RunConfig

FP32 = 4
PROCESS = 410 * 10**6
"""Python, PyTorch, what it loads and compiles in its first update, and what preparing data leaves behind: measured on
Linux with PyTorch 2.13."""
PLANNING = 700 * 10**6
"""What the process holds at most while a plan is made, by trial tokenizers and trial models: measured."""
PLANNED = 110 * 10**6
"""What of that a training by the plan, in the same process, does not get to use: measured."""
GAPS = 1.3
"""Freed memory is used again, but not all of it fits what comes next: measured."""
GAPS_RECOMPUTING = 1.7
"""The same where blocks are computed again: more comes and goes."""
MUON_WORK = 17
"""Bytes for each value of the matrices that Muon makes orthogonal together: measured."""


def peak_bytes(config: RunConfig) -> int:
    """The most memory in bytes that the process of a training with these settings holds at once, on a CPU."""
    model = config.model
    standing = (1 + _states(config)) * FP32 * model.parameters
    fullest = max(_forward_bytes(config), _update_bytes(config), _validation_bytes(config))
    gaps = GAPS_RECOMPUTING if config.train.checkpoint_activations else GAPS
    return int(PROCESS + standing + gaps * fullest)


def planned_peak_bytes(config: RunConfig) -> int:
    """The same of a process that has planned the training before."""
    return max(PLANNING, PLANNED + peak_bytes(config))


def kept_bytes(model: ModelConfig, tokens: int, width: int, *, recompute: bool = False) -> int:
    """What one forward pass of the trunk over `tokens` tokens keeps for its backward pass; copies of weights left out.

    width: bytes of a value in products (2 under autocast in bf16, else 4). recompute: only the inputs of the blocks
    are kept; what one block keeps while it is computed again is counted, and as much for the gradients on their way
    through it.
    """
    ends = FP32 * model.dim * (2 if model.dropout else 1) + width * model.dim
    block = _kept_by_stream(model, width) + _kept_by_block(model, width)
    return tokens * (ends + (model.depth * FP32 * model.dim + 2 * block if recompute else model.depth * block))


def _kept_by_stream(model: ModelConfig, width: int) -> int:
    """Bytes a token in one block: inputs of norms in fp32, their outputs as products read them, what dropout drew."""
    norms = 4 if model.norm_place == "both" else 1 if model.residual == "parallel_one_norm" else 2
    read = 1 if model.residual == "parallel_one_norm" else 2
    return model.dim * (FP32 * norms + width * (read + (2 if model.dropout else 0)))


def _kept_by_block(model: ModelConfig, width: int) -> int:
    """Bytes a token in one block: inside of attention and the feed-forward."""
    fused = _compiled(width)
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    gathered = width * q
    normed = (width if fused else FP32) * (q + kv) if model.qk_norm else 0
    if fused:
        attention = width * (q + 2 * kv) + gathered
    else:
        attention = width * 3 * q + gathered  # keys and values repeated for each head
        # Probabilities of `BlockAttention`, of which the causal half is computed.
        attention += width * model.heads * model.context * 5 // 8 if width == 2 else 0
    inner = (3 if fused and model.feed_forward == "swiglu" else 4) if model.feed_forward in GATED else 2
    return normed + attention + width * inner * model.ffn_dim


def _compiled(width: int) -> bool:
    """Whether there are kernels for products of numbers of so many bytes."""
    return kernels(torch.bfloat16 if width < FP32 else torch.float32) is not None


def _forward_bytes(config: RunConfig) -> int:
    """At the end of a forward pass, when the loss has been taken."""
    model, train = config.model, config.train
    width, micro_batch = _width(config), train.micro_batch or train.batch
    tokens = micro_batch * model.context
    table = model.vocab_size * model.dim
    copies = width * (model.parameters - (0 if model.tied else table)) if width < FP32 else 0
    # The head's gradients of the hidden vectors and of its matrix (summed in fp32), and a chunk of logits.
    chunk = (2 * width if width < FP32 else 3 * FP32) * min(chunk_rows(model.vocab_size), tokens) * model.vocab_size
    head = width * tokens * model.dim + (FP32 + width) * table + chunk
    gradients = FP32 * model.parameters if micro_batch < train.batch or train.checkpoint_activations else 0
    return kept_bytes(model, tokens, width, recompute=train.checkpoint_activations) + copies + head + gradients


def _update_bytes(config: RunConfig) -> int:
    """While weights follow their gradients: those, and what Muon makes of all matrices of one shape at once."""
    model = config.model
    gradients = FP32 * model.parameters
    if config.optimizer.name != "muon":
        return gradients
    q, kv = model.heads * model.head_dim, model.kv_heads * model.head_dim
    shapes: dict[tuple[int, int], int] = {}
    matrices = [(q, model.dim), (kv, model.dim), (kv, model.dim), (model.dim, q)]
    matrices += [(model.ffn_dim, model.dim)] * (2 if model.feed_forward in GATED else 1) + [(model.dim, model.ffn_dim)]
    for rows, columns in matrices:
        shapes[rows, columns] = shapes.get((rows, columns), 0) + rows * columns * model.depth
    return gradients + MUON_WORK * max(shapes.values())


def _validation_bytes(config: RunConfig) -> int:
    """While validation text is scored in fp32: a block's values come and go, and a chunk of logits."""
    model = config.model
    widest = max(3 * model.ffn_dim, 5 * model.heads * model.head_dim)
    tokens = max(TOKENS_AT_ONCE, model.context)
    logits = min(chunk_rows(model.vocab_size), tokens) * model.vocab_size
    return FP32 * (tokens * (2 * model.dim + widest) + 3 * logits)


def _states(config: RunConfig) -> float:
    """Values of optimizer state for each weight: one for Muon's matrices, two for AdamW's."""
    model = config.model
    if config.optimizer.name != "muon":
        return 2.0
    tables = model.vocab_size * model.dim * (1 if model.tied else 2)
    tables += model.context * model.dim * (model.positions == "learned")
    return 1 + tables / model.parameters


def _width(config: RunConfig) -> int:
    """Bytes of a value in products on a CPU."""
    return pick_dtype(torch.device("cpu"), config.train.dtype).itemsize
