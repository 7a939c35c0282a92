"""BLiMP's sentences scored by a model of 10M parameters: ours compared with lm-eval's model for transformers.

    python benchmarks/scoring.py --data FOLDER [--pairs 600] [--rounds 3] [--full]

Both score the same pairs with the same weights in fp32, in turns, in the environment of `make test-peers`. lm-eval runs
twice: with its default batch of 1, and with batches of 64. --full: all pairs, ours alone, timed once.
"""

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import torch

from harness import alternate, finish, medians, parser, ratio
from tinyslm import Decoder, ModelConfig, save_model, train_tokenizer
from tinyslm.evaluation.continuations import score_continuations
from tinyslm.evaluation.protocols import Continuation
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime

SHAPE = {"dim": 320, "depth": 7, "heads": 5, "context": 256}
Pairs = Sequence[tuple[str, str]]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="a folder with blimp.jsonl: good and bad")
    options.add_argument("--pairs", type=int, default=600, help="pairs of each round")
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--full", action="store_true")
    arguments = options.parse_args()
    rows = [json.loads(line) for line in (arguments.data / "blimp.jsonl").open(encoding="utf-8")]
    pairs = [(f" {row['good']}", f" {row['bad']}") for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(pairs, Path(folder) / "model")
        runtime = ModelRuntime.open(model)
        result = {"parameters": runtime.model.config.parameters, "pairs": arguments.pairs}
        if arguments.full:
            result["full"] = {"pairs": len(pairs), "seconds": seconds(lambda: ours(runtime, pairs))}
        step = len(pairs) // arguments.pairs
        rounds = [pairs[start::step][: arguments.pairs] for start in range(arguments.rounds + 1)]
        ways = {"tinyslm": lambda some: len(some) / seconds(lambda: ours(runtime, some))}
        for size in (1, 64):
            peer = load_peer(model, size)
            ways[f"lm-eval, batch {size}"] = lambda some, peer=peer: len(some) / seconds(lambda: theirs(peer, some))
        rates = alternate(ways, rounds)
    result["pairs_per_second"] = medians(rates)
    result["ratios"] = {name: ratio(rates["tinyslm"], rates[name]) for name in list(ways)[1:]}
    finish(result)


def make_model(pairs: Pairs, folder: Path) -> Path:
    """A random model whose tokenizer knows the sentences' words; its speed is that of a trained one."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer([good for good, _ in pairs[::2]], vocab_size=3072)
    save_model(Decoder(ModelConfig(family="llama", vocab_size=tokenizer.vocab_size, **SHAPE)), folder, tokenizer)
    return folder


def ours(runtime: ModelRuntime, pairs: Pairs) -> list[float]:
    asked = [Continuation("", text) for pair in pairs for text in pair]
    return [score.logprob for score in score_continuations(runtime, runtime.reading, asked)]


def load_peer(model: Path, batch_size: int):
    from lm_eval.models.huggingface import HFLM

    return HFLM(pretrained=str(model), dtype="float32", device="cpu", batch_size=batch_size)


def theirs(peer, pairs: Pairs) -> list[float]:
    requests = [SimpleNamespace(args=("", text)) for pair in pairs for text in pair]
    return [logprob for logprob, _ in peer.loglikelihood(requests, disable_tqdm=True)]


def seconds(work) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
