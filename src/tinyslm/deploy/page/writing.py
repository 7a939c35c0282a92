"""Writing the bundle "page": the model as a GGUF file, what the page has to know of it, the programs, the page."""

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tinyslm.core.errors import TinyslmError, require_extra
from tinyslm.core.npm import Package
from tinyslm.core.quantities import count, size
from tinyslm.deploy.bundle import Contents, Progress
from tinyslm.deploy.page.document import static_files
from tinyslm.deploy.page.packages import JINJA, WLLAMA, check_given, notice, obtain
from tinyslm.export.facts import sections_of
from tinyslm.export.format import Options, Original
from tinyslm.export.gguf import GGUF
from tinyslm.export.gguf.architectures import ARCHITECTURES
from tinyslm.inference.settings import read_default_sampling
from tinyslm.model.config import ModelConfig
from tinyslm.model.folder import holds_conversations, load_model, load_tokenizer, read_model_config
from tinyslm.packs import PACKS
from tinyslm.packs.browser_page import BrowserPage
from tinyslm.tokenizer.chat import CHATML
from tinyslm.tokenizer.tokenizer import Tokenizer

PACKAGES = (WLLAMA, JINJA)
BITS = {"q8_0": 8.5, "q4_k_m": 5.0}
"""Schemes, with the bits that they take for a weight, embeddings included; about."""
SMALL = 60_000_000
"""Parameters up to which 8 bits are downloaded quickly; larger models get 4."""
LARGEST = 10**9
"""Bytes of a model's file. The browser holds it twice while it starts; on phones, a tab may have about 2 GB."""
LONGEST = 4096
"""Tokens of context: keys and values of more would take too much of a browser's memory."""
ABOUT = "page/model.json"


def accept(contents: Contents) -> None:
    """Raise `TinyslmError` for a model that llama.cpp cannot run, one that is too large for a browser, and a pack
    without such a page.
    """
    from importlib.util import find_spec

    pack_page = page_of_pack(contents)
    if pack_page and not holds_conversations(contents.model):
        raise TinyslmError(
            f"The page of the pack {contents.pack} asks questions, and {contents.model} was never taught to answer.",
            f"Teach it the pack: tinyslm packs train {contents.pack} --model {contents.model}",
        )
    if find_spec("gguf") is None:
        raise require_extra("gguf", "Making a page")
    config = read_model_config(contents.model)
    if config.family not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise TinyslmError(
            f"The page's runtime, llama.cpp, does not have the family {config.family}.", f"It has these: {known}."
        )
    bytes_of_file = config.parameters * BITS[scheme_of(config)] / 8
    if bytes_of_file > LARGEST:
        fits = count(int(LARGEST * 8 / BITS["q4_k_m"]))
        raise TinyslmError(
            f"A model of {count(config.parameters)} parameters is too large for a browser: even in 4 bits it takes "
            f"{size(int(bytes_of_file))}, and the limit is {size(LARGEST)}.",
            f"Deploy a model of up to {fits} parameters: distil this one, or use --to container.",
        )
    check_given(_packages(pack_page), contents.runtime)


def page_of_pack(contents: Contents) -> BrowserPage | None:
    """The page of the pack, if there is one. Raises `TinyslmError` for a pack that has none."""
    return PACKS[contents.pack].page_of_a_browser() if contents.pack else None


def _packages(pack_page: BrowserPage | None) -> Sequence[Package]:
    return (*PACKAGES, *(pack_page.packages if pack_page else ()))


def scheme_of(config: ModelConfig) -> str:
    """How the weights are stored."""
    return "q8_0" if config.parameters <= SMALL else "q4_k_m"


def rounding(contents: Contents) -> str:
    """How exact the weights in the page are, in words."""
    scheme = scheme_of(read_model_config(contents.model))
    return f"about {BITS[scheme]:g} bits each ({scheme}); any scores are those of the model before it was rounded"


def write(contents: Contents, folder: Path, progress: Progress) -> None:
    """Write the files of the page into an empty folder."""
    runtime: dict[str, bytes] = {}
    pack_page = page_of_pack(contents)
    for package in _packages(pack_page):
        progress(f"fetching {package.name} {package.version}", 0, 0)
        runtime |= obtain(package, contents.runtime)
    runtime["NOTICE.txt"] = notice(_packages(pack_page)).encode()
    config, tokenizer = read_model_config(contents.model), load_tokenizer(contents.model)
    progress("converting the model", 0, 0)
    file = _write_model(contents, scheme_of(config), tokenizer, folder)
    about = _about(contents, config, tokenizer, file)
    placed = static_files(contents.name, contents.title, contents.pack, pack_page)
    worker = placed.pop("sw.js")
    placed |= {f"page/runtime/{name}": content for name, content in runtime.items()}
    placed[ABOUT] = (json.dumps(about, indent=2, ensure_ascii=False) + "\n").encode()
    placed["sw.js"] = _versioned(worker, placed, about["sha256"])
    for name, content in placed.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _write_model(contents: Contents, scheme: str, tokenizer: Tokenizer, folder: Path) -> Path:
    """Write the model's file into `folder`."""
    original = Original(contents.model, load_model(contents.model, dense=True), tokenizer)
    if reason := GGUF.supports(original.model):
        raise TinyslmError(f"The page's runtime cannot run {contents.model}: {reason}.", "Use --to container.")
    with TemporaryDirectory(dir=folder) as place:
        path = Path(place) / f"{contents.name}{GGUF.schemes[scheme].suffix}"
        GGUF.write(original, scheme, path, Options())
        return path.rename(folder / path.name)


def _about(contents: Contents, config: ModelConfig, tokenizer: Tokenizer, file: Path) -> dict[str, Any]:
    """What the page knows of the model: `page/model.json`."""
    special, conversations = tokenizer.special_ids, holds_conversations(contents.model)
    names = {"bos_token": tokenizer.bos, "eos_token": tokenizer.eos, "unk_token": tokenizer.unk}
    return {
        "name": contents.name,
        "file": file.name,
        "weights": rounding(contents),
        "bytes": file.stat().st_size,
        "sha256": sha256(file.read_bytes()).hexdigest(),
        "context": min(ARCHITECTURES[config.family].context(config), config.longest, LONGEST),
        "start": list(tokenizer.start_ids),
        "eos": tokenizer.eos_id,
        "stop": list(tokenizer.stop_ids),
        "names": list(special.items()),
        "special": list(special.values()),
        "template": template_of(tokenizer),
        "values": {name: value for name, value in {**names, "pad_token": tokenizer.pad}.items() if value is not None},
        "conversations": conversations,
        "sampling": read_default_sampling(contents.model).model_dump(mode="json"),
        "card": sections_of(contents.model, conversations),
    }


def template_of(tokenizer: Tokenizer) -> str | None:
    """The chat template that the page uses, if there is one."""
    if tokenizer.chat_template is None and {"<|im_start|>", "<|im_end|>"} <= tokenizer.special_ids.keys():
        return CHATML
    return tokenizer.chat_template


def _versioned(worker: bytes, placed: Mapping[str, bytes], model: str) -> bytes:
    """The service worker, which keeps these files until a page with others takes its place.

    The program that is loaded depends on the browser; it is kept when it is first asked for, as is the model.
    """
    digest = sha256(model.encode())
    for name, content in sorted(placed.items()):
        digest.update(name.encode() + b"\0" + sha256(content).digest())
    later = (".wasm", "LICENCE", "LICENSE", ".txt", ".md")
    first = ["./", *sorted(name for name in placed if not name.endswith(later))]
    return f'const VERSION = "{digest.hexdigest()[:16]}";\nconst FILES = {json.dumps(first)};\n'.encode() + worker
