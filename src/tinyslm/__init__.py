"""Build your own small language model: text in, a trained and measured model folder out.

Every name is imported when it is first used; importing tinyslm imports neither torch nor anything else that is heavy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tinyslm.agents.agent import Agent
    from tinyslm.compression.config import QuantizeConfig
    from tinyslm.compression.quantizing import quantize as quantize_model
    from tinyslm.core.errors import TinyslmError
    from tinyslm.data.prepare import prepare as prepare_data
    from tinyslm.data.shards import Shards
    from tinyslm.deploy.deploying import deploy_model
    from tinyslm.deploy.pushing import push_bundle
    from tinyslm.deploy.settings import BundleSettings
    from tinyslm.evaluation.grader_check import check_grader
    from tinyslm.evaluation.score import evaluate
    from tinyslm.export.comparing import compare_models
    from tinyslm.export.evaluating import evaluate_tasks
    from tinyslm.export.exporting import export_model
    from tinyslm.export.gguf.importing import import_gguf
    from tinyslm.export.pulling import pull
    from tinyslm.inference.engine import Engine
    from tinyslm.inference.grammar import Grammar
    from tinyslm.inference.opening import open_engine
    from tinyslm.inference.request import Request
    from tinyslm.inference.settings import SamplingSettings
    from tinyslm.inference.tools.tool import tool
    from tinyslm.inspection.tokenizers import compare_tokenizers
    from tinyslm.model.adapted import AdaptedModel
    from tinyslm.model.article import TinySLM
    from tinyslm.model.config import ModelConfig
    from tinyslm.model.decoder import Decoder
    from tinyslm.model.folder import load_model, load_tokenizer, save_model
    from tinyslm.planning.finetune import finetune, plan_finetune
    from tinyslm.planning.linting import lint_data
    from tinyslm.planning.planner import make_plan
    from tinyslm.planning.teacher import Teacher, extend_examples
    from tinyslm.planning.train import resume, train
    from tinyslm.tokenizer.tokenizer import Tokenizer
    from tinyslm.tokenizer.training import train_tokenizer
    from tinyslm.training.config import RunConfig
    from tinyslm.training.loop import train_steps

_PLACES = {
    "AdaptedModel": "tinyslm.model.adapted",
    "Agent": "tinyslm.agents.agent",
    "BundleSettings": "tinyslm.deploy.settings",
    "Decoder": "tinyslm.model.decoder",
    "Engine": "tinyslm.inference.engine",
    "Grammar": "tinyslm.inference.grammar",
    "ModelConfig": "tinyslm.model.config",
    "QuantizeConfig": "tinyslm.compression.config",
    "Request": "tinyslm.inference.request",
    "RunConfig": "tinyslm.training.config",
    "SamplingSettings": "tinyslm.inference.settings",
    "Shards": "tinyslm.data.shards",
    "TinySLM": "tinyslm.model.article",
    "TinyslmError": "tinyslm.core.errors",
    "Teacher": "tinyslm.planning.teacher",
    "Tokenizer": "tinyslm.tokenizer.tokenizer",
    "check_grader": "tinyslm.evaluation.grader_check",
    "compare_models": "tinyslm.export.comparing",
    "compare_tokenizers": "tinyslm.inspection.tokenizers",
    "deploy_model": "tinyslm.deploy.deploying",
    "evaluate": "tinyslm.evaluation.score",
    "evaluate_tasks": "tinyslm.export.evaluating",
    "export_model": "tinyslm.export.exporting",
    "extend_examples": "tinyslm.planning.teacher",
    "finetune": "tinyslm.planning.finetune",
    "import_gguf": "tinyslm.export.gguf.importing",
    "lint_data": "tinyslm.planning.linting",
    "load_model": "tinyslm.model.folder",
    "load_tokenizer": "tinyslm.model.folder",
    "make_plan": "tinyslm.planning.planner",
    "open_engine": "tinyslm.inference.opening",
    "plan_finetune": "tinyslm.planning.finetune",
    "prepare_data": "tinyslm.data.prepare:prepare",
    "pull": "tinyslm.export.pulling",
    "push_bundle": "tinyslm.deploy.pushing",
    "quantize_model": "tinyslm.compression.quantizing:quantize",
    "resume": "tinyslm.planning.train",
    "save_model": "tinyslm.model.folder",
    "tool": "tinyslm.inference.tools.tool",
    "train": "tinyslm.planning.train",
    "train_steps": "tinyslm.training.loop",
    "train_tokenizer": "tinyslm.tokenizer.training",
}

__all__ = [
    "AdaptedModel",
    "Agent",
    "BundleSettings",
    "Decoder",
    "Engine",
    "Grammar",
    "ModelConfig",
    "QuantizeConfig",
    "Request",
    "RunConfig",
    "SamplingSettings",
    "Shards",
    "Teacher",
    "TinySLM",
    "TinyslmError",
    "Tokenizer",
    "check_grader",
    "compare_models",
    "compare_tokenizers",
    "deploy_model",
    "evaluate",
    "evaluate_tasks",
    "export_model",
    "extend_examples",
    "finetune",
    "import_gguf",
    "lint_data",
    "load_model",
    "load_tokenizer",
    "make_plan",
    "open_engine",
    "plan_finetune",
    "prepare_data",
    "pull",
    "push_bundle",
    "quantize_model",
    "resume",
    "save_model",
    "tool",
    "train",
    "train_steps",
    "train_tokenizer",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'tinyslm' has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = getattr(import_module(module), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__"]
