"""Make the README's pictures by running the program: python docs/make_pictures.py

Writes docs/quickstart.svg, a recording of `tinyslm quickstart` in a terminal, and docs/look-inside.png, what the page
of `tinyslm serve` shows of the model it trained. Needs the extras `dev` and `docs`, and Chromium.
"""

import argparse
import fcntl
import html
import io
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import pyte
from PIL import Image
from playwright.sync_api import expect, sync_playwright

FOLDER = Path(__file__).parent
PROGRAMS = Path(sys.executable).parent
COLUMNS, ROWS = 92, 60
SHOWN_ROWS = 24
FRAMES, FRAME_SECONDS, LAST_SECONDS = 9, 1.2, 8.0
FONT, ADVANCE, LINE = 13, 7.83, 18
"""Pixels: size of the font, width of a character, height of a line."""
COLOURS = {"cyan": "#39c5cf", "red": "#f47067", "brown": "#daaa3f", "green": "#57ab5a"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEXT = '''def read_lines(path, encoding="utf-8"):
    """Return the lines of a file."""
    with open(path, encoding=encoding) as file:
        return file.readlines()
'''

Line = list[tuple[str, str]]
"""A line of the terminal: pieces of text, each with its colour or none."""
Frame = list[Line]


def main() -> None:
    """Both pictures, or the page alone with a model that was trained before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="photograph the page with this run folder, and record nothing")
    run = parser.parse_args().run
    with tempfile.TemporaryDirectory() as folder:
        if run is None:
            run = Path(folder, "quickstart")
            picture = svg(spread(record(["tinyslm", "quickstart"], run.parent)))
            (FOLDER / "quickstart.svg").write_text(picture, encoding="utf-8")
        photograph(run, FOLDER / "look-inside.png")


def record(command: Sequence[str], folder: Path) -> list[Frame]:
    """What a terminal shows while the command runs in the folder: a frame about every half second, and the last one."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=writer, stdout=writer, stderr=writer)
    os.close(writer)
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    prompt: Line = [("$ ", COLOURS["green"]), (" ".join(command), "")]
    frames, taken = [], 0.0
    while data := _read(reader):
        stream.feed(data)
        if time.monotonic() - taken > 0.5:
            frames.append([prompt, *lines_of(screen)])
            taken = time.monotonic()
    frames.append([prompt, *lines_of(screen)])
    assert process.wait() == 0, frames[-1]
    return frames


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux reports the end of a terminal as an error
        return b""


def lines_of(screen: pyte.Screen) -> Frame:
    """The screen's lines, without the empty ones at its end."""
    lines = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        pieces = groupby(cells, key=lambda cell: COLOURS.get(cell.fg, ""))
        lines.append([("".join(cell.data for cell in piece), colour) for colour, piece in pieces])
    while lines and not "".join(text for text, _ in lines[-1]).strip():
        lines.pop()
    return lines


def spread(frames: Sequence[Frame]) -> list[Frame]:
    """A few frames at equal distances in time, and the last one."""
    every = max(1, len(frames) // FRAMES)
    return [*frames[: -every or None : every], frames[-1]]


def svg(frames: Sequence[Frame]) -> str:
    """The frames one after the other, repeated, beginning with the last one; without animation, only that one."""
    rows = min(SHOWN_ROWS, max(len(frame) for frame in frames))
    width, height = COLUMNS * ADVANCE + 32, rows * LINE + 56
    total = FRAME_SECONDS * (len(frames) - 1) + LAST_SECONDS
    style = [
        f"text {{ font: {FONT}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; white-space: pre; }}",
        f".frame {{ visibility: hidden; animation: {total:g}s step-end {LAST_SECONDS / 2 - total:g}s infinite; }}",
    ]
    groups = []
    for number, frame in enumerate(frames):
        begin, end = (100 * FRAME_SECONDS * (number + step) / total for step in (0, 1))
        after = "" if number == len(frames) - 1 else f"{end:.2f}% {{ visibility: hidden; }} "
        before = "" if number == 0 else "0% { visibility: hidden; } "
        style.append(f"@keyframes f{number} {{ {before}{begin:.2f}% {{ visibility: visible; }} {after}}}")
        style.append(f"#f{number} {{ animation-name: f{number}; }}")
        lines = "".join(_drawn(line, row) for row, line in enumerate(frame[-rows:]))
        groups.append(f'<g id="f{number}" class="frame" fill="#d3dbe3">\n{lines}</g>')
    style.append(f"#f{len(frames) - 1} {{ visibility: visible; }}")
    style.append("@media (prefers-reduced-motion: reduce) { .frame { animation: none !important; } }")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="Recording of tinyslm quickstart in a terminal">',
        *("<style>", *style, "</style>"),
        '<rect width="100%" height="100%" rx="8" fill="#22272e"/>',
        *(f'<circle cx="{x}" cy="18" r="5.5" fill="#545d68"/>' for x in (20, 38, 56)),
        *(*groups, "</svg>\n"),
    ]
    return "\n".join(parts)


def _drawn(line: Line, row: int) -> str:
    """The pieces of a line, each stretched to the width of its characters, whatever font the reader has."""
    column, drawn = 0, []
    for text, colour in line:
        if word := text.strip():
            x = 16 + (column + len(text) - len(text.lstrip())) * ADVANCE
            fill = f' fill="{colour}"' if colour else ""
            size = f'x="{x:.1f}" y="{48 + row * LINE}" textLength="{len(word) * ADVANCE:.1f}"'
            drawn.append(f"<text {size}{fill}>{html.escape(word, quote=False)}</text>\n")
        column += len(text)
    return "".join(drawn)


def photograph(model: Path, out: Path) -> None:
    """The page's view of how the model reads `TEXT`."""
    command = [PROGRAMS / "tinyslm", "serve", model, "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert server.stdout
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        program = next(found for name in BROWSERS if (found := shutil.which(name)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1280, "height": 720}, device_scale_factor=1.25)
            page.goto(address)
            expect(page.locator("#model option")).not_to_have_count(0)
            page.get_by_role("tab", name="Look inside").click()
            page.locator("#look-text").fill(TEXT)
            page.get_by_role("button", name="Look inside").click()
            expect(page.locator("#map-text tbody tr")).not_to_have_count(0)
            page.locator("#tokens .token").nth(20).click()
            page.locator("#look-text").evaluate("(box) => box.scrollTo(0, 0)")
            picture = Image.open(io.BytesIO(page.screenshot()))
            browser.close()
        picture.convert("RGB").quantize(64).save(out, optimize=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
