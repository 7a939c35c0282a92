"""The format "hf": the model folder itself, written anew with dense weights, and read by transformers."""

import copy
from pathlib import Path

import torch

from tinyslm.evaluation.runtimes.hf_transformers import TransformersRuntime
from tinyslm.export.facts import training_record
from tinyslm.export.format import Format, Options, Original, Scheme, Written
from tinyslm.export.model_card import README, model_card
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def write(original: Original, scheme: str, path: Path, _options: Options) -> Written:
    """A model folder whose weights have the scheme's number format, with the model card."""
    model = original.model
    if scheme != "f32":
        model = copy.deepcopy(model).to(DTYPES[scheme])
    save_model(model, path, original.tokenizer, training_record(original.folder))
    (path / README).write_text(model_card(original.folder).render(), encoding="utf-8")
    return Written(path)


def _supports(_model: Decoder) -> str:
    return ""


HF = Format(
    name="hf",
    extra="transformers",
    schemes={
        "f32": Scheme("-hf-f32", largest_kl=1e-6, exact=True),
        "bf16": Scheme("-hf-bf16", largest_kl=0.01),
        "f16": Scheme("-hf-f16", largest_kl=0.001),
    },
    usual=("f32",),
    supports=_supports,
    write=write,
    open=lambda path, _, threads: TransformersRuntime.open(path, threads),
)
