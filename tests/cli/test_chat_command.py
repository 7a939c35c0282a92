"""Talking with a model: in a real terminal, through a pipe, and what happens in between."""

import codecs
import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import tokenizers
import torch
from the_command import COMMAND

from tinyslm.cli.commands import Leave, run_command
from tinyslm.cli.dialogue import Dialogue
from tinyslm.cli.writing import Writing
from tinyslm.core.errors import TinyslmError
from tinyslm.inference.opening import open_engine
from tinyslm.inference.settings import SamplingSettings
from tinyslm.model.config import ModelConfig
from tinyslm.model.decoder import Decoder
from tinyslm.model.folder import save_model, write_card
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.training import train_tokenizer


def write_model(folder: Path, says: str = "", tokenizer: Tokenizer | None = None, **shape: object) -> Path:
    """A tiny model over bytes: a random one, or one that says the same character for ever."""
    tokenizer = tokenizer or train_tokenizer([], kind="byte")
    torch.manual_seed(2)
    sizes = {"dim": 32, "heads": 2, "depth": 1, "context": 512, "vocab_size": tokenizer.vocab_size}
    model = Decoder(ModelConfig(family="phi" if says else "qwen3", **{**sizes, **shape}))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.001 if says else 0.3)
    if says:
        model.lm_head.bias.data[ord(says)] = 50
    save_model(model, folder, tokenizer)
    return folder


@pytest.fixture(scope="session")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("chat") / "random")


@pytest.fixture
def dialogue(random_model: Path):
    engine = open_engine(random_model)
    yield Dialogue(engine, "random", "", SamplingSettings(max_tokens=6, seed=5))
    engine.close()


class Terminal:
    """A command in a terminal of 80 columns, and all that it wrote there."""

    def __init__(self, process: subprocess.Popen, ours: int) -> None:
        self.process, self._ours, self.written = process, ours, ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def until(self, pattern: str, seconds: float = 60) -> str:
        """Wait for something to be written after what was waited for last; returns what came up to it."""
        end = time.monotonic() + seconds
        while not (found := re.search(pattern, self.written)):
            ready, _, _ = select.select([self._ours], [], [], max(0, end - time.monotonic()))
            assert ready, f"{pattern!r} is not in {self.written!r}"
            self.written += self._decoder.decode(os.read(self._ours, 65536))
        seen, self.written = self.written[: found.end()], self.written[found.end() :]
        return seen

    def rest(self) -> str:
        while True:
            try:
                block = os.read(self._ours, 65536)
            except OSError:  # the terminal has no user any more
                return self.written
            self.written += self._decoder.decode(block)


@contextmanager
def chatting(*arguments: object, kind: str = "dumb"):
    """`tinyslm chat` in a terminal of a kind, ready for what is typed."""
    ours, its = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
    environment |= {"TERM": kind, "COLUMNS": "80", "LINES": "24", "PYTHONUTF8": "1"}
    command = [COMMAND, "chat", *map(str, arguments)]
    with subprocess.Popen(
        command, stdin=its, stdout=its, stderr=its, env=environment, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509  (so that Ctrl-C reaches it)
    ) as process:  # fmt: skip
        os.close(its)
        terminal = Terminal(process, ours)
        try:
            terminal.until("› ")
            yield terminal
        finally:
            process.kill()
            os.close(ours)


def test_a_conversation_in_a_terminal(random_model: Path) -> None:
    with chatting(random_model, "--max-tokens", "6", "--temperature", "0") as terminal:
        terminal.type("Hello\n")
        terminal.until(r"Hello\r\n[\s\S]*› ")
        terminal.type("two \\\n")
        terminal.until("… ")
        terminal.type("lines\n")
        terminal.until("› ")
        terminal.type("/save talk.json\n")
        terminal.until(r"Saved 4 messages to talk.json\.\r\n\r\n› ")
        terminal.type("/nonsense\n")
        assert "Traceback" not in terminal.until(r"There is no command /nonsense\.[\s\S]*› ")
        terminal.type("\x04")
        terminal.rest()
        assert terminal.process.wait(60) == 0
    saved = json.loads(Path("talk.json").read_text())
    assert [message["content"] for message in saved["messages"][::2]] == ["Hello", "two \nlines"]
    engine = open_engine(random_model)
    settings = SamplingSettings(max_tokens=6, temperature=0)
    assert saved["messages"][1]["content"] == engine.chat(saved["messages"][:1], settings)[0].text
    assert saved["messages"][3]["content"] == engine.chat(saved["messages"][:3], settings)[0].text
    engine.close()


def test_a_model_of_plain_text_writes(tmp_path: Path) -> None:
    model = write_model(tmp_path / "plain")
    write_card(model, {"bits_per_byte": 1.5})
    with chatting(model, "--max-tokens", "6", "--temperature", "0") as terminal:
        terminal.type("/max-tokens 7\n")
        terminal.until("max-tokens: 7[\\s\\S]*› ")
        terminal.type("if x:\n")
        terminal.until(r"if x:\r\nif x:[\s\S]*› ")
        terminal.type("    return\n")
        terminal.until(r"\r\n    return[\s\S]*› ")
        terminal.type("\n")
        terminal.until("› ")
        terminal.type("/save text.txt\n")
        terminal.until(r"Saved \d+ characters to text\.txt\.")
        terminal.type("\x04")
    engine = open_engine(model)
    text = ""
    for line in ("if x:", "\n    return", ""):
        text += line + engine.complete(text + line, SamplingSettings(max_tokens=7, temperature=0))[0].text
    engine.close()
    assert Path("text.txt").read_text() == text


def test_what_is_pasted_or_put_between_quotes_is_one_message(tmp_path: Path) -> None:
    model = write_model(tmp_path / "never-ends", says="a")
    with chatting(model, "--max-tokens", "3", kind="xterm") as terminal:
        terminal.type("\x1b[200~def f():\n    return 1\n\x1b[201~\r")
        terminal.until(r"return 1[\s\S]*\(cut off[\s\S]*› ")
        for line in ('"""', "  /not", "a command", '"""'):
            terminal.type(f"{line}\r")
        terminal.until(r"\(cut off[\s\S]*› ")
        terminal.type("/save talk.json\r")
        terminal.until("Saved 4 messages")
    saved = json.loads(Path("talk.json").read_text())
    assert [one["content"] for one in saved["messages"][::2]] == ["def f():\n    return 1", "  /not\na command"]


def test_what_is_typed_while_an_answer_comes_is_kept(tmp_path: Path) -> None:
    model = write_model(tmp_path / "long", says="a", context=4096, heads=1, dim=16)
    with chatting(model, "--max-tokens", "1500", kind="xterm") as terminal:
        terminal.type("Go on\r")
        terminal.until("aaaaaaaa")
        long = "x" * 5000  # more than a line that the system edits
        terminal.type(f"/max-tokens 2\r{long[:3000]}")
        terminal.type(f"{long[3000:]}\r\x1b[200~two\nlines\x1b[201~")
        answer = terminal.until("max-tokens: 2")
        assert "x" not in answer.partition("cut off")[0]
        terminal.until("two", 120)
        terminal.type("\r")
        terminal.until(r"\(cut off[\s\S]*› ")
        terminal.type("/save talk.json\r")
        terminal.until("Saved")
    saved = json.loads(Path("talk.json").read_text())
    said = [one["content"] for one in saved["messages"] if one["role"] == "user"]
    assert said[0] == "Go on"
    assert said[-1] == "two\nlines"


def test_ctrl_c_stops_the_answer_and_not_the_program(tmp_path: Path) -> None:
    model = write_model(tmp_path / "endless", says="a", context=16384, heads=1, dim=16)
    with chatting(model, "--max-tokens", "16000") as terminal:
        terminal.type("Go on\n")
        terminal.until("aaaaaaaa")
        terminal.type("\x03")
        assert "Traceback" not in terminal.until(r"\(stopped\)\r\n\r\n› ", 120)
        terminal.type("half a line")
        terminal.until("half a line")
        time.sleep(0.2)  # Python's input() may sleep through a signal that comes while it takes in a key
        terminal.type("\x03")
        terminal.until("› ")
        terminal.type("/max-tokens 3\n")
        terminal.until("max-tokens: 3[\\s\\S]*› ")
        terminal.type("Again\n")
        terminal.until(r"Again\r\naaa\r\n\(cut off: /max-tokens N allows more\)\r\n\r\n› ")
        terminal.type("/exit\n")
        terminal.rest()
        assert terminal.process.wait(60) == 0


def test_what_a_model_says_does_not_steer_the_terminal(tmp_path: Path) -> None:
    model = write_model(tmp_path / "evil", says="\x1b")
    with chatting(model, "--max-tokens", "5", "--temperature", "0") as terminal:
        terminal.type("Hello\n")
        seen = terminal.until("cut off")
        assert r"\x1b\x1b\x1b\x1b\x1b" in seen
        assert "\x1b" not in seen
        terminal.type("/look\n")
        assert "\x1b" not in terminal.until(r"could have been[\s\S]*› ")


def test_each_line_of_a_pipe_is_answered(program, random_model: Path) -> None:
    command = ("chat", random_model, "--max-tokens", "6", "--temperature", "0", "--system", "Be kind.")
    ended = program(*command, input="First\n\n/reset is no command here\n")
    assert (ended.code, ended.err) == (0, "")
    engine = open_engine(random_model)
    messages: list = [{"role": "system", "content": "Be kind."}]
    answers = []
    for text in ("First", "/reset is no command here"):
        messages.append({"role": "user", "content": text})
        answers.append(engine.chat(messages, SamplingSettings(max_tokens=6, temperature=0))[0].text)
        messages.append({"role": "assistant", "content": answers[-1]})
    engine.close()
    assert ended.out == "".join(f"{answer}\n" for answer in answers)
    told = [json.loads(line) for line in program(*command, "--json", input="First\n").out.splitlines()]
    assert told == [{"message": "First", "text": answers[0], "finish": told[0]["finish"], "tokens": told[0]["tokens"]}]


def test_a_pipe_that_is_no_text(fork_server, random_model: Path) -> None:
    command = [fork_server.path / "tinyslm", "chat", random_model]
    ended = subprocess.run(command, input=b"caf\xe9\n", capture_output=True, check=False, timeout=100)
    assert ended.returncode == 2
    assert ended.stderr.startswith(b"error: Standard input is not UTF-8 text")


def test_interrupting_a_pipe_ends_the_program(random_model: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "chat", str(random_model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdin.write(b"Hello\n")
        process.stdin.flush()
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors.strip()) == (130, b"Stopped.")


def test_a_model_without_a_chat_template_is_told_of(tinyslm, tmp_path: Path) -> None:
    content = json.dumps(train_tokenizer([], kind="byte").content)
    content = content.replace("<|im_start|>", "<|one|>").replace("<|im_end|>", "<|two|>")
    model = write_model(tmp_path / "plain", tokenizer=Tokenizer(tokenizers.Tokenizer.from_str(content)))
    mistake = tinyslm("chat", model, stdin="Hello\n").mistake()
    assert "no chat template" in mistake
    assert f"tinyslm generate {model}" in mistake


def test_the_oldest_turns_are_left_out_when_the_context_is_full(dialogue: Dialogue) -> None:
    dialogue.system = "Be kind."
    forgotten = []
    for number in range(12):
        "".join(dialogue.say(f"Message {number}, which is some forty bytes long."))
        forgotten.append(dialogue.forgotten)
        prompt = dialogue.engine.tokenizer.decode(dialogue.ids[: dialogue.prompt])
        assert prompt.startswith("<|im_start|>system\nBe kind.<|im_end|>")
        assert f"Message {number}," in prompt
        assert ("Message 0," in prompt) == (not dialogue.forgotten)
        assert len(dialogue.ids) <= dialogue.engine.context
    assert forgotten[0] == 0
    assert forgotten[-1] > 0
    assert all(count % 2 == 0 for count in forgotten)  # whole turns
    assert len(dialogue.messages) == 24  # for saving, all are kept


def test_a_pipe_is_told_what_was_left_out(program, random_model: Path) -> None:
    ended = program("chat", random_model, "--max-tokens", "4", input=f"{'x' * 200}\n{'y' * 200}\n{'z' * 100}\n")
    assert ended.code == 0
    assert "warning: The context is full: the oldest 2 messages are left out." in ended.err


def test_an_answer_that_fills_the_context_is_told_of(tmp_path: Path) -> None:
    with closing(open_engine(write_model(tmp_path / "a", "a"))) as engine:
        dialogue = Dialogue(engine, "a", "", SamplingSettings(max_tokens=6))
        "".join(dialogue.say("Hello"))
        assert (dialogue.finish, dialogue.cut_off) == ("length", "(cut off: /max-tokens N allows more)")
        dialogue.change({"max_tokens": 600})
        dialogue.reset()
        "".join(dialogue.say("Hello"))
        assert (dialogue.finish, dialogue.cut_off) == ("length", "(cut off: the context of 512 tokens is full)")


def test_a_message_that_does_not_fit_is_taken_back(dialogue: Dialogue) -> None:
    with pytest.raises(TinyslmError, match="this model's context is 512"):
        "".join(dialogue.say("x" * 600))
    assert dialogue.messages == []
    "".join(dialogue.say("Hello"))
    assert len(dialogue.messages) == 2


def test_trying_again_draws_anew_and_repeatably(dialogue: Dialogue) -> None:
    with pytest.raises(TinyslmError, match="There is no answer to try again"):
        list(dialogue.retry())
    first = "".join(dialogue.say("Hello"))
    second = "".join(dialogue.retry())
    assert first != second
    assert [message["role"] for message in dialogue.messages] == ["user", "assistant"]
    dialogue.reset()
    assert "".join(dialogue.say("Hello")) == first
    assert "".join(dialogue.retry()) == second


def test_a_text_is_written_together(dialogue: Dialogue, tmp_path: Path) -> None:
    writing = Writing(dialogue.engine, "random", "", dialogue.settings)
    first = "".join(writing.say("  Once"))
    assert writing.text == f"  Once{first}"
    second = "".join(writing.say("    upon"))
    assert writing.text == f"  Once{first}\n    upon{second}"
    assert "".join(writing.retry()) != second
    writing.undo()
    assert (writing.text, writing.lead) == (f"  Once{first}", f"  Once{first}".rpartition("\n")[2])
    writing.save(tmp_path / "a.txt")
    other = Writing(dialogue.engine, "random", "", dialogue.settings)
    other.load(tmp_path / "a.txt")
    "".join(other.say(""))
    assert other.text.startswith(writing.text)
    assert run_command("/look", other) is None
    writing.load(tmp_path / "a.txt")
    long = "x" * 1000
    "".join(writing.say(long))
    assert writing.text.startswith(f"  Once{first}\n{long}")
    assert 300 < writing.prompt < len(writing.ids) <= writing.engine.context
    assert run_command("/look", writing) is None
    other.system = "Be kind."
    with pytest.raises(TinyslmError, match="A text has no system message"):
        "".join(other.say("x"))


def test_a_message_is_taken_back(dialogue: Dialogue) -> None:
    "".join(dialogue.say("One"))
    "".join(dialogue.say("Two"))
    dialogue.undo()
    assert [message["role"] for message in dialogue.messages] == ["user", "assistant"]
    dialogue.undo()
    with pytest.raises(TinyslmError, match="nothing to take back"):
        dialogue.undo()


def test_a_conversation_is_saved_and_gone_on_with(dialogue: Dialogue, tmp_path: Path) -> None:
    dialogue.system = "Be kind."
    "".join(dialogue.say("Hello"))
    dialogue.save(tmp_path / "a.json")
    other = Dialogue(dialogue.engine, "random", "Other", SamplingSettings())
    other.load(tmp_path / "a.json")
    assert (other.system, other.messages) == ("Be kind.", dialogue.messages)
    assert (other.settings.seed, other.settings.max_tokens) == (5, 6)
    assert "".join(other.say("More")) == "".join(dialogue.say("More"))
    with pytest.raises(TinyslmError, match="exists already"):
        dialogue.save(tmp_path / "a.json")


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"messages": 3}', '{"messages": [{"role": "user"}]}', '{"messages": ["x"]}',
                '{"messages": [{"role": "evil", "content": "x"}]}', '{"messages": [], "settings": {"seed": "x"}}'],
)  # fmt: skip
def test_a_file_that_holds_no_conversation(dialogue: Dialogue, tmp_path: Path, content: str) -> None:
    (tmp_path / "b.json").write_text(content)
    with pytest.raises(TinyslmError):
        dialogue.load(tmp_path / "b.json")
    assert dialogue.messages == []


def test_commands(dialogue: Dialogue, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def do(line: str) -> str:
        answer = run_command(line, dialogue)
        written = "".join(answer) if answer is not None else ""
        return written + capsys.readouterr().out

    assert "/retry" in do("/help")
    assert do("/temperature 0.5") == "temperature: 0.5\n"
    assert do("/top-k 3") == "top-k: 3\n"
    assert do("/seed") == "seed: None\n"
    assert do("/SYSTEM Be  brief. ") == "system: Be  brief.\n"
    assert (dialogue.settings.temperature, dialogue.settings.top_k, dialogue.system) == (0.5, 3, "Be  brief.")
    assert re.search(r"top-k +3\n", do("/settings"))
    "".join(dialogue.say("Hello"))
    assert do("/retry") == dialogue.messages[-1]["content"]
    lines = do("/look").splitlines()
    assert lines[0].split() == ["token", "probability", "could", "have", "been"]
    assert len(lines) == 1 + len(dialogue.ids) - dialogue.prompt
    assert do("/reset") == "Forgotten.\n"
    for line in ("/quit", "/exit"):
        with pytest.raises(Leave):
            do(line)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("/temprature 1", r"There is no command /temprature.\nDid you mean \"/temperature\"\?"),
        ("/temperature 0,5", "temperature = 0,5: must be a number"),
        ("/max-tokens 0", "max_tokens = 0"),
        ("/save", "/save needs the name of a file"),
        ("/load nowhere.json", "nowhere.json does not exist"),
        ("/look", "There is no answer to look at"),
    ],
)
def test_commands_that_are_wrong(dialogue: Dialogue, line: str, problem: str) -> None:
    with pytest.raises(TinyslmError, match=problem):
        run_command(line, dialogue)


def test_a_page_that_looks_inside(tinyslm, random_model: Path) -> None:
    ended = tinyslm("look", random_model, "--text", "- <b>", "--out", "look.html")
    assert (ended.code, ended.out) == (0, "Written: look.html\n")
    assert "5 tokens, 1 layer, 2 heads" in Path("look.html").read_text()
    assert "exists already" in tinyslm("look", random_model, "--text", "x", "--out", "look.html").mistake()
    assert "no layer 2" in tinyslm("look", random_model, "--text", "x", "--out", "b.html", "--layer", "2").mistake()
    assert "no text to look at" in tinyslm("look", random_model, "--text", "", "--out", "b.html").mistake()
    assert not Path("b.html").exists()
