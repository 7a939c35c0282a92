"""The engine: the cache changes nothing, nor does a batch; where texts end; what happens at the context's end."""

import pytest
import torch
import transformers

from running import logits_of
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine
from tinyslm.inference.scheduler import Limits
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.folder import save_model
from tinyslm.model.lora import add_adapters, has_adapters
from tinyslm.model.lora_config import LoraConfig

FAMILIES = ["qwen3", "llama", "gpt2", "tinyslm"]


def script(engine, monkeypatch, ids: list[int]) -> None:
    """Make the engine's model generate just these ids, whatever it is asked."""
    order = iter(ids)
    monkeypatch.setattr(engine._batch.runner, "draw", lambda logits, draws: [next(order) for _ in logits])


@pytest.mark.parametrize(
    ("family", "kv_heads"), [("qwen3", 4), ("qwen3", 2), ("llama", 4), ("llama", 1), ("gpt2", 4), ("tinyslm", 4)]
)
def test_logits_with_the_cache_are_those_without(make_engine, family: str, kv_heads: int) -> None:
    model = make_engine(family, kv_heads=kv_heads).model
    ids = torch.randint(0, 256, (3, 64))
    parts = [20, 1, 1, 5, 1, 36]  # a prefill, single tokens, and several at once in the middle
    with torch.inference_mode():
        found = logits_of(TorchRunner(model, 12), ids, parts)
        torch.testing.assert_close(found, model(ids), atol=2e-5, rtol=1e-4)


def test_longrope_generates_what_transformers_does_when_a_text_gets_longer_than_the_original_context(
    make_engine, tmp_path
) -> None:
    factors = {"short_factor": (1.0, 1.1, 1.4, 2.0), "long_factor": (1.5, 3.0, 7.0, 9.0)}
    scaling = {"kind": "longrope", "factor": 2.0, "original_context": 24, **factors}
    engine = make_engine("phi3", endless=True, context=64, rope_scaling=scaling, tied=False)
    engine = Engine(engine.model, engine.tokenizer, EngineOptions(limits=Limits(rows=8)))
    save_model(engine.model, tmp_path / "model", engine.tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    # The second one begins with blocks that were short in the first; the third repeats what can be guessed.
    for prompt in ("a text of 20 letters", "a text of 20 letters that is long now", "abcabcabcabcabcabcabc"):
        ids = torch.tensor([engine.tokenizer.encode(prompt)])
        wanted = theirs.generate(ids, do_sample=False, max_new_tokens=20, pad_token_id=0)[0, ids.shape[1] :].tolist()
        (found,) = engine.complete(prompt, SamplingSettings(temperature=0, max_tokens=20))
        assert found.text == engine.tokenizer.decode(wanted), prompt


def test_greedy_generation_equals_the_slow_way(make_engine) -> None:
    engine = make_engine()
    prompt = engine.tokenizer.encode("once upon")
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(30):
            ids.append(int(engine.model(torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] in engine.tokenizer.stop_ids:
                break
    generated = [token for token in ids[len(prompt) :] if token not in engine.tokenizer.stop_ids]
    found = engine.complete("once upon", SamplingSettings(temperature=0, max_tokens=30))[0]
    assert found.text == engine.tokenizer.decode(generated)


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_samples_of_a_batch_are_those_drawn_alone(make_engine, family: str) -> None:
    # Some run into the context's end, all end at different places: the stop text is a common byte.
    engine = make_engine(family, context=32)
    settings = {"max_tokens": 60, "temperature": 1.0, "stop": ("e", "q"), "repetition_penalty": 1.1}
    together = engine.complete("abc", SamplingSettings(seed=10, **settings), n=6)
    alone = [engine.complete("abc", SamplingSettings(seed=10 + i, **settings))[0] for i in range(6)]
    assert together == alone
    assert len({completion.tokens for completion in together}) > 1
    assert engine.complete("abc", SamplingSettings(seed=10, **settings), n=12)[:6] == alone  # too many for NumPy


def test_a_seed_repeats_and_no_seed_does_not(make_engine) -> None:
    engine = make_engine()
    seeded = SamplingSettings(max_tokens=20, seed=3)
    assert engine.complete("x", seeded) == engine.complete("x", seeded)
    free = [engine.complete("x", SamplingSettings(max_tokens=20, temperature=1.5))[0].text for _ in range(2)]
    assert free[0] != free[1]
    state = torch.get_rng_state()
    engine.complete("x", seeded)
    assert torch.equal(torch.get_rng_state(), state)  # sampling while training does not disturb the training


@pytest.mark.parametrize("end", ["<|endoftext|>", "<|im_end|>"])
def test_end_tokens_end_a_text_and_are_not_part_of_it(make_engine, monkeypatch, end: str) -> None:
    engine = make_engine()
    assert engine.tokenizer.special_ids[end] in engine.tokenizer.stop_ids
    script(engine, monkeypatch, [*engine.tokenizer.encode("Hello"), engine.tokenizer.special_ids[end]])
    (found,) = engine.complete("", SamplingSettings(max_tokens=50))
    assert (found.text, found.finish, found.tokens) == ("Hello", "stop", 6)
    assert found.end == engine.tokenizer.special_ids[end]
    assert found.end not in found.ids


def test_max_tokens_ends_a_text(make_engine, monkeypatch) -> None:
    engine = make_engine()
    script(engine, monkeypatch, engine.tokenizer.encode("Hello"))
    (found,) = engine.complete("", SamplingSettings(max_tokens=5))
    assert (found.text, found.finish, found.tokens) == ("Hello", "length", 5)


def test_a_stop_text_over_several_tokens_ends_a_text(make_engine, monkeypatch) -> None:
    engine = make_engine()
    script(engine, monkeypatch, engine.tokenizer.encode("one\ntwo\n\nthree"))
    pieces = list(engine.stream("", SamplingSettings(max_tokens=50, stop=("\n\n",))))
    assert "".join(piece.text for piece in pieces) == "one\ntwo"
    assert pieces[-1].finish == "stop"
    assert [piece.finish for piece in pieces[:-1]] == [""] * (len(pieces) - 1)


def test_text_held_back_for_a_stop_text_comes_at_the_end(make_engine, monkeypatch) -> None:
    engine = make_engine()
    script(engine, monkeypatch, engine.tokenizer.encode("one STO"))
    assert engine.complete("", SamplingSettings(max_tokens=7, stop=("STOP",)))[0].text == "one STO"


@pytest.mark.parametrize("text", ["naïve café – 日本語 🙂 done", "🙂🙂"])
@pytest.mark.parametrize("cut", [0, 1, 2])
def test_pieces_joined_are_the_decoded_ids(make_engine, monkeypatch, text: str, cut: int) -> None:
    engine = make_engine()
    ids = engine.tokenizer.encode(text)[: len(text.encode()) - cut]
    script(engine, monkeypatch, ids)
    pieces = list(engine.stream("", SamplingSettings(max_tokens=len(ids))))
    assert "".join(piece.text for piece in pieces) == engine.tokenizer.decode(ids)
    assert "�" not in "".join(piece.text for piece in pieces[:-1])


def test_pieces_of_several_samples_carry_their_numbers(make_engine) -> None:
    engine = make_engine()
    settings = SamplingSettings(max_tokens=15, seed=1)
    texts = ["", "", ""]
    for piece in engine.stream("ab", settings, n=3):
        texts[piece.sample] += piece.text
    assert texts == [completion.text for completion in engine.complete("ab", settings, n=3)]


def test_a_prompt_longer_than_the_context_is_refused(make_engine) -> None:
    engine = make_engine(context=16)
    assert engine.complete("x" * 15, SamplingSettings(max_tokens=1))[0].tokens == 1
    with pytest.raises(TinyslmError, match=r"16 tokens.* 16") as caught:
        engine.complete("x" * 16)
    assert "at most 15 tokens" in caught.value.remedy


def test_generation_goes_on_past_the_context_with_its_newer_half(make_engine) -> None:
    engine = make_engine("llama", context=16, endless=True)
    ids = engine.tokenizer.encode("abcdef")
    window = list(ids)
    for _ in range(40):
        with torch.no_grad():
            ids.append(int(engine.model(torch.tensor([window]))[0, -1].argmax()))
        window = ids[-8:] if len(window) == 16 else [*window, ids[-1]]
    found = engine.complete("abcdef", SamplingSettings(max_tokens=40, temperature=0))[0]
    assert (found.text, found.finish) == (engine.tokenizer.decode(ids[6:]), "length")


def test_an_empty_prompt_starts_a_document(make_engine) -> None:
    engine = make_engine()
    with torch.no_grad():
        likeliest = int(engine.model(torch.tensor([[engine.tokenizer.eos_id]]))[0, -1].argmax())
    (found,) = engine.complete("", SamplingSettings(max_tokens=1, temperature=0))
    assert found.text == engine.tokenizer.decode([likeliest]) or likeliest in engine.tokenizer.stop_ids


def test_special_names_in_a_prompt_are_plain_text(make_engine) -> None:
    engine = make_engine()
    assert not set(engine.tokenizer.encode("<|im_end|>")) & set(engine.tokenizer.stop_ids)


def test_dropout_is_off_while_generating(make_engine) -> None:
    engine = make_engine(dropout=0.5)
    engine.model.train()
    settings = SamplingSettings(max_tokens=10, seed=1)
    assert engine.complete("a", settings) == engine.complete("a", settings)


def test_adapters_take_part(make_engine) -> None:
    """The compiled step knows only weights: adapters are merged into a copy first, the model stays as it is."""
    model, tokenizer = make_engine().model, make_engine().tokenizer
    add_adapters(model, LoraConfig(rank=2))
    for name, parameter in model.named_parameters():
        if name.endswith("adapter.B"):
            torch.nn.init.normal_(parameter, std=0.5)
    engine, ids = Engine(model, tokenizer), torch.randint(0, 256, (1, 12))
    with torch.inference_mode():
        torch.testing.assert_close(logits_of(engine._batch.runner, ids, [12]), model(ids), atol=1e-4, rtol=1e-3)
    assert has_adapters(model)
