"""Learn the next-token probabilities of another model, the teacher (Hinton et al., 2015)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit
from tinyslm.hardware.device import pick_device
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.stage import Batch
from tinyslm.training.stages.pretrain import Pretrain, WindowBatches, text_parts
from tinyslm.training.world import World

CHUNK_LOGITS = 2**22
VALIDATED_AT_ONCE = 4
"""Windows."""


class Distill(Pretrain):
    """The divergence KL(teacher, student) of next-token probabilities, in nats per token. A `Stage`."""

    def __init__(
        self,
        train: TokenSplit,
        held_out: TokenSplit,
        tokenizer: Tokenizer,
        batches: WindowBatches,
        context: int,
        teacher: Decoder,
    ) -> None:
        """teacher: has the student's tokenizer."""
        super().__init__(train, held_out, tokenizer, batches, context)
        self.teacher = teacher.eval().requires_grad_(False)

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> "Distill":
        """The stage on a shards folder, with the teacher in `train.teacher`.

        Raises `TinyslmError` for a teacher that does not suit, or too little text.
        """
        folder = Path(config.train.teacher)
        train, held_out, tokenizer, batches, context = text_parts(data, config, world)
        teacher = load_model(folder, device=pick_device(config.train.device), dense=True)
        if load_tokenizer(folder).sha256 != tokenizer.sha256:
            raise TinyslmError(
                f"The teacher in {folder} has another tokenizer than the text was prepared with.",
                f"Train with its tokenizer: --tokenizer {folder}",
            )
        if teacher.config.context < context:
            raise TinyslmError(
                f"The teacher in {folder} reads {teacher.config.context} tokens, and the student {context}.",
                f"Give the student a shorter context: --model.context {teacher.config.context}",
            )
        return cls(train, held_out, tokenizer, batches, context, teacher)

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is the number of predictions."""
        with torch.no_grad():
            target_nd = self.teacher.model(batch.inputs).flatten(0, 1)
        hidden_nd = model.model(batch.inputs).flatten(0, 1)
        rows = max(1, CHUNK_LOGITS // model.config.vocab_size)
        total = hidden_nd.new_zeros((), dtype=torch.float32)
        for hidden_cd, target_cd in zip(hidden_nd.split(rows), target_nd.split(rows), strict=True):
            part = checkpoint(chunk_divergence, model, self.teacher, hidden_cd, target_cd, use_reentrant=False)
            total = total + part
        return total, float(batch.inputs.numel()), {}

    @torch.no_grad()
    def validate(self, model: Decoder, dtype: torch.dtype, tokens: int) -> float:
        """The mean divergence over windows that are spread evenly, in nats per token."""
        total = weight = 0.0
        for windows in self._windows(model, tokens).split(VALIDATED_AT_ONCE):
            with torch.autocast(windows.device.type, dtype, enabled=dtype != torch.float32):
                part_sum, part_weight, _ = self.loss(model.eval(), Batch.of_windows(windows))
            total, weight = total + part_sum.item(), weight + part_weight
        return total / weight

    def in_units(self, loss: float, *, held_out: bool) -> Mapping[str, float]:  # noqa: ARG002
        """A divergence has no other unit."""
        return {}


def chunk_divergence(student: Decoder, teacher: Decoder, hidden_cd: Tensor, target_cd: Tensor) -> Tensor:
    """The summed divergence over some positions; their logits are not saved for the backward pass."""
    with torch.no_grad():
        log_p_cv = teacher.logits(target_cd).float().log_softmax(-1)
    log_q_cv = student.logits(hidden_cd).float().log_softmax(-1)
    return F.kl_div(log_q_cv, log_p_cv, reduction="sum", log_target=True)
