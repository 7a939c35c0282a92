"""Make the README's pictures by running the program: python docs/make_pictures.py [--minutes 5]

Writes docs/quickstart.svg, a recording of `tinyslm quickstart` in a terminal, and docs/look-inside.png, what the page of
`tinyslm serve` shows of the model that it trained. Needs the extras `dev` and `docs`, and Chromium.
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
TINYSLM = [sys.executable, "-c", "from tinyslm.cli import main; main()"]
COLUMNS, ROWS = 100, 60
MOST_LINES = 34
FRAMES, FRAME_SECONDS, LAST_SECONDS = 9, 1.2, 8.0
FONT, WIDTH, HEIGHT = 13, 7.83, 18
"""Size of a character in pixels: font size, advance, line height."""
COLOURS = {"cyan": "#39c5cf", "green": "#57ab5a", "red": "#f47067", "brown": "#daaa3f", "brightblack": "#768390"}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEXT = '''def read_lines(path, encoding="utf-8"):
    """Return the lines of a file."""
    with open(path, encoding=encoding) as file:
        return file.readlines()
'''

Line = list[tuple[str, str]]
"""A line of the terminal: pieces of text, each with its colour."""
Frame = list[Line]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", default="5", help="how long the recorded quickstart may take")
    minutes = parser.parse_args().minutes
    with tempfile.TemporaryDirectory() as work:
        arguments = [] if minutes == "5" else ["--minutes", minutes]
        frames = record([*TINYSLM, "quickstart", *arguments], Path(work))
        shown = [first_line(" ".join(["tinyslm", "quickstart", *arguments])), *spread(frames)]
        (FOLDER / "quickstart.svg").write_text(svg(shown), encoding="utf-8")
        photograph(Path(work) / "quickstart", FOLDER / "look-inside.png")


def record(command: Sequence[str], work: Path) -> list[Frame]:
    """What a terminal shows while the command runs in the folder `work`: a frame for each change that can be seen."""
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR")}
    environment |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "PYTHONPATH": str(FOLDER.parent / "src")}
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdin=writer, stdout=writer, stderr=writer, close_fds=True
    )
    os.close(writer)
    screen, frames, shown_at = pyte.Screen(COLUMNS, ROWS), [], 0.0
    stream = pyte.ByteStream(screen)
    while data := _read(reader):
        stream.feed(data)
        if time.monotonic() - shown_at > 0.5:
            frames.append(lines_of(screen))
            shown_at = time.monotonic()
    frames.append(lines_of(screen))
    if process.wait():
        raise SystemExit("\n".join("".join(text for text, _ in line) for line in frames[-1]))
    return frames


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65_536)
    except OSError:  # Linux's way of saying that nothing has the other end open
        return b""


def lines_of(screen: pyte.Screen) -> Frame:
    """The screen's lines down to the last that is not empty."""
    lines = []
    for row in range(screen.lines):
        cells = [screen.buffer[row][column] for column in range(screen.columns)]
        pieces = groupby(cells, key=lambda cell: COLOURS.get(cell.fg, "") or (cell.fg if len(cell.fg) == 6 else ""))
        lines.append([("".join(cell.data for cell in group), colour) for colour, group in pieces])
    while lines and not "".join(text for text, _ in lines[-1]).strip():
        lines.pop()
    return lines


def first_line(command: str) -> Frame:
    return [[("$ ", COLOURS["green"]), (command, "")]]


def spread(frames: Sequence[Frame]) -> list[Frame]:
    """The last frame, and before it some at equal distances in time."""
    every = max(1, len(frames) // (FRAMES - 1))
    return [[*first_line("tinyslm quickstart"), *frame] for frame in [*frames[every // 2 : -1 : every], frames[-1]]]


def svg(frames: Sequence[Frame]) -> str:
    """The frames one after the other, again and again; readers who want no motion see the last one."""
    lines = min(MOST_LINES, max(len(frame) for frame in frames))
    width, height = COLUMNS * WIDTH + 32, lines * HEIGHT + 56
    total = FRAME_SECONDS * (len(frames) - 1) + LAST_SECONDS
    style = [
        f"text {{ font: {FONT}px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #d3dbe3; "
        "white-space: pre; }",
        f".frame {{ visibility: hidden; animation: {total:g}s step-end infinite; }}",
    ]
    drawn = []
    for number, frame in enumerate(frames):
        begin = 100 * FRAME_SECONDS * number / total
        last = number == len(frames) - 1
        end = 100.0 if last else 100 * FRAME_SECONDS * (number + 1) / total
        style.append(
            f"@keyframes frame{number} {{ 0% {{ visibility: {'visible' if number == 0 else 'hidden'}; }} "
            f"{begin:.2f}% {{ visibility: visible; }} {'' if last else f'{end:.2f}% {{ visibility: hidden; }} '}}}"
        )
        style.append(f"#frame{number} {{ animation-name: frame{number}; }}")
        rows = [_row(line, index) for index, line in enumerate(frame[-lines:])]
        drawn.append(f'<g id="frame{number}" class="frame">\n' + "\n".join(filter(None, rows)) + "\n</g>")
    style.append(
        f"@media (prefers-reduced-motion: reduce) {{ .frame {{ animation: none; }} "
        f"#frame{len(frames) - 1} {{ visibility: visible; }} }}"
    )
    lights = "".join(
        f'<circle cx="{20 + 18 * index}" cy="18" r="5.5" fill="{colour}"/>'
        for index, colour in enumerate(("#f47067", "#daaa3f", "#57ab5a"))
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" '
        f'height="{height:g}" role="img" aria-label="Recording of tinyslm quickstart in a terminal">\n'
        f"<style>\n{chr(10).join(style)}\n</style>\n"
        f'<rect width="100%" height="100%" rx="8" fill="#22272e"/>{lights}\n' + "\n".join(drawn) + "\n</svg>\n"
    )


def _row(line: Line, row: int) -> str:
    column, drawn = 0, []
    for text, colour in line:
        if stripped := text.strip():
            at = 16 + (column + len(text) - len(text.lstrip())) * WIDTH
            fill = f' fill="{colour}" style="fill: {colour}"' if colour else ""
            drawn.append(
                f'<text x="{at:.1f}" y="{48 + row * HEIGHT}" textLength="{len(stripped) * WIDTH:.1f}"{fill}>'
                f"{html.escape(stripped, quote=False)}</text>"
            )
        column += len(text)
    return "".join(drawn)


def photograph(model: Path, out: Path) -> None:
    """The page's view of how the model reads `TEXT`, served by `tinyslm serve`."""
    server = subprocess.Popen(
        [*TINYSLM, "serve", model, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert server.stdout
        address = next(found[0] for line in server.stdout if (found := re.search(r"http://[\d.]+:\d+", line)))
        program = next(found for name in BROWSERS if (found := shutil.which(name)))
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 900, "height": 640}, device_scale_factor=1.5)
            page.goto(address)
            expect(page.locator("#model option")).not_to_have_count(0)
            page.get_by_role("tab", name="Look inside").click()
            page.get_by_label("Text to look at").fill(TEXT)
            page.get_by_role("button", name="Look inside").click()
            expect(page.locator("#map-text tbody tr")).not_to_have_count(0)
            page.locator("#tokens .token").nth(12).hover()
            page.locator("#tokens").scroll_into_view_if_needed()
            picture = Image.open(io.BytesIO(page.screenshot()))
            browser.close()
        picture.convert("RGB").quantize(96).save(out, optimize=True)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
