"""Which optimizer steps which weights."""

import torch
from torch import Tensor, nn

from tinyslm.model.decoder import Decoder
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.muon import Muon
from tinyslm.training.world import World


class Optimizers:
    """The optimizers of one model's parameters that require gradients, stepped together.

    keep_gradients: their memory stays where it is from update to update. Where activations come and go in the backward
    pass, gradients that are made among them leave holes that nothing fits into (docs/LOG.md).
    """

    def __init__(self, model: Decoder, config: OptimizerConfig, *, keep_gradients: bool = False) -> None:
        matrices, tables, vectors = sort_parameters(model)
        adam: list[dict[str, object]] = [
            {"params": tables, "weight_decay": config.weight_decay if config.name == "adamw" else 0.0},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = []
        if config.name == "muon" and matrices:
            self.parts.append(
                Muon(matrices, lr=config.muon_lr, momentum=config.muon_momentum, weight_decay=config.weight_decay)
            )
        elif matrices:
            adam.append({"params": matrices, "weight_decay": config.weight_decay})
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        groups = [group for group in adam if group["params"]]
        betas = (config.beta1, config.beta2)
        if groups:
            self.parts.append(torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=1e-10, fused=fused))
        self._groups = [(group, group["lr"]) for part in self.parts for group in part.param_groups]
        self._keep_gradients = keep_gradients
        if keep_gradients:
            for parameter in trainable(model).values():
                parameter.grad = torch.zeros_like(parameter)
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in trainable(model).items()}

    def step(self, scale: float) -> None:
        """Update the weights at `scale` times the peak learning rates, then drop the gradients."""
        for group, peak in self._groups:
            group["lr"] = peak * scale
        for part in self.parts:
            part.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=not self._keep_gradients)

    def free(self) -> None:
        """Free the memory of the gradients and of the state, when training has ended."""
        self._keep_gradients = False
        self.drop_gradients()
        for part in self.parts:
            part.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the optimizers' state, as `weight's name:key`."""
        return {
            f"{self._names[parameter]}:{key}": value
            for part in self.parts
            for parameter, values in part.state.items()
            for key, value in values.items()
        }

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        owners = {
            parameter: part for part in self.parts for group in part.param_groups for parameter in group["params"]
        }
        for part in self.parts:
            part.state.clear()
        for label, tensor in tensors.items():
            name, key = label.rsplit(":", 1)
            parameter = parameters[name]
            # AdamW's step counter stays where it was made; everything else is on the device of its weight.
            owners[parameter].state[parameter][key] = tensor.clone() if key == "step" else tensor.to(parameter.device)

    def copy(self, world: World) -> None:
        """Give every process the state of process 0."""
        shapes = world.decide({label: (tensor.shape, tensor.dtype) for label, tensor in self.state().items()})
        if not world.leads:
            self.restore({label: torch.zeros(shape, dtype=dtype) for label, (shape, dtype) in shapes.items()})
        world.copy(tensor for _, tensor in sorted(self.state().items()))


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require gradients, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def sort_parameters(model: nn.Module) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Of the parameters that require gradients: the matrices inside blocks, the token and position tables (and output
    projection), and all vectors."""
    matrices: list[Tensor] = []
    tables: list[Tensor] = []
    vectors: list[Tensor] = []
    for name, parameter in trainable(model).items():
        if parameter.ndim < 2:
            vectors.append(parameter)
        elif ".layers." in name:
            matrices.append(parameter)
        else:
            tables.append(parameter)
    return matrices, tables, vectors
