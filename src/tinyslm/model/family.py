"""What an architecture is: a value that says how a model of that kind looks outside, as a Hugging Face folder.

A `Decoder` carries Llama's tensor names and the article's words for its settings. A family holds tables that turn
both into its own, each used in both directions. Adding an architecture is one file in `families/` with one `Family`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyslm.core.errors import TinyslmError
from tinyslm.model.renaming import Rule
from tinyslm.model.rope_fields import KINDS, ROPE_FIELDS, rope_from_hf, rope_to_hf

if TYPE_CHECKING:
    from tinyslm.model.config import ModelConfig

MOST_BLOCKS = 1024
"""A depth beyond this is a mistake, or an attempt to keep the machine busy."""

NULLABLE = ("kv_heads", "head_dim", "ffn_dim", "init_std", "tied")
"""Our settings that a `config.json` may give as null."""

# Fields of a config.json that say nothing about the mathematics of a text decoder in inference.
HARMLESS = frozenset(
    """
    activation_dropout architectures attention_dropout attention_probs_dropout_prob attn_implementation attn_pdrop
    auto_map bad_words_ids begin_suppress_tokens bos_token_id cache_implementation chunk_size_feed_forward
    classifier_dropout custom_pipelines decoder_start_token_id diversity_penalty do_sample dropout dtype early_stopping
    embd_pdrop embed_dropout encoder_no_repeat_ngram_size eos_token_id finetuning_task gradient_checkpointing
    hidden_dropout hidden_dropout_prob id2label initializer_range is_decoder is_encoder_decoder label2id layerdrop
    length_penalty max_length max_new_tokens max_sequence_length min_length model_type n_ctx n_special
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions output_hidden_states
    output_past output_scores pad_token_id predict_special_tokens prefix pretraining_tp problem_type quantization_config
    repetition_penalty resid_dropout resid_pdrop return_dict return_dict_in_generate sep_token_id summary_activation
    summary_first_dropout summary_proj_to_labels summary_type summary_use_proj task_specific_params temperature
    tokenizer_class top_k top_p torch_dtype torchscript transformers.js_config transformers_version typical_p
    unsloth_fixed unsloth_version use_bfloat16 use_cache
    """.split()  # noqa: SIM905 (a hundred pairs of quotation marks would hide the names)
)


@dataclass(frozen=True)
class Part:
    """Settings whose translation is more than a renaming.

    fields: Hugging Face's fields that it reads. read: those of a `config.json` -> our settings. write: the way back.
    """

    fields: Sequence[str]
    read: Callable[[Mapping[str, Any]], dict[str, Any]]
    write: Callable[["ModelConfig"], dict[str, Any]]


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
    repeated: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    """Fields of other programs, which transformers does not read -> the values that agree with this family. Never
    written."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Other names of Hugging Face's fields (transformers' `attribute_map`) -> the field that is meant."""
    rope_aliases: Mapping[str, str] = field(default_factory=dict)
    """`rope_theta` and `partial_rotary_factor` -> this family's own names for them, which take precedence."""
    absent: Mapping[str, Any] = field(default_factory=dict)
    """Our setting -> what transformers takes it to be where a `config.json` does not say."""
    choices: Mapping[str, tuple[str, Mapping[Any, str]]] = field(default_factory=dict)
    """Our setting -> Hugging Face's field, and its values -> ours (the first of those equal to ours is written)."""
    switches: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Hugging Face's field, true or false -> our settings that it all turns on."""
    parts: Sequence[Part] = ()
    """Settings that need more than a table."""
    habits: Callable[[int, int], dict[str, Any]] = lambda dim, depth: {}
    """Defaults that follow from `dim` and `depth`."""
    rope_kinds: Mapping[str, str] = field(default_factory=lambda: KINDS)
    """Hugging Face's `rope_type` -> our kind of scaling, where transformers has it in this family."""
    original_context: int = 0
    """The default of `original_max_position_embeddings`, in families whose config has it outside of the rope scaling;
    0 in others."""
    rules: Sequence[Rule] = ()
    ignored: Sequence[str] = ()
    """Endings of tensor names that hold no weights (masks and tables that old folders carry)."""
    prefix: str = ""
    """What some folders leave out at the start of every tensor name."""

    def check(self, config: "ModelConfig") -> None:
        """Refuse settings that a `config.json` of this architecture cannot say (`ValueError`, as pydantic expects).

        What is written must be read back the same.
        """
        written = {**self._implied(config), **self.config_from_hf(self.config_to_hf(config))}
        for key, value in written.items():
            if getattr(config, key) != value:
                given = getattr(config, key)
                raise ValueError(f"{key} is always {_plain(value)} in family {self.name} (given: {_plain(given)})")

    def config_to_hf(self, config: "ModelConfig") -> dict[str, Any]:
        """The fields of `config.json` that describe the architecture."""
        fields: dict[str, Any] = {"architectures": [self.architecture], "model_type": self.model_type}
        fields |= {theirs: values[0] for theirs, values in self.constants.items()}
        fields |= {theirs: getattr(config, ours) for ours, theirs in self.keys.items()}
        for ours, (theirs, values) in self.choices.items():
            meant = [value for value, meaning in values.items() if meaning == getattr(config, ours)]
            if not meant:
                allowed = " or ".join(dict.fromkeys(values.values()))
                raise ValueError(f"{ours} is {allowed} in family {self.name} (given: {getattr(config, ours)})")
            fields[theirs] = meant[0]
        fields |= {theirs: getattr(config, ours[0]) for theirs, ours in self.switches.items()}
        for part in self.parts:
            fields |= part.write(config)
        if config.positions == "rope":
            kind, kinds = config.rope_scaling.kind, list(dict.fromkeys(self.rope_kinds.values()))
            if kind not in kinds:
                allowed = " or ".join(kinds)
                raise ValueError(f"rope_scaling.kind is {allowed} in family {self.name} (given: {kind})")
            rope = rope_to_hf(config, partial="rotary_share" in self.absent, local="local_rope_theta" in self.absent)
            fields |= rope | {own: rope[general] for general, own in self.rope_aliases.items()}
        return fields

    def config_from_hf(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """Our settings from a `config.json`; refuses what would change the mathematics unnoticed."""
        try:
            return self._read(hf)
        except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise TinyslmError(
                f"This {self.model_type} model's config.json has a value that makes no sense ({reason}).",
                "Restore the file from the model's source.",
            ) from None

    def _read(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        hf = self._without_aliases(hf)
        self._check_fields(hf)
        settings: dict[str, Any] = {"family": self.name, **self.fixed, **self.absent}
        for ours, theirs in self.keys.items():
            if theirs in hf and hf[theirs] is None:
                if ours not in NULLABLE:
                    raise ValueError(f"{theirs} is null")
                settings.pop(ours, None)  # derived, as transformers does
            elif theirs in hf:
                settings[ours] = hf[theirs]
        for ours, (theirs, meanings) in self.choices.items():
            if theirs in hf:
                settings[ours] = meanings[hf[theirs]]
        for theirs, switched in self.switches.items():
            if theirs in hf:
                settings |= dict.fromkeys(switched, bool(hf[theirs]))
        self._require(settings)
        for part in self.parts:
            settings |= part.read(hf)
        if settings.get("positions", "rope") == "rope":
            kinds, original = self.rope_kinds, self.original_context
            settings |= rope_from_hf(hf, settings, self.rope_aliases, self._unsupported, kinds=kinds, original=original)
        return _with_heads(settings)

    def _without_aliases(self, hf: Mapping[str, Any]) -> dict[str, Any]:
        """The fields under their usual names; refuses two names of one field with different values."""
        fields = dict(hf)
        for alias, name in self.aliases.items():
            if alias in fields and fields.setdefault(name, fields[alias]) != fields.pop(alias):
                raise ValueError(f"{alias} = {hf[alias]!r}, but {name} = {hf[name]!r}")
        return fields

    def _require(self, settings: Mapping[str, Any]) -> None:
        """The required sizes, as whole numbers within bounds."""
        needed = ["vocab_size", "dim", "depth", "heads", "context"]
        needed += [] if self.absent.get("ffn_dim") == 0 else ["ffn_dim"]
        missing = [self.keys[ours] for ours in needed if ours not in settings]
        if missing:
            raise TinyslmError(
                f"This {self.model_type} model's config.json has no {' and no '.join(missing)}.",
                "Restore the file from the model's source: without these sizes its weights cannot be read.",
            )
        for ours in needed:
            size = settings[ours]
            if type(size) is not int or not 0 <= size < 2**31 or (ours == "depth" and size > MOST_BLOCKS):
                raise ValueError(f"{self.keys[ours]} = {size!r}")

    def _implied(self, config: "ModelConfig") -> dict[str, Any]:
        """Our settings of which `config.json` says nothing have one value: the family's, or else the general one."""
        fields = type(config).model_fields
        return {
            key: self.fixed.get(key, fields[key].default)
            for key in fields
            if key not in ("family", "dropout", "init_std", "heads", "kv_heads", "head_dim", "ffn_dim")
        }

    def _check_fields(self, hf: Mapping[str, Any]) -> None:
        """Refuse fields that could change the mathematics.

        transformers ignores all unknown fields. Here, only fields that are null or false are ignored, since they switch
        nothing on; every field of transformers with another default is known to its family.
        """
        for theirs, values in [*self.constants.items(), *self.repeated.items()]:
            if theirs in hf and hf[theirs] not in values:
                raise self._unsupported(theirs, hf[theirs])
        for theirs, meanings in self.choices.values():
            if theirs in hf and hf[theirs] not in meanings:
                raise self._unsupported(theirs, hf[theirs])
        known = HARMLESS | set(self.keys.values()) | set(self.constants) | {name for name, _ in self.choices.values()}
        known |= set(self.switches) | {name for part in self.parts for name in part.fields} | ROPE_FIELDS
        known |= set(self.repeated) | set(self.rope_aliases.values())
        if "layer_types" not in known and set(hf.get("layer_types") or ()) - {"full_attention"}:
            raise self._unsupported("layer_types", hf["layer_types"])
        for key, value in hf.items():
            switched_on = value is not None and value is not False
            if switched_on and key not in known and key != "layer_types" and not key.startswith("_"):
                raise self._unsupported(key, value)

    def _unsupported(self, key: str, value: Any) -> TinyslmError:
        return TinyslmError(
            f"This {self.model_type} model's config.json sets {key} = {value!r}, which tinyslm does not implement.",
            "Loading it anyway could give wrong results, so it is refused: use a model without this setting.",
        )


def _with_heads(settings: dict[str, Any]) -> dict[str, Any]:
    """What transformers derives: as many key heads as query heads, which share the width, and 4 times `dim` inside."""
    heads, dim = settings["heads"], settings["dim"]
    if not heads:
        return settings  # for the settings' own checks to report
    derived = {"kv_heads": heads, "head_dim": max(1, dim // heads)}
    return {**derived, **settings, "ffn_dim": settings.get("ffn_dim") or 4 * dim}


def _plain(value: Any) -> str:
    return ", ".join(str(item) for item in value) or "none" if isinstance(value, tuple) else str(value)
