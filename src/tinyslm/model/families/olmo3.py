"""OLMo 3 (Allen Institute for AI, 2025): OLMo 2's block; three of four blocks see a window, and only the others have
stretched rotary frequencies."""

from dataclasses import replace

from tinyslm.model.families.olmo2 import OLMO2
from tinyslm.model.families.windows import all_but_every, window_but_every

PERIOD = 4

OLMO3 = replace(
    OLMO2,
    name="olmo3",
    model_type="olmo3",
    architecture="Olmo3ForCausalLM",
    defaults={**OLMO2.defaults, "rope_theta": 500_000.0, "local_rope_theta": 500_000.0},
    # As in transformers, a `rope_theta` outside of `rope_parameters` does not apply to windowed blocks.
    absent={**OLMO2.absent, "rope_theta": 500_000.0, "local_rope_theta": 500_000.0},
    parts=(window_but_every(PERIOD),),
    habits=lambda dim, depth: {"window": 4096, "window_layers": all_but_every(min(PERIOD, depth + 1), depth)},
)
