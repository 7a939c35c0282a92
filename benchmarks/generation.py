"""Tokens per second with the KV cache: ours against `transformers.generate` on the same model folder.

    python benchmarks/generation.py

A 3.3M-parameter model of the default architecture, one stream, CPU, greedy, 200 new tokens, alternating in one process
with the machine's usual number of threads; the tokens must be equal. The last line printed is the result as JSON.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from throughput import ratios
from tinyslm import Decoder, ModelConfig, SamplingSettings, open_engine, save_model, train_tokenizer

PROMPT = "It was a dark and stormy night; the rain fell in torrents"
NEW = 190


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = train_tokenizer([], kind="byte")
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, dim=256, depth=4, context=256, init_std=0.1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        save_model(model, folder, tokenizer)
        engine = open_engine(folder)
        peer = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.tensor([tokenizer.encode(PROMPT)])
    rates: dict[str, list[float]] = {"tinyslm": [], "transformers.generate": []}
    for number in range(arguments.rounds + 1):
        start = time.perf_counter()
        mine = engine.complete(PROMPT, SamplingSettings(max_tokens=NEW, temperature=0), heal=False)[0]
        middle = time.perf_counter()
        with torch.inference_mode():
            other = peer.generate(ids, max_new_tokens=NEW, do_sample=False, eos_token_id=None, pad_token_id=0)
        end = time.perf_counter()
        assert mine.text == tokenizer.decode(other[0, ids.shape[1] :].tolist()), "the texts differ"
        if number:  # the first round warms up
            rates["tinyslm"].append(mine.tokens / (middle - start))
            rates["transformers.generate"].append(NEW / (end - middle))
            print(f"round {number} in tokens/s:", {who: round(values[-1]) for who, values in rates.items()})
    result = {
        "tokens_per_second": {who: statistics.median(values) for who, values in rates.items()},
        "ratio": ratios(rates["tinyslm"], rates["transformers.generate"]),
        "parameters": model.config.parameters,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
