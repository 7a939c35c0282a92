"""Learn the next-token probabilities of another model, the teacher (Hinton et al., 2015)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError
from tinyslm.data.shards import TokenSplit
from tinyslm.hardware.device import pick_device, pick_dtype
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import find_model, load_model, load_tokenizer
from tinyslm.model.lora import narrow_frozen
from tinyslm.tokenizer.comparing import first_difference
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.training.config import RunConfig
from tinyslm.training.divergence import divergences
from tinyslm.training.stage import Batch
from tinyslm.training.stage_config import DistillConfig
from tinyslm.training.stages.pretrain import Pretrain, WindowBatches, text_parts
from tinyslm.training.world import World

VALIDATED_AT_ONCE = 4
"""Windows."""


def open_teacher(config: RunConfig, tokenizer: Tokenizer) -> Decoder:
    """The model in `train.teacher`. Raises `TinyslmError` if it has another tokenizer than the data."""
    folder = find_model(Path(config.train.teacher))
    if difference := first_difference(tokenizer, load_tokenizer(folder)):
        raise TinyslmError(
            f"The teacher in {folder} has another tokenizer than the data was prepared with: {difference}.",
            f"Use a teacher with the student's tokenizer, or train a student with the teacher's: --tokenizer {folder}",
        )
    device = pick_device(config.train.device)
    teacher = load_model(folder, device=device, dense=True).requires_grad_(False)
    narrow_frozen(teacher, pick_dtype(device, config.train.dtype))
    return teacher


class DistillText(Pretrain):
    """The divergence of next-token probabilities on windows of text, in nats per token. A `Stage`."""

    def __init__(
        self,
        train: TokenSplit,
        held_out: TokenSplit,
        tokenizer: Tokenizer,
        batches: WindowBatches,
        context: int,
        teacher: Decoder,
        settings: DistillConfig | None = None,
    ) -> None:
        """teacher: has the student's tokenizer."""
        super().__init__(train, held_out, tokenizer, batches, context)
        self.teacher, self.settings = teacher.eval().requires_grad_(False), settings or DistillConfig()

    @classmethod
    def open(cls, data: Path, config: RunConfig, world: World) -> "DistillText":
        """The stage on a shards folder, with the teacher in `train.teacher`.

        Raises `TinyslmError` for a teacher that does not suit, or too little text.
        """
        parts = text_parts(data, config, world)
        teacher, context = open_teacher(config, parts[2]), config.row_tokens
        if (longest := teacher.config.context) < context:
            raise TinyslmError(
                f"The teacher in {config.train.teacher} reads {longest} tokens, and the student {context}.",
                f"Give the student a shorter context: --model.context {longest}",
            )
        return cls(*parts, teacher, config.distill)

    def loss(self, model: Decoder, batch: Batch) -> tuple[Tensor, float, Mapping[str, float]]:
        """The weight is the number of predictions."""
        with torch.no_grad():
            target_nd = self.teacher.model(batch.inputs).flatten(0, 1)
        hidden_nd = model.model(batch.inputs).flatten(0, 1)
        total = divergences(model, self.teacher, hidden_nd, target_nd, self.settings).sum()
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
