"""Every program that runs a model scores and generates what the model itself does."""

import inspect
from contextlib import ExitStack

import numpy as np
import pytest
import torch

from tinyslm.core.errors import TinyslmError
from tinyslm.evaluation.answers import ConstrainedGenerator
from tinyslm.evaluation.protocols import greedy
from tinyslm.evaluation.runtimes.hf_transformers import TransformersRuntime
from tinyslm.evaluation.runtimes.llama_cpp import LlamaCpp
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.export.format import Options, Original
from tinyslm.export.formats import find_format
from tinyslm.inference.output_constraint import OutputConstraint
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import load_model, load_tokenizer, save_model
from tinyslm.packs.excel.grammar import formula_grammar
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.training import train_tokenizer

EXACT = {"gguf": "f32", "hf": "f32"}
MESSAGES = [{"role": "user", "content": "Say something."}]


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Original:
    """A random model that says letters, so that its text can be decoded token by token."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([inspect.getsource(inspect)], vocab_size=512)
    shape = {"dim": 64, "head_dim": 32, "depth": 2, "context": 128, "tied": False, "init_std": 0.2}
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, **shape))
    with torch.no_grad():
        for token in range(tokenizer.vocab_size):
            if not tokenizer.token_bytes(token).isascii() or token in tokenizer.special_ids.values():
                model.lm_head.weight[token] = 0
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(model, folder, tokenizer)
    return Original(folder, load_model(folder), load_tokenizer(folder))


@pytest.fixture(scope="module", params=["folder", *EXACT])
def runtime(request, original, tmp_path_factory):
    with ExitStack() as stack:
        if request.param == "folder":
            yield ModelRuntime.open(original.folder)
            return
        form = find_format(request.param)
        path = tmp_path_factory.mktemp(request.param) / f"model{form.schemes[EXACT[request.param]].suffix}"
        form.write(original, EXACT[request.param], path, Options())
        yield stack.enter_context(form.open(path, original.source, 1))


def test_texts_and_conversations_have_the_model_s_ids(runtime, original) -> None:
    for text in ("", "def find(name):", "Été 漢字 <|im_end|>"):
        assert runtime.encode(text) == original.tokenizer.encode(text)
    assert runtime.encode_chat(MESSAGES) == encode_chat(original.tokenizer, MESSAGES, add_generation_prompt=True)


def test_log_probabilities_are_the_model_s(runtime, original) -> None:
    ids = original.tokenizer.encode("def find(name):\n    return name")
    with torch.inference_mode():
        expected_tv = original.model(torch.tensor([ids]))[0].log_softmax(-1).numpy()
    for positions in ([len(ids) - 1], [0, 3]):
        found_pv = runtime.logprobs(ids, positions)
        assert found_pv.dtype == np.float32
        np.testing.assert_allclose(found_pv, expected_tv[positions], atol=1e-3)


def test_prompts_are_ids_or_conversations(runtime, original) -> None:
    ids = encode_chat(original.tokenizer, MESSAGES, add_generation_prompt=True)
    tokens = greedy(runtime, ids, 12)
    expected = list(ids)
    with torch.inference_mode():
        for _ in range(12):
            expected.append(int(original.model(torch.tensor([expected]))[0, -1].argmax()))
    assert tokens == expected[len(ids) :]
    answer = runtime.generate(MESSAGES, SamplingSettings(max_tokens=12, temperature=0))
    assert (list(answer.ids), answer.tokens, answer.finish) == (tokens, 12, "length")
    assert answer.text == original.tokenizer.decode(tokens)


def test_drawing_is_repeatable_or_refused(runtime, original) -> None:
    ids = original.tokenizer.encode("import ")
    settings = SamplingSettings(max_tokens=20, temperature=1.5, min_p=0.0, seed=3)
    if isinstance(runtime, TransformersRuntime):
        with pytest.raises(TinyslmError, match="greedy decoding"):
            runtime.generate(ids, settings)
        return
    drawn = runtime.generate(ids, settings)
    assert drawn == runtime.generate(ids, settings)
    assert list(drawn.ids) != greedy(runtime, ids, 20)
    stop = drawn.text[4:6]
    stopped = runtime.generate(ids, settings.model_copy(update={"stop": (stop,)}))
    assert (stopped.text, stopped.finish) == (drawn.text[: drawn.text.index(stop)], "stop")


def test_answers_follow_constraints(runtime, original) -> None:
    if not isinstance(runtime, ConstrainedGenerator):
        assert not isinstance(runtime, LlamaCpp)
        return
    sheet = {"headers": ["Day", "Units"], "rows": [[1, 2]] * 12}
    for constraint in (
        formula_grammar({"sheet": sheet}),
        OutputConstraint("regex", r"[0-9]{2}(\.[0-9])? (kg|m)"),
        OutputConstraint("choice", ["yes", "no"]),
    ):
        for seed in range(3):
            settings = SamplingSettings(max_tokens=40, temperature=1.0, seed=seed)
            answer = runtime.generate_constrained(MESSAGES, settings, constraint)
            matcher = constraint.compile(original.tokenizer).matcher()
            assert matcher.take(answer.ids) == len(answer.ids), answer.text
            assert answer.finish == "length" or matcher.accepts
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    answer = runtime.generate_constrained(
        MESSAGES, SamplingSettings(max_tokens=40, temperature=0), OutputConstraint("schema", schema)
    )
    assert answer.text.startswith("{")  # llama.cpp allows any white space in it
