"""What a loop minimises. An objective turns a model and a batch into a summed loss and the weight of that sum."""

from collections.abc import Callable, Mapping

from torch import Tensor

from tinyslm.core.registry import Registry
from tinyslm.model.decoder import Decoder
from tinyslm.training.objectives.pretrain import pretrain

Objective = Callable[[Decoder, Tensor], tuple[Tensor, float, Mapping[str, float]]]
"""`objective(model, batch)` gives `(loss_sum, weight, metrics)`: the mean loss is `loss_sum / weight`."""

OBJECTIVES: Registry[Objective] = Registry("objective")
OBJECTIVES.add("pretrain", pretrain)
