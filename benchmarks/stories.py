"""Stories: bits per byte after five minutes, beside transformers' GPT-2 of about the same size trained the plain way.

    python benchmarks/stories.py --data FOLDER_WITH_train.jsonl_AND_valid.jsonl [--minutes 5]

Both train on the same shards (byte-level BPE of 4,096), the second one for as long as the first one took, and are
scored on the documents of valid.jsonl by the same code. The last line printed is the result as JSON.
"""

import argparse
import json
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import torch

import plain_gpt2
from tinyslm import Shards, load_model, prepare_data
from tinyslm.core.config import load_config
from tinyslm.data.config import DataConfig
from tinyslm.data.loader import Loader
from tinyslm.evaluation.loss import Score, score_documents
from tinyslm.tokenizer.config import TokenizerConfig
from tinyslm.training.config import RunConfig
from tinyslm.training.pipeline import finish, start

RECIPE = Path(__file__).parent.parent / "recipes" / "stories.toml"
PEER = {"dim": 256, "depth": 4, "heads": 4, "context": 256}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        config = DataConfig(valid_paths=(str(arguments.data / "valid.jsonl"),))
        shards = prepare_data(
            [str(arguments.data / "train.jsonl")],
            work / "shards",
            tokenizer=TokenizerConfig(vocab_size=4096),
            config=config,
        )
        mine = ours(work, shards, arguments.minutes)
        results = {"tinyslm": mine, "transformers GPT-2": theirs(work, shards, mine["training_seconds"])}
    print(json.dumps({"minutes": arguments.minutes, "results": results}))


def ours(work: Path, shards: Shards, minutes: float) -> dict:
    config = load_config(RunConfig, RECIPE, {"train": {"minutes": minutes, "steps": 0}})
    begun = time.monotonic()
    run = start([shards.folder], work / "run", config=config)
    finish(run, lambda event: print(event) if event["event"] == "validation" else None)
    figures = {"steps": run.steps, "training_seconds": run.progress.seconds}
    print(f"ours took {time.monotonic() - begun:.0f} s with the final score and the report")
    return {**figures, "parameters": run.config.model.parameters, **asdict(score(work / "run" / "model", shards))}


def theirs(work: Path, shards: Shards, seconds: float) -> dict:
    torch.manual_seed(1)
    model = plain_gpt2.build(shards.tokenizer.vocab_size, **PEER)
    loader = Loader(shards.split("train"), context=PEER["context"], batch=16, seed=1)
    steps = plain_gpt2.train_for(model, lambda: torch.from_numpy(loader.next()), seconds)
    model.save_pretrained(work / "peer")
    shards.tokenizer.save(work / "peer")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "steps": steps,
        "training_seconds": seconds,
        "parameters": parameters,
        **asdict(score(work / "peer", shards)),
    }


def score(folder: Path, shards: Shards) -> Score:
    valid = shards.split("valid")
    documents = ((valid.document(i)[:-1].tolist(), valid.document_bytes(i)) for i in range(valid.documents))
    return score_documents(load_model(folder), documents, end_id=shards.tokenizer.eos_id)


if __name__ == "__main__":
    main()
