"""Checking a page: its files, then the page itself in a browser, compared with tinyslm on the same model file."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

from tinyslm.core.errors import TinyslmError
from tinyslm.core.json_files import read_json
from tinyslm.core.printable import one_line
from tinyslm.deploy.bundle import Contents, Progress
from tinyslm.deploy.page.chromium import BrowserError, NoBrowserError, Page, find_browser, open_page
from tinyslm.deploy.page.writing import ABOUT, page_of_pack
from tinyslm.evaluation.runtimes.model_folder import ModelRuntime
from tinyslm.export.gguf.importing import import_gguf
from tinyslm.export.probes import CONVERSATIONS, PROMPTS, SPECIAL, strings
from tinyslm.packs.browser_page import PageFault
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer

STRINGS = 1000
TEXTS = PROMPTS[:3]
TOKENS = 24
CLOSE = 0.5
"""Nats by which a token may be less likely than the best one: llama.cpp rounds the inputs of its products with
quantized weights to 8 bits, which decides between tokens of about the same probability."""
LOAD_SECONDS, SECONDS = 300, 900
HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
"""What a server may send so that the page gets threads."""

_USE = """async (strings, chats, texts, most) => {
  const { loading } = await import(new URL("page/loading.js", document.baseURI).href);
  const runtime = await loading.model;
  const ids = [];
  for (const text of strings) ids.push(await runtime.encode(text));
  const conversations = [];
  for (const messages of chats) conversations.push(await runtime.conversation(messages));
  const off = { temperature: 0, repetition_penalty: 1, frequency_penalty: 0, presence_penalty: 0 };
  const sampling = { ...runtime.about.sampling, ...off };
  const continued = [];
  let count = 0;
  let milliseconds = 0;
  for (const text of texts) {
    const prompt = await runtime.prompt(text);
    const tokens = [];
    let began = 0;
    for await (const { id } of runtime.generate(prompt, { sampling, most })) {
      began ||= performance.now();
      tokens.push(id);
    }
    count += Math.max(0, tokens.length - 1);
    milliseconds += began ? performance.now() - began : 0;
    continued.push([prompt, tokens]);
  }
  const rate = milliseconds ? (1000 * count) / milliseconds : null;
  return { ids, conversations, continued, rate, threads: runtime.threads };
}"""

_OFFLINE = """async () => {
  const { loading } = await import(new URL("page/loading.js", document.baseURI).href);
  return (await loading.model).about.name;
}"""

_KEPT = """async (file) => {
  for (let tries = 0; tries < 600; tries += 1) {
    if (await caches.match(file)) return true;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return false;
}"""


def check(contents: Contents, folder: Path, progress: Progress) -> Mapping[str, str]:
    """Use the page as a visitor would, where there is a browser; gives what was tried and what came of it."""
    about = read_json(folder / ABOUT)
    if sha256((folder / about["file"]).read_bytes()).hexdigest() != about["sha256"]:
        raise _failed("the model's file is not what the page expects")
    program = find_browser()
    if program is None:
        return _without_browser(folder, "there is no Chromium here")
    progress("opening the page in a browser", 0, 0)
    try:
        return {"files": "complete", **_in_browser(program, contents, folder, about, progress)}
    except NoBrowserError as error:
        return _without_browser(folder, f"{program} does not start: {one_line(str(error), 100)}")
    except (BrowserError, PageFault) as error:
        raise _failed(one_line(str(error), 300)) from None


def _without_browser(folder: Path, why: str) -> dict[str, str]:
    return {"files": "complete", "browser": f"not checked: {why}. {_under_node(folder)}"}


def _in_browser(
    program: str, contents: Contents, folder: Path, about: Mapping[str, Any], progress: Progress
) -> dict[str, str]:
    with TemporaryDirectory(prefix="tinyslm-page-") as place, ExitStack() as host:
        url = host.enter_context(served(folder))
        with open_page(program, f"{url}/", LOAD_SECONDS) as page:
            progress("using the page", 0, 0)
            tokenizer = Tokenizer.load(contents.model)
            chats = _conversations(tokenizer) if about["template"] is not None else []
            texts = strings(STRINGS)
            found = page.run(_USE, SECONDS, texts, [messages for messages, _ in chats], TEXTS, TOKENS)
            pack_page = page_of_pack(contents)
            of_pack = pack_page.check(page, tokenizer) if pack_page else {}
            _check_requests(page, url)
            kept = page.run(_KEPT, LOAD_SECONDS, about["file"])
            browser = page.browser
            progress("comparing it with tinyslm", 0, 0)
            _check_ids("string", texts, found["ids"], [tokenizer.encode(text) for text in texts])
            _check_ids("conversation", chats, found["conversations"], [ids for _, ids in chats])
            import_gguf(folder / about["file"], Path(place) / "model", dtype="fp32")
            continued = _compared(ModelRuntime.open(Path(place) / "model"), found["continued"], about["stop"])
            progress("opening it without a network", 0, 0)
            host.close()
            offline = _offline(page, url) if kept else "not checked: the browser did not keep the model"
    rate = "" if found["rate"] is None else f", {found['rate']:.0f} tokens/s on {_threads(found['threads'])}"
    return {
        "browser": f"{browser}{rate}",
        "token ids": f"equal for {len(texts):,} strings and {len(chats)} conversations",
        "greedy tokens": continued,
        **of_pack,
        "other hosts": f"none asked, in {len(page.requests)} requests",
        "offline": offline,
    }


@contextmanager
def served(folder: Path, headers: Mapping[str, str] = {}) -> Iterator[str]:
    """The folder on an address of this machine, by a plain server of static files."""

    class Handler(SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            for name, value in headers.items():
                self.send_header(name, value)
            super().end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _conversations(tokenizer: Tokenizer) -> list[tuple[list[dict[str, str]], list[int]]]:
    """Conversations that the template takes, one with names of special tokens, and their ids."""
    names = " ".join([*SPECIAL, *tokenizer.special_ids])
    found: list[tuple[list[dict[str, str]], list[int]]] = []
    for messages in (*CONVERSATIONS, [{"role": "user", "content": f"{names} <|im"}]):
        try:
            found.append((messages, encode_chat(tokenizer, messages, add_generation_prompt=True)))
        except TinyslmError:
            if messages is CONVERSATIONS[0]:
                raise
    return found


def _check_ids(what: str, given: Sequence[Any], theirs: Sequence[list[int]], ours: Sequence[list[int]]) -> None:
    differing = [item for item, one, other in zip(given, theirs, ours, strict=True) if one != other]
    if differing:
        raise _failed(
            f"{len(differing)} of {len(given)} {what}s have other token ids than in tinyslm: "
            f"{one_line(repr(differing[0]), 100)}"
        )


def _check_requests(page: Page, url: str) -> None:
    host = urlsplit(url).netloc
    others = [one for one in page.requests if urlsplit(one).netloc != host and not one.startswith(("blob:", "data:"))]
    if others:
        raise _failed(f"it asked another host: {one_line(others[0], 200)}")
    if page.complaints:
        raise _failed(f"the browser reports: {one_line(page.complaints[0], 200)}")


def _compared(ours: ModelRuntime, continued: Sequence[tuple[list[int], list[int]]], stops: Sequence[int]) -> str:
    """How many of the greedy tokens are ours, where each is judged after the ones before it."""
    gaps: list[float] = []
    for prompt, tokens in continued:
        chosen = tokens if len(tokens) == TOKENS else [*tokens, None]
        places = range(len(prompt) - 1, len(prompt) - 1 + len(chosen))
        for token, logprobs_v in zip(chosen, ours.logprobs([*prompt, *tokens], places), strict=True):
            theirs = logprobs_v[list(stops)].max() if token is None else logprobs_v[token]
            gaps.append(float(logprobs_v.max() - theirs))
    if max(gaps) > CLOSE:
        raise _failed(f"a greedy token is less likely than tinyslm's on the same file, by {max(gaps):.2f} nats")
    others = [gap for gap in gaps if gap > 0]
    about_as_likely = f", the others less likely by up to {max(others):.2f} nats" if others else ""
    return f"{len(gaps) - len(others)} of {len(gaps)} are tinyslm's on the same file{about_as_likely}"


def _offline(page: Page, url: str) -> str:
    """Whether the page opens again after its host is gone."""
    page.open(f"{url}/", LOAD_SECONDS)
    page.run(_OFFLINE, LOAD_SECONDS)
    return "opens again without a network"


def _under_node(folder: Path) -> str:
    """Whether Node.js compiles the programs, where there is one."""
    node = shutil.which("node")
    if node is None:
        return "Node.js, which would try the WebAssembly, is missing, too."
    script = "for (const file of process.argv.slice(1)) new WebAssembly.Module(require('fs').readFileSync(file))"
    files = [str(file) for file in sorted((folder / "page" / "runtime").rglob("*.wasm"))]
    done = subprocess.run(  # noqa: S603  (our own program, on files of the bundle)
        [node, "-e", script, *files], capture_output=True, text=True, timeout=LOAD_SECONDS, check=False
    )
    if done.returncode:
        raise _failed(f"Node.js does not compile the WebAssembly: {one_line(done.stderr.strip(), 200)}")
    return "Node.js compiles the WebAssembly."


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def _failed(problem: str) -> TinyslmError:
    return TinyslmError(
        f"The page does not work as it should: {problem}.", "Nothing was kept. Use --to container, or report this."
    )
