"""What reaches the terminal: no markup, no control characters, and plain lines where nothing can be redrawn."""

import os
import pty
import re
import select
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyslm.core import console
from tinyslm.core.console import Lines, WorkProgress
from tinyslm.core.printable import folded, one_line, printable
from tinyslm.core.quantities import count, duration, size


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def on_a_terminal(code, **environment):
    """Standard output and error of `code`, run by a new Python on a terminal of 80 columns."""
    main, side = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", **environment}
    for name in {"CI", "NO_COLOR", "FORCE_COLOR", "TTY_INTERACTIVE"} - set(environment):
        variables.pop(name, None)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=side, stderr=side, env=variables)
    os.close(side)
    output = b""
    while select.select([main], [], [], 30)[0]:
        try:
            piece = os.read(main, 65536)
        except OSError:
            break
        if not piece:
            break
        output += piece
    os.close(main)
    assert process.wait(30) == 0, output
    return output.decode()


@given(st.text())
def test_printable_text_has_no_control_characters(text):
    shown = printable(text)
    assert not set(shown) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F)]))
    shown.encode("utf-8")


def test_printable_text_stays_as_it_is():
    assert printable("def f(x):\n\treturn 'é→漢🙂'") == "def f(x):\n\treturn 'é→漢🙂'"
    assert printable("a\r\nb\rc\x1b[2J\u202e") == "a\nb\\rc\\x1b[2J\\u202e"


def test_one_line():
    assert one_line("a\n  b\tc", 10) == "a b c"
    assert one_line("abcdefghij", 5) == "abcd…"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("one two three", ["one two ", "three"]),
        ("  one two three", ["  one   ", "two     ", "three"]),
        ("twelve one", ["twelve  ", "one"]),
        ("eightlet x", ["eightlet", " x"]),
        ("a longer-than-wide b", ["a longer", "-than-wi", "de b"]),
        ("漢漢漢 漢", ["漢漢漢  ", "漢"]),
        ("one two", ["one two"]),
    ],
)
def test_long_lines_are_broken_between_words_by_the_terminal(text, lines):
    assert folded(text, 8) == "".join(lines)
    assert folded(f"{text}\n{text}", 8) == "\n".join(["".join(lines)] * 2)


def test_what_is_said_is_broken_between_words_only_on_a_terminal(capsys):
    code = "from tinyslm.core.console import fail, say, warn; say(T); warn(T); fail(T, T)"
    text = "word " * 20
    shown = on_a_terminal(code.replace("T", repr(text))).replace("\x1b[1;33m", "").replace("\x1b[1;31m", "")
    lines = shown.replace("\x1b[0m", "").replace("\r\n", "\n").splitlines()
    assert len(lines) == 4
    assert all("word" in line[:80].split()[-1] and line[80:].startswith("word ") for line in lines)
    console.say(text)
    assert capsys.readouterr().out == f"{text}\n"


def test_lines_are_neither_markup_nor_control(capsys):
    console.say("[red]a[/red] \x1b[31m")
    console.warn("[b]w[/b]")
    console.fail("No such path: [x].", "Give one.")
    out, err = capsys.readouterr()
    assert out == "[red]a[/red] \\x1b[31m\n"
    assert err == "warning: [b]w[/b]\nerror: No such path: [x].\nGive one.\n"


def test_a_stream_is_exact_where_it_is_not_a_terminal(capsys):
    console.stream("a\x1b")
    console.stream("b")
    assert capsys.readouterr().out == "a\x1bb"
    shown = on_a_terminal("from tinyslm.core.console import stream; stream('a\\x1b[2Jb')")
    assert shown == "a\\x1b[2Jb"


def test_characters_the_encoding_lacks_are_spelled_out():
    code = "from tinyslm.core.console import say; say('é漢')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=True
    )
    assert done.stdout == b"\\xe9\\u6f22\n"


def test_a_table(capsys):
    console.table([["[b]x[/b]", "4.92"], ["xz -9", "12.31"]], ["baseline", "bits"])
    assert capsys.readouterr().out.splitlines() == ["baseline   bits", "[b]x[/b]   4.92", "xz -9     12.31"]


def test_a_table_row_stays_on_its_line_in_a_pipe(capsys):
    console.table([["name", "word " * 60]])
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_training_off_a_terminal_says_the_last_state_and_the_notes(capsys):
    with console.training_progress(1000) as progress:
        progress.update(10, loss=3.2109, bits_per_byte=1.9, tokens_per_second=9012.3, seconds_left=130)
        progress.note("sample: [b]x[/b]\x07")
        progress.update(20, loss=3.0)
    assert capsys.readouterr().out == "sample: [b]x[/b]\\x07\ntraining  2%  step 20 of 1,000 · loss 3.000\n"


def test_training_says_the_last_state_when_it_fails(capsys):
    def interrupted():
        with console.training_progress(4) as progress:
            progress.update(3, seconds_left=-1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capsys.readouterr().out == "training  75%  step 3 of 4  0:00 left\n"


def test_lines_come_every_ten_seconds_and_at_the_end(capsys):
    clock = Clock()
    lines = Lines(clock)
    for second in range(26):
        clock.now = float(second)
        lines.show("training", second / 100, "", f"step {second}")
    lines.close()
    lines.close()
    shown = [line.split()[-1] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["10", "20", "25"]


def test_work_off_a_terminal_says_one_line_for_each_quick_stage(capsys):
    with console.work_progress("Preparing [b]a[/b]") as progress:
        for done in (0, 500, 2_000_000):
            progress("read", done, 2_000_000)
        progress("tokenizer", 0, 0)
        progress("encode", 0, 0)
        progress("encode", 1_500, 0)
    assert capsys.readouterr().out.splitlines() == [
        "Preparing [b]a[/b]",
        "read  100%  2 MB",
        "tokenizer",
        "encode",
        "encode  1.5 kB",
    ]


def test_work_says_how_fast_it_is(capsys):
    clock = Clock()
    lines = Lines(clock)
    progress = WorkProgress(lines, clock=clock)
    progress("reading", 0, 100_000_000)
    clock.now = 11.0
    progress("reading", 22_000_000, 100_000_000)
    assert capsys.readouterr().out == "reading  22%  22 MB of 100 MB · 2 MB/s\n"


PROGRESS = """
from tinyslm.core.console import training_progress, work_progress
with work_progress("reading") as progress:
    progress("reading", 1000, 1000)
    progress("packing", 1000, 0)
    progress("tokenizer", 0, 0)
with training_progress(10) as progress:
    progress.update(1, loss=3.0)
    progress.note("note [b]x[/b] \\x1b[2J")
    progress.update(10, loss=2.0, bits_per_byte=1.0, tokens_per_second=1e4, seconds_left=0)
"""


def test_a_terminal_gets_a_bar():
    shown = on_a_terminal(PROGRESS)
    assert "━" in shown
    assert "note [b]x[/b] \\x1b[2J" in shown
    assert "step 10 of 10 · loss 2.000" in shown
    assert "100%" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l"), "the cursor is shown again"


@pytest.mark.parametrize("variable", [{"CI": "true"}, {"TERM": "dumb"}])
def test_a_terminal_that_cannot_redraw_gets_lines(variable):
    shown = on_a_terminal(PROGRESS, **variable)
    assert "\x1b" not in shown
    assert shown.splitlines()[-1].startswith("training  100%  step 10 of 10")


def test_no_colour_where_it_is_not_wanted():
    code = "from tinyslm.core.console import warn; warn('x')"
    assert on_a_terminal(code) == "\x1b[1;33mwarning:\x1b[0m x\r\n"
    assert on_a_terminal(code, NO_COLOR="1") == "warning: x\r\n"


def test_importing_the_console_does_not_import_rich():
    code = "import sys, tinyslm.core.console; sys.exit('rich' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_quantities():
    assert [count(n) for n in (0, 7, 950, 999.96, 12_345, 3_100_000, 7e9)] == [
        "0",
        "7",
        "950",
        "1 k",
        "12.3 k",
        "3.1 M",
        "7 B",
    ]
    assert [size(n) for n in (950, 27_700_000, 999_990, 5e15)] == ["950 B", "27.7 MB", "1 MB", "5,000 TB"]
    assert [duration(s) for s in (0, 7.4, 59.6, 750, 3723)] == ["0:00", "0:07", "1:00", "12:30", "1:02:03"]


def test_a_bar_stays_one_line_whatever_was_shown_before():
    shown = on_a_terminal(
        "from tinyslm.cli.progress import watching\n"
        "start = dict(event='start', steps=3, resumed_from=0, minutes=None, parameters=5, device='cpu', dtype='bf16')\n"
        "with watching(0) as watch:\n"
        "    watch.event({'event': 'preparing'})\n"
        "    watch.event(start | {'processes': 1})\n"
        "    for step in (1, 2, 3):\n"
        "        watch.event({'event': 'step', 'step': step, 'loss': 1.0, 'tokens_per_second': 5.0})\n"
        "        watch.event({'event': 'validation', 'step': step, 'loss': 1.0, 'seconds': 2})\n"
        "    watch.event({'event': 'end'})\n"
    )
    screen, row = [""], 0
    for control, text in re.findall(r"\x1b\[([?\d;]*[A-Za-z])|([^\x1b]+)", shown):
        if control == "2K":
            screen[row] = ""
        elif control == "1A":
            row -= 1
        for line in text.splitlines(keepends=True):
            screen[row] += line.strip("\r\n")
            if line.endswith("\n"):
                row += 1
                screen += [""] * (row == len(screen))
    assert [line.split()[0] for line in screen if line] == ["Preparing", "Training", *["step"] * 3, "training", "step"]
    assert "left" not in screen[-3]
