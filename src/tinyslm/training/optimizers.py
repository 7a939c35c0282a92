"""Which optimizer steps which weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from tinyslm.model.decoder import Decoder
from tinyslm.training.config import OptimizerConfig
from tinyslm.training.muon import Muon
from tinyslm.training.sharding import own_rows, rows_of, whole_rows
from tinyslm.training.world import World


class Optimizers:
    """The optimizers of one model's parameters that require gradients, stepped together.

    keep_gradients: their memory stays where it is from update to update. Where activations come and go in the backward
    pass, gradients that are made among them leave holes that nothing fits into (docs/LOG.md). Of weights that are
    divided over the processes of `world`, each process steps its rows.
    """

    def __init__(
        self, model: Decoder, config: OptimizerConfig, *, keep_gradients: bool = False, world: World | None = None
    ) -> None:
        self._world = world or World()
        self._divided: dict[Tensor, nn.Parameter] = {}
        matrices, tables, vectors = (list(map(self._stepped, part)) for part in sort_parameters(model))
        adam: list[dict[str, object]] = [
            {"params": tables, "weight_decay": config.weight_decay if config.name == "adamw" else 0.0},
            {"params": vectors, "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = []
        if config.name == "muon" and matrices:
            rows = {part: len(whole) for part, whole in self._divided.items()}
            muon = {"lr": config.muon_lr, "momentum": config.muon_momentum, "weight_decay": config.weight_decay}
            self.parts.append(Muon(matrices, rows=rows, world=self._world, **muon))  # type: ignore[arg-type]
        elif matrices:
            adam.append({"params": matrices, "weight_decay": config.weight_decay})
        fused = next(model.parameters()).device.type in ("cpu", "cuda")
        groups = [group for group in adam if group["params"]]
        betas = (config.beta1, config.beta2)
        if groups:
            self.parts.append(torch.optim.AdamW(groups, lr=config.lr, betas=betas, eps=1e-10, fused=fused))
        self._groups = [(group, group["lr"]) for part in self.parts for group in part.param_groups]
        self._keep_gradients = keep_gradients and not self._divided
        if self._keep_gradients:
            for parameter in trainable(model).values():
                parameter.grad = torch.zeros_like(parameter)
        self._names: dict[Tensor, str] = {
            self._part_of(parameter): name for name, parameter in trainable(model).items()
        }

    def _stepped(self, parameter: Tensor) -> Tensor:
        """What optimizers see of a parameter: its rows in this process, where it is divided."""
        if not isinstance(parameter, DTensor):
            return parameter
        rows = nn.Parameter(own_rows(parameter.data))
        self._divided[rows] = parameter  # type: ignore[assignment]
        return rows

    def _part_of(self, parameter: Tensor) -> Tensor:
        return next((part for part, whole in self._divided.items() if whole is parameter), parameter)

    def step(self, scale: float) -> None:
        """Update the weights at `scale` times the peak learning rates, then drop the gradients."""
        for rows, whole in self._divided.items():
            rows.grad = None if whole.grad is None else own_rows(whole.grad)
        for group, peak in self._groups:
            group["lr"] = peak * scale
        for part in self.parts:
            part.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """Forget the gradients."""
        for part in self.parts:
            part.zero_grad(set_to_none=not self._keep_gradients)
        for whole in self._divided.values():
            whole.grad = None

    def free(self) -> None:
        """Free the memory of the gradients and of the state, when training has ended."""
        self._keep_gradients = False
        self.drop_gradients()
        for part in self.parts:
            part.state.clear()

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the optimizers' state, as `weight's name:key`.

        Where weights are divided, every process has to take part, and process 0 gets whole tensors.
        """
        found = {}
        for part in self.parts:
            for parameter, values in part.state.items():
                for key, value in values.items():
                    whole = self._whole(parameter, value)
                    if whole is value or self._world.leads:
                        found[f"{self._names[parameter]}:{key}"] = whole
        return found

    def _whole(self, parameter: Tensor, value: Tensor) -> Tensor:
        """A tensor of a parameter's state with the rows of all processes, on the CPU; itself if it is not divided."""
        if parameter not in self._divided or value.shape != parameter.shape:
            return value
        return whole_rows(value[None], len(self._divided[parameter]), self._world)[0].cpu()

    def restore(self, tensors: Mapping[str, Tensor] | None) -> None:
        """Put back what `state` gave; with several processes, what it gave in process 0."""
        parameters = {name: parameter for parameter, name in self._names.items()}
        owners = {
            parameter: part for part in self.parts for group in part.param_groups for parameter in group["params"]
        }
        for part in self.parts:
            part.state.clear()
        for label, tensor in self._world.each(tensors):
            name, key = label.rsplit(":", 1)
            parameter = parameters[name]
            mine = tensor
            if parameter in self._divided and tensor.ndim:
                mine = rows_of(tensor, self._world).clone()
            # AdamW's step counter stays where it was made; everything else is on the device of its weight.
            owners[parameter].state[parameter][key] = mine.clone() if key == "step" else mine.to(parameter.device)


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
