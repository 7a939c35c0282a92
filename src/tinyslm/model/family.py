"""What an architecture is: a value that says how a model of that kind looks outside, as a Hugging Face folder.

A `Decoder` carries Llama's tensor names and the article's words for its settings. A family holds tables that turn
both into its own, each used in both directions. Adding an architecture is one file in `families/` with one `Family`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from tinyslm.core.errors import TinyslmError

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

# Fields of a config.json that say nothing about the mathematics of a text decoder in inference.
HARMLESS = frozenset(
    """
    architectures attention_dropout attn_pdrop auto_map bad_words_ids begin_suppress_tokens bos_token_id
    chunk_size_feed_forward decoder_start_token_id dtype embd_pdrop eos_token_id id2label initializer_range
    is_decoder is_encoder_decoder label2id max_length min_length model_type n_ctx output_attentions
    output_hidden_states pad_token_id prefix pretraining_tp problem_type resid_pdrop return_dict sep_token_id
    summary_activation summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
    task_specific_params temperature tokenizer_class top_k top_p torch_dtype torchscript transformers_version
    unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905 (ninety quotation marks hide what is listed)
)


@dataclass(frozen=True)
class Rule:
    """One tensor of the folder, and the `Decoder` tensors it holds, stacked along the output axis.

    `{}` in the names is the block's number. `transposed` is for folders that store `[in, out]` (GPT-2's Conv1D).
    """

    outside: str
    inside: Sequence[str]
    transposed: bool = False


@dataclass(frozen=True)
class Family:
    """An architecture as tables: settings, Hugging Face's names for them, and tensor names."""

    name: str
    model_type: str
    architecture: str
    fixed: Mapping[str, Any]
    """Our settings that never differ in this family."""
    defaults: Mapping[str, Any]
    """Our settings unless the user gives others."""
    keys: Mapping[str, str]
    """Our setting -> Hugging Face's field with the same value."""
    constants: Mapping[str, Sequence[Any]]
    """Hugging Face's field -> the values under which the mathematics is this family's; the first is written."""
    choices: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)
    """Our setting -> Hugging Face's field, and its values -> ours (the first of those equal to ours is written)."""
    rules: Sequence[Rule] = ()
    ignored: Sequence[str] = ()
    """Endings of tensor names that hold no weights (masks and tables that old folders carry)."""
    prefix: str = ""
    """What some folders leave out at the start of every tensor name."""

    def check(self, config: "ModelConfig") -> None:
        """Refuse settings that this architecture cannot express (`ValueError`, as pydantic expects)."""
        for key, value in self.fixed.items():
            if getattr(config, key) != value:
                raise ValueError(f"{key} is always {value} in family {self.name} (given: {getattr(config, key)})")
        if "kv_heads" not in self.keys and config.kv_heads != config.heads:
            raise ValueError(f"kv_heads must equal heads in family {self.name} (given: {config.kv_heads})")
        if "head_dim" not in self.keys and config.head_dim * config.heads != config.dim:
            raise ValueError(f"heads times head_dim must equal dim in family {self.name}")

    def config_to_hf(self, config: "ModelConfig") -> dict[str, Any]:
        """The fields of `config.json` that describe the architecture."""
        fields: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.model_type}
        fields |= {theirs: values[0] for theirs, values in self.constants.items()}
        fields |= {theirs: getattr(config, ours) for ours, theirs in self.keys.items()}
        for ours, (theirs, values) in self.choices.items():
            fields[theirs] = next(value for value, meaning in values.items() if meaning == getattr(config, ours))
        if config.positions == "rope":
            # transformers 5 reads the second form, everything older the first.
            fields["rope_theta"] = config.rope_theta
            fields["rope_parameters"] = {"rope_theta": config.rope_theta, "rope_type": "default"}
        return fields

    def config_from_hf(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """Our settings from a `config.json`; refuses what would change the mathematics unnoticed."""
        for theirs, values in self.constants.items():
            if theirs in hf and hf[theirs] not in values:
                raise self._unsupported(theirs, hf[theirs])
        settings: dict[str, Any] = {"family": self.name}
        settings |= {ours: hf[theirs] for ours, theirs in self.keys.items() if hf.get(theirs) is not None}
        for ours, (theirs, meanings) in self.choices.items():
            if theirs in hf:
                if hf[theirs] not in meanings:
                    raise self._unsupported(theirs, hf[theirs])
                settings[ours] = meanings[hf[theirs]]
        settings |= self._rope_from_hf(hf)
        self._refuse_unknown(hf)
        return settings

    def expanded_rules(self, depth: int) -> Iterator[Rule]:
        """The tensor rules with every block's number put in."""
        for rule in self.rules:
            for index in range(depth if "{}" in rule.outside else 1):
                inside = [name.replace("{}", str(index)) for name in rule.inside]
                yield Rule(rule.outside.replace("{}", str(index)), inside, rule.transposed)

    def to_outside(self, tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
        """A `Decoder`'s tensors under this family's names."""
        rest = dict(tensors)
        renamed: dict[str, Tensor] = {}
        for rule in self.expanded_rules(depth):
            if all(name in rest for name in rule.inside):
                tensor = torch.cat([rest.pop(name) for name in rule.inside])
                renamed[rule.outside] = tensor.t().contiguous() if rule.transposed else tensor
        return {**rest, **renamed}

    def to_inside(self, tensors: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
        """A folder's tensors under `Decoder`'s names, stacked ones cut into equal parts."""
        rest = {name: tensor for name, tensor in tensors.items() if not name.endswith(tuple(self.ignored))}
        renamed: dict[str, Tensor] = {}
        for rule in self.expanded_rules(depth):
            name = rule.outside if rule.outside in rest else rule.outside.removeprefix(self.prefix)
            if name in rest:
                tensor = rest.pop(name)
                parts = (tensor.t() if rule.transposed else tensor).tensor_split(len(rule.inside))
                renamed |= {name: part.contiguous() for name, part in zip(rule.inside, parts, strict=True)}
        return {**rest, **renamed}

    def _rope_from_hf(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """The rotary base, in transformers 5's form or the older one; scaled positions are refused."""
        rope = hf.get("rope_parameters") or {}
        if rope.get("rope_type", "default") != "default":
            raise self._unsupported("rope_parameters", rope)
        if hf.get("rope_scaling"):
            raise self._unsupported("rope_scaling", hf["rope_scaling"])
        theta = rope.get("rope_theta", hf.get("rope_theta"))
        return {} if theta is None else {"rope_theta": float(theta)}

    def _refuse_unknown(self, hf: Mapping[str, Any]) -> None:
        known = HARMLESS | set(self.keys.values()) | set(self.constants) | {name for name, _ in self.choices.values()}
        known |= {"rope_theta", "rope_parameters", "rope_scaling", "layer_types"}
        if set(hf.get("layer_types") or ()) - {"full_attention"}:
            raise self._unsupported("layer_types", hf["layer_types"])
        for key in hf:
            if key not in known and not key.startswith("_"):
                raise self._unsupported(key, hf[key])

    def _unsupported(self, key: str, value: Any) -> TinyslmError:
        return TinyslmError(
            f"This {self.model_type} model's config.json sets {key} = {value!r}, which tinyslm does not implement.",
            "Loading it anyway could give wrong results, so it is refused: use a model without this setting.",
        )
