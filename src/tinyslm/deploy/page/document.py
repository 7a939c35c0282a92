"""The page: the server's page (`serving/page/static`), with the model in the browser in place of the server.

Files that are here replace those of the server's page; its document is changed where it speaks of a server, or has a
field for what only a server can do.
"""

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from tinyslm.packs.browser_page import BrowserPage

POLICY = (
    "default-src 'none'; script-src 'self' blob: 'wasm-unsafe-eval'; worker-src 'self' blob:; connect-src 'self'; "
    "style-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'"
)
"""The runtime makes its worker from a blob, and compiles WebAssembly; nothing comes from, or goes to, another host."""

CHAT = "chat.html"
"""The document of the chat, where the page of a pack is the first."""
_LOADING = """</header>
<div id="loading">
  <progress id="loaded" max="1" value="0" aria-label="Loading the model"></progress>
  <span id="loading-status" role="status"></span>
  <span id="progress" aria-hidden="true"></span>
  <span id="speed"></span>
</div>

<main>"""

_CHANGES: Mapping[str, str] = {
    '<meta name="color-scheme"': f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
    '<meta name="color-scheme"',
    "<title>tinyslm</title>": "<title>{title}</title>",
    "<h1>tinyslm</h1>": "<h1>{title}</h1>",
    '<script type="module"': '<link rel="stylesheet" href="page/browser.css">\n<script type="module"',
    "</header>\n\n<main>": _LOADING,
    "<h2>A model of your own, on your own machine.</h2>": "<h2>{title}</h2>",
    "<p>What you write goes to this server and nowhere else. This browser keeps": "<p>The model runs in your browser: "
    "what you write does not leave this device. This browser keeps",
    "<fieldset>\n      <legend>Format of the answer": "<fieldset hidden>\n      <legend>Format of the answer",
    "<fieldset>\n      <legend>Tools": "<fieldset hidden>\n      <legend>Tools",
    "<label>Seed ": "<label hidden>Seed ",
    '<label class="unseen" for="model">': '<label class="unseen" for="model" hidden>',
    '<select id="model">': '<select id="model" hidden>',
    '<label for="key">': '<label for="key" hidden>',
    '<input id="key" ': '<input id="key" hidden ',
    '<p id="key-help" ': '<p id="key-help" hidden ',
    '<section id="attention" ': '<section id="attention" hidden ',
    '<fieldset class="choices">': '<fieldset class="choices" hidden>',
}
"""What stands once in the document, and what takes its place. What is hidden has fields that the views read."""

_KEPT = 'const PREFIX = "tinyslm.";'  # pages of several models may share a host, and so a browser's storage


_OF_PACKS: Mapping[str, str] = {
    '<meta name="color-scheme"': _CHANGES['<meta name="color-scheme"'],
    "tinyslm</title>": "{title}</title>",
    "<h1>tinyslm</h1>": _CHANGES["<h1>tinyslm</h1>"],
    '<script type="module"': _CHANGES['<script type="module"'],
    "</header>": _LOADING.removesuffix("\n\n<main>"),
    '<label class="unseen" for="model">': _CHANGES['<label class="unseen" for="model">'],
    '<select id="model">': _CHANGES['<select id="model">'],
    'href="."': f'href="{CHAT}"',
}
"""The same for the document of a pack's page, which has the same head."""


def static_files(name: str, title: str, pack: str = "", pack_page: BrowserPage | None = None) -> dict[str, bytes]:
    """The page's files that are the same for every model but for its name and title, by their paths in the bundle.

    The page of a pack comes first, if there is one.
    """
    page = _read("serving/page/static") | _read("deploy/page/static")
    index, worker = page.pop("index.html").decode(), page.pop("sw.js")
    page["storage.js"] = _changed(page["storage.js"].decode(), {_KEPT: f'const PREFIX = "tinyslm.{name}.";'}, title)
    placed = {f"page/{file}": content for file, content in page.items()}
    placed["sw.js"] = worker
    document = _changed(index, _CHANGES, title)
    if pack_page is None:
        return {**placed, "index.html": document}
    own = pack_page.static_files()
    placed["index.html"] = _changed(own.pop("index.html").decode(), {**_OF_PACKS, **pack_page.changes}, title)
    placed |= {f"page/{pack}/{file}": content for file, content in own.items()}
    placed |= {f"page/{path}": content for path, content in pack_page.files.items()}
    return {**placed, CHAT: document}


def _read(folder: str) -> dict[str, bytes]:
    """The files of a folder of this package; nothing is imported."""
    return {file.name: file.read_bytes() for file in files("tinyslm").joinpath(folder).iterdir() if file.is_file()}


def _changed(text: str, changes: Mapping[str, str], title: str) -> bytes:
    for old, new in changes.items():
        assert text.count(old) == 1, f"the page has {text.count(old)} times: {old}"
        text = text.replace(old, new.replace("{title}", escape(title)))
    return text.encode()
