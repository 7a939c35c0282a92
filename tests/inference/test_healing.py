"""A healed prompt is continued with the model's own probabilities, given that the text begins with the prompt's."""

from math import exp

import numpy as np
import pytest
import tokenizers
import torch
from tokenizer_folders import with_fallback
from tokenizers import decoders, models, pre_tokenizers, trainers

from tinyslm.batch.openai_requests import answer_requests
from tinyslm.data.rows import Row
from tinyslm.inference.batching import EngineOptions
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.inference.healing import cuts_of
from tinyslm.inference.request import Request
from tinyslm.inference.sampler import log_probabilities
from tinyslm.inference.scheduler import Limits
from tinyslm.inference.settings import SamplingSettings
from tinyslm.inference.torch_runner import TorchRunner
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.serving.app import engine_app
from tinyslm.tokenizer.tokenizer import Tokenizer

NAMES = ["alpha", "beta", "gamma", "delta", "read", "ready", "reading", "12", "19"]
LINES = [f"def {one}(x):\n    return {other} + {one}\n\n" for one in NAMES for other in NAMES]
PROMPTS = ["def ", "def rea", "def alpha(x):\n    ", "return 1", "x  "]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Byte-level, with GPT-2's split into words."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(LINES, trainer)
    return Tokenizer(backend)


@pytest.fixture(scope="module")
def model(tokenizer) -> Decoder:
    torch.manual_seed(1)
    model = Decoder(ModelConfig(dim=32, heads=4, depth=2, context=64, vocab_size=tokenizer.vocab_size))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def engine(model, tokenizer) -> Engine:
    return Engine(model, tokenizer)


def logprobs_of(model: Decoder, ids) -> np.ndarray:
    """Of what follows each token, `[t, v]`."""
    with torch.inference_mode():
        return np.stack([log_probabilities(row) for row in model(torch.tensor([list(ids)]))[0].numpy()])


def begun(model: Decoder, tokenizer: Tokenizer, prompt: str) -> dict[tuple[int, ...], float]:
    """The probability of each way to begin a text that begins with the prompt's, by its tokens; computed one by one."""
    ids = tokenizer.encode(prompt)
    cuts = cuts_of(tokenizer, ids)
    assert cuts is not None
    found = {}
    for cut, rest in cuts.rests.items():
        rows = logprobs_of(model, cuts.root + cut)
        before = sum(rows[len(cuts.root) - 1 + place][token] for place, token in enumerate(cut))
        for token in range(tokenizer.vocab_size):
            if token not in tokenizer.special_ids.values() and tokenizer.token_bytes(token).startswith(rest):
                found[(*cuts.root, *cut, token)] = exp(before + rows[-1][token])
    whole = sum(found.values())
    return {key: value / whole for key, value in found.items()}


def healed(engine: Engine, prompt: str, n: int = 1, logprobs: int | None = None, **settings) -> Request:
    chosen = SamplingSettings(**{"max_tokens": 8, "temperature": 1.0, "min_p": 0.0, "seed": 0, **settings})
    return Request(engine.prompt_ids(prompt), chosen, n, logprobs=logprobs, heal=True)


def test_after_a_space_everything_that_begins_with_one_may_come(engine, model, tokenizer) -> None:
    """P(name | "def", then a space), over the whole vocabulary."""
    after = logprobs_of(model, tokenizer.encode("def"))[-1]
    spaced = [token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token).startswith(b" ")]
    expected = {token: after[token] - np.log(np.exp(after[spaced]).sum()) for token in spaced}
    (found,) = engine.submit(healed(engine, "def ", logprobs=tokenizer.vocab_size, max_tokens=1)).whole()
    longer = {token: len(tokenizer.token_bytes(token)) > 1 for token in spaced}
    top = dict(found.scores[0].top)
    assert len(spaced) > 10
    assert top == {token: pytest.approx(value, abs=1e-4) for token, value in expected.items() if longer[token]}


def test_draws_have_these_probabilities(engine, model, tokenizer) -> None:
    """Pearson's chi-square over 600 draws, for a prompt with several cuts."""
    expected = begun(model, tokenizer, "def alpha(x):\n    ")
    names = {tokenizer.decode(ids)[len("def alpha(x):\n    ") :]: 0.0 for ids in expected}
    for ids, share in expected.items():
        names[tokenizer.decode(ids)[len("def alpha(x):\n    ") :]] += share
    draws = engine.submit(healed(engine, "def alpha(x):\n    ", n=600, max_tokens=1, seed=5)).whole()
    common = [name for name, share in names.items() if name and 600 * share >= 5]
    counts = [sum(draw.text == name for draw in draws) for name in common]
    rest, left = 600 - sum(counts), 600 * (1 - sum(names[name] for name in common))
    squares = [
        (count - 600 * names[name]) ** 2 / (600 * names[name]) for count, name in zip(counts, common, strict=True)
    ]
    freedom = len(common)
    assert freedom > 5
    assert sum(squares) + (rest - left) ** 2 / left < freedom + 4 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("prompt", PROMPTS)
def test_scores_are_those_of_the_text_and_nothing_is_repeated(engine, model, tokenizer, prompt: str) -> None:
    expected = begun(model, tokenizer, prompt)
    generation = engine.submit(healed(engine, prompt, n=24, logprobs=3))
    completions = generation.whole()
    for found in completions:
        if not found.ids:
            continue  # it ended at once
        first = found.scores[0]
        new = tokenizer.token_bytes(first.id)[first.repeats :]
        text = new + b"".join(tokenizer.token_bytes(token) for token in found.ids[1:])
        assert found.text == text.decode("utf-8", "replace")
        assert found.tokens - (found.finish == "stop") == len(found.ids) == len(found.scores) <= 8
        ways = [ids for ids in expected if len(tokenizer.decode_bytes(ids)) == len(prompt) and not first.repeats]
        ways = ways or [ids for ids in expected if ids[-1] == first.id]
        shares = [expected[ids] for ids in ways]
        if not first.repeats:  # the prompt's own text was drawn first, in one of the ways to cut it
            shares = [expected[ids] * exp(logprobs_of(model, ids)[-1][first.id]) for ids in ways]
        assert any(exp(first.logprob) == pytest.approx(share, rel=1e-3) for share in shares)
    assert generation.usage.prompt_tokens == len(engine.prompt_ids(prompt))
    assert generation.usage.generated_tokens == sum(found.tokens for found in completions)


def test_a_prompt_is_healed_unless_somebody_says_otherwise(engine) -> None:
    request = healed(engine, "def ", n=40)
    wanted = engine.submit(request).whole()
    assert engine.complete("def ", request.settings, n=40) == wanted
    plain = engine.submit(Request(request.prompt_ids, request.settings, 40)).whole()
    assert engine.complete("def ", request.settings, n=40, heal=False) == plain != wanted


@pytest.mark.parametrize("prompt", PROMPTS)
def test_healed_texts_are_the_same_in_all_circumstances(engine, model, tokenizer, prompt: str) -> None:
    request = healed(engine, prompt, n=5, temperature=0.9, max_tokens=30)
    wanted = engine.submit(request).whole()
    assert engine.submit(request).whole() == wanted  # its beginning is in the cache now
    pieces = ["", "", "", "", ""]
    for piece in engine.submit(request):
        pieces[piece.sample] += piece.text
    assert pieces == [one.text for one in wanted]
    for options in (EngineOptions(guesses=0), EngineOptions(cache_tokens=80, limits=Limits(rows=5, busy_rows=2))):
        other = Engine(model, tokenizer, options)
        assert other.submit(request).whole() == wanted
    torch_engine = Engine(model, tokenizer, runner=TorchRunner)
    others = [torch_engine.submit(healed(engine, prompt)) for _ in range(3)]  # side by side
    assert len({other.whole()[0].text for other in others}) == 1


def test_stop_texts_do_not_match_inside_the_prompt(engine) -> None:
    texts = [one.text for one in engine.submit(healed(engine, "def ", n=20)).whole()]
    stopped = engine.submit(healed(engine, "def ", n=20, stop=(" ",))).whole()
    assert [one.text for one in stopped] == [text.partition(" ")[0] for text in texts]
    assert any(one.text for one in stopped)


def test_greedy_takes_the_likeliest_text(engine, model, tokenizer) -> None:
    expected = begun(model, tokenizer, "def rea")
    best = max(expected, key=expected.__getitem__)
    (found,) = engine.submit(healed(engine, "def rea", temperature=0)).whole()
    assert (tokenizer.decode(best)).startswith("def rea")
    assert ("def rea" + found.text).startswith(tokenizer.decode(best))


def test_biases_hold_for_the_first_token(engine, tokenizer) -> None:
    (token,) = tokenizer.encode(" gamma")
    request = healed(engine, "def ")
    (found,) = engine.submit(Request(request.prompt_ids, request.settings, bias={token: 100.0}, heal=True)).whole()
    assert found.text.startswith("gamma")


def test_what_is_not_healed(engine, tokenizer, byte_tokenizer) -> None:
    ids = tokenizer.encode("def ")
    assert cuts_of(tokenizer, ids) is not None
    assert cuts_of(tokenizer, ids[-1:]) is None  # nothing would stand before it
    assert cuts_of(tokenizer, [*ids, tokenizer.eos_id]) is None
    special = cuts_of(tokenizer, [*ids, tokenizer.eos_id, *ids])
    assert special is not None
    assert special.root == (*ids, tokenizer.eos_id, ids[0])
    assert cuts_of(byte_tokenizer, byte_tokenizer.encode("def ")) is None  # no token is longer
    grammar = Grammar.regex("[0-9]+", tokenizer)
    (found,) = engine.complete("def ", SamplingSettings(max_tokens=4, seed=1), grammar=grammar)
    assert found.text.isdecimal()


@pytest.mark.parametrize("prompt", [*PROMPTS, "naïve alp", "é é ", "x\n\n\n", "🙂 def "])
def test_cuts_give_the_prompt(tokenizer, prompt: str) -> None:
    cuts = cuts_of(tokenizer, tokenizer.encode(prompt))
    assert cuts is not None
    for cut, rest in cuts.rests.items():
        assert tokenizer.decode_bytes((*cuts.root, *cut)) + rest == prompt.encode()
        assert all(tokenizer.token_bytes(int(token)).startswith(rest) for token in cuts.first[cut])
    assert {cut for cut in cuts.rests if not any(chain[: len(cut)] == cut for chain in cuts.chains)} == set()


@pytest.mark.parametrize("strip", [True, False])
def test_tokenizers_with_byte_fallback(strip: bool) -> None:
    backend = with_fallback(strip=strip)
    tokenizer = Tokenizer(backend, eos="</s>", bos="<s>", adds_bos=True)
    ids = [*tokenizer.start_ids, *tokenizer.encode("The ca")]
    cuts = cuts_of(tokenizer, ids)
    assert cuts is not None
    assert cuts.root[0] == tokenizer.bos_id
    whole = tokenizer.decode_bytes(ids[1:])
    for cut, rest in cuts.rests.items():
        assert b"".join(map(tokenizer.token_bytes, (*cuts.root[1:], *cut))).strip() + rest in (whole, b" " + whole)
        assert all(tokenizer.token_bytes(int(token)).startswith(rest) for token in cuts.first[cut])


def test_completions_tell_new_text_only(model, tokenizer) -> None:
    """`/v1/completions` with probabilities: names, offsets and counts are those of the new text."""
    engine = Engine(model, tokenizer)
    engine.start()
    body = {"prompt": "def ", "max_tokens": 3, "temperature": 1.0, "min_p": 0.0, "seed": 0, "n": 8, "logprobs": 3}
    bodies = [
        {**body, "token_healing": True},
        body,
        {**body, "prompt": tokenizer.encode("def "), "token_healing": True},
    ]
    lines = [
        Row(number, {"custom_id": str(number), "method": "POST", "url": "/v1/completions", "body": one})
        for number, one in enumerate(bodies)
    ]
    on, off, ids = (done.result["response"]["body"] for done in answer_requests(engine_app(engine), iter(lines), 3))
    assert [one["text"] for one in off["choices"]] == [one["text"] for one in ids["choices"]]
    assert [one["text"] for one in on["choices"]] != [one["text"] for one in off["choices"]]
    assert on["usage"]["prompt_tokens"] == off["usage"]["prompt_tokens"] == len(tokenizer.encode("def "))
    for choice in on["choices"]:
        names = choice["logprobs"]["tokens"]
        spelled = [
            bytes.fromhex(name[6:].replace("\\x", "")) if name.startswith("bytes:") else name.encode() for name in names
        ]
        assert b"".join(spelled).decode("utf-8", "replace") == choice["text"]
        assert all("" not in top for top in choice["logprobs"]["top_logprobs"])
