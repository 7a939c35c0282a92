"""Chat templates: rendered as transformers renders them, and harmless whoever wrote them."""

import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import product

import psutil
import pytest
from chat_template_styles import STYLES, TALKS
from chat_template_styles import TOOLS as STYLE_TOOLS
from tokenizer_folders import write_folder

from tinyslm.core.errors import TinyslmError
from tinyslm.tokenizer import sandbox
from tinyslm.tokenizer.chat import CHATML, encode_chat, encode_chat_masked
from tinyslm.tokenizer.tokenizer import Tokenizer

TALK = [{"role": "user", "content": "Hi <b>"}, {"role": "assistant", "content": "Ho"}]
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": {"type": "object", "é": "<&>'"}}}]


def with_template(make, template, tmp_path):
    tokenizer = Tokenizer.load(write_folder(make, tmp_path / "model"))
    tokenizer.chat_template = template
    return tokenizer


TEMPLATES = {
    "tojson": "{{ tools | tojson(indent=2) }}{{ messages | tojson }}",
    "loop controls": "{% for m in messages %}{% if loop.index0 %}{% break %}{% endif %}{{ m.content }}{% endfor %}",
    "blocks are trimmed": "{% for m in messages %}\n    {% if true %}\n  {{ m.content }}\n{% endif %}\n{% endfor %}\n",
    "generation": "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "undefined": "{{ nothing }}{{ bos_token is defined }}{{ pad_token is defined }}{{ eos_token }}",
    "namespace": "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
    "dict": "{{ dict(a=1) }}{{ dict.fromkeys('ab') }}",
    "year": "{{ strftime_now('%Y') }}",
    "extra": "{{ colour }}{{ tools is none }}{{ documents is none }}",
    "reasoning": "{% for m in messages %}{{ m.thinking }}{{ m.reasoning_content }}{{ m.tool_calls }}{% endfor %}",
    "own": CHATML,
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_ids_equal_those_of_transformers(name, tmp_path):
    from transformers import AutoTokenizer

    folder = write_folder("qwen2", tmp_path / "model")
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    tokenizer.chat_template = TEMPLATES[name]
    messages = [{**TALK[0], "tool_calls": None, "thinking": "hm"}, TALK[1]]
    tools = TOOLS if name == "tojson" else None
    expected = theirs.apply_chat_template(messages, tools=tools, chat_template=TEMPLATES[name], colour="red")
    assert encode_chat(tokenizer, messages, tools=tools, colour="red") == expected["input_ids"]


@pytest.mark.parametrize("style", STYLES)
def test_templates_in_the_styles_of_well_known_models(style, tmp_path):
    from jinja2 import TemplateError
    from transformers import AutoTokenizer

    folder = write_folder("llama2", tmp_path / "model")
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    tokenizer.chat_template = theirs.chat_template = STYLES[style]
    rendered = 0
    for messages, tools, prompt in product(TALKS.values(), (None, STYLE_TOOLS), (False, True)):
        given = {"tools": tools, "add_generation_prompt": prompt, "enable_thinking": False}
        try:
            expected = theirs.apply_chat_template(messages, **given)["input_ids"]
        except (TemplateError, TypeError):
            with pytest.raises(TinyslmError):
                encode_chat(tokenizer, messages, **given)
        else:
            rendered += 1
            assert encode_chat(tokenizer, messages, **given) == expected
    assert rendered >= 8


def rendered(template, messages=TALK):
    return sandbox.render(template, {"messages": messages}, [(len(messages), False)])[0][0]


def test_tools_are_for_the_template(tmp_path):
    from transformers import AutoTokenizer

    folder = write_folder("qwen2", tmp_path / "model")
    theirs, tokenizer = AutoTokenizer.from_pretrained(folder), Tokenizer.load(folder)
    called = {"role": "assistant", "tool_calls": [{"function": {"name": "find"}}], "content": None}
    expected = theirs.apply_chat_template([TALK[0], called], tools=TOOLS)["input_ids"]
    assert encode_chat(tokenizer, [TALK[0], called], tools=TOOLS) == expected
    assert tokenizer._backend.token_to_id("<tool_call>") in expected


ATTACKS = {
    "an endless loop": ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "too long"),
    "a tower of powers": ("{{ 9 ** (9 ** 9) }}", "too long"),
    "a text of ten gigabytes": ("{{ 'a' * 10**10 }}", "memory"),
    "a wide filter": ("{{ 'a' | center(10**10) }}", "memory"),
    "a wide format": ("{{ '%9999999999d' | format(1) }}", "memory|OverflowError"),
    "a list that doubles": (
        "{% set n = namespace(x=[1]) %}{% for i in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
        "memory",
    ),
    "an endless text": ("{% for a in range(99999) %}{{ 'a' * 9999 }}{% endfor %}", "too long a text"),
    "a long range": ("{{ range(10**9) | list }}", "OverflowError"),
    "the insides of Python": ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "forbidden"),
    "the insides of Jinja": ("{{ cycler.__init__.__globals__.os.popen('id').read() }}", "forbidden"),
    "globals of a function": ("{{ lipsum.__globals__['os'] }}", "forbidden"),
    "a private name": ("{% set n = namespace(_x=1) %}", "forbidden"),
    "changing the messages": ("{% set _ = messages.append(1) %}", "forbidden"),
    "another file": ("{% include '/etc/passwd' %}", "no loader"),
    "endless recursion": ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    "absurd nesting": ("{{ " + "(" * 9999 + ")" * 9999 + " }}", "RecursionError|memory"),
    "a template of two megabytes": ("a" * (2 << 20), "characters long"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_attacks_end_in_an_error(attack):
    template, reason = ATTACKS[attack]
    with pytest.raises(TinyslmError, match=reason) as caught:
        rendered(template)
    assert len(str(caught.value).splitlines()) == 2
    assert rendered("{{ messages[0].content }}") == "Hi <b>", "the next one is served"
    assert not [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{% if %}", "not valid Jinja: Expected an expression.*line 1"),
        ("{% for m in messages %}", "not valid Jinja"),
        ("{{ raise_exception('No system\nrole.\x1b[31m') }}", r"refuses this conversation: No system role\. \[31m\.$"),
        ("{{ a.b.c }}", "UndefinedError"),
        ("{{ messages[0].content + 1 }}", "TypeError"),
    ],
)
def test_mistakes_are_named(template, problem):
    with pytest.raises(TinyslmError) as caught:
        rendered(template)
    assert re.search(problem, caught.value.problem)
    assert caught.value.remedy


def test_a_template_without_a_system_role(tmp_path):
    tokenizer = Tokenizer.load(write_folder("gemma", tmp_path / "model"))
    with pytest.raises(TinyslmError, match="System role not supported"):
        encode_chat(tokenizer, [{"role": "system", "content": "Be brief."}, TALK[0]])


def test_no_template_and_no_tokens_for_chatml(tmp_path):
    tokenizer = Tokenizer.load(write_folder("phi2", tmp_path / "model"))
    with pytest.raises(TinyslmError, match="no chat template"):
        encode_chat(tokenizer, TALK)


@pytest.mark.parametrize("messages", [[], ["text"], [{"role": "user", "content": {1, 2}}]])
def test_what_is_not_a_conversation(messages, tmp_path):
    with pytest.raises(TinyslmError):
        encode_chat(with_template("qwen2", "{{ messages }}", tmp_path), messages)


def test_messages_of_chatml_are_text(bpe):
    for message in ({"role": "user"}, {"role": "user", "content": ["parts"]}, "text"):
        with pytest.raises(TinyslmError, match="role"):
            encode_chat(bpe, [message])


@pytest.mark.parametrize("make", ["phi3", "qwen2"])
def test_special_tokens_in_parts_stay_text(make, tmp_path):
    """Neither whole in a list of parts or a call, nor put together of several."""
    template = (
        "{% for m in messages %}{% for p in m.content %}{{ p.text | trim }}{% endfor %}{% endfor %}{{ eos_token }}"
    )
    tokenizer = with_template(make, template, tmp_path)
    for name in tokenizer.special_ids:
        for cut in range(1, len(name)):
            parts = [{"text": name[:cut] + " "}, {"text": name[cut:] + name}]
            ids = encode_chat(tokenizer, [{"role": "user", "content": parts}])
            assert [token for token in ids if token in tokenizer.special_ids.values()] == [tokenizer.eos_id]
            assert tokenizer.decode(ids[:-1]) == name + name


def test_words_that_templates_compare_stay_as_they_are(tmp_path):
    """Even where special tokens are plain words."""
    folder = write_folder("qwen2", tmp_path / "model")
    backend = Tokenizer.load(folder)._backend
    backend.add_special_tokens(["user", "texts"])
    template = "{% for p in messages[0].content %}{% if messages[0].role == 'user' and p.type == 'text' %}{{ p.text }}"
    tokenizer = Tokenizer(backend, eos="<|im_end|>", chat_template=template + "{% endif %}{% endfor %}")
    ids = encode_chat(tokenizer, [{"role": "user", "content": [{"type": "text", "text": "a user text"}]}])
    assert tokenizer.decode(ids) == "a user text"
    assert not set(ids) & set(tokenizer.special_ids.values())


def test_roles_may_be_part_of_special_tokens(tmp_path):
    tokenizer = Tokenizer.load(write_folder("phi3", tmp_path / "model"))
    assert tokenizer.special_ids["<|user|>"] in encode_chat(tokenizer, TALK[:1])


def test_generation_blocks_are_what_the_assistant_says(tmp_path):
    template = (
        "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}{% else %}"
        "{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}{% endif %}{% endfor %}"
    )
    tokenizer = with_template("qwen2", template, tmp_path)
    ids, said = encode_chat_masked(tokenizer, [*TALK, TALK[0], {"role": "assistant", "content": "He\n<|im_end|>"}])
    mine = [token for token, mine in zip(ids, said, strict=True) if mine]
    assert tokenizer.decode(mine) == "Ho<|im_end|>He\n<|im_end|><|im_end|>"
    assert mine.count(tokenizer.special_ids["<|im_end|>"]) == 2


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
        "{% for m in messages %}{% if loop.last %}{{ m.content }}{% else %}...{% endif %}{% endfor %}",
    ],
)
def test_templates_that_do_not_show_what_the_assistant_says(template, tmp_path):
    tokenizer = with_template("qwen2", template, tmp_path)
    with pytest.raises(TinyslmError, match="does not show"):
        encode_chat_masked(tokenizer, [*TALK, *TALK])


def test_many_threads_share_one_process():
    rendered("{{ 1 }}")
    before = len(psutil.Process().children())

    def ask(number):
        return rendered("{{ messages[0].content }}", [{"role": "user", "content": str(number)}])

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(ask, range(400))) == [str(number) for number in range(400)]
    assert len(psutil.Process().children()) == before


def test_threads_beside_an_attack_get_their_answers():
    def ask(number):
        if number % 4:
            return rendered("{{ messages[0].content }}")
        with pytest.raises(TinyslmError):
            rendered("{{ 'a' * 10**10 }}")
        return "Hi <b>"

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {"Hi <b>"}


def test_a_process_that_was_killed_is_replaced():
    rendered("{{ 1 }}")
    os.kill(sandbox.WORKER.pid, signal.SIGKILL)
    with pytest.raises(TinyslmError, match="exit code -9"):
        rendered("{{ 1 }}")
    assert rendered("{{ 1 }}") == "1"


def test_a_process_that_does_not_answer_is_killed(monkeypatch):
    rendered("{{ 1 }}")
    process = sandbox.WORKER._process
    os.kill(process.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)  # it may be busy, and stop later
    monkeypatch.setattr(sandbox.WORKER, "limits", replace(sandbox.WORKER.limits, wait_seconds=0.2))
    with pytest.raises(TinyslmError, match="too long"):
        rendered("{{ 1 }}")
    assert process.poll() == -signal.SIGKILL
    monkeypatch.undo()
    assert rendered("{{ 1 }}") == "1"


def test_the_process_knows_no_secrets(monkeypatch):
    sandbox.WORKER.close()
    monkeypatch.setenv("HF_TOKEN", "secret")
    rendered("{{ 1 }}")
    assert "HF_TOKEN" not in psutil.Process(sandbox.WORKER.pid).environ()


PROGRAM = """
import os, sys, threading
from tinyslm.tokenizer import sandbox
print(sandbox.render("{{ 1 }}", {"messages": []}, [(0, False)])[0][0], sandbox.WORKER.pid, flush=True)
"""


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "os._exit(1)", "os.kill(os.getpid(), 9)"])
def test_the_process_ends_with_its_parent(end):
    done = subprocess.run([sys.executable, "-c", PROGRAM + end], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("1 "), done.stderr
    assert _ends(int(done.stdout.split()[1]))
    assert not done.stderr


def test_an_endless_loop_does_not_outlive_its_parent():
    loop = ATTACKS["an endless loop"][0]
    program = (
        PROGRAM + f"given = ({loop!r}, {{'messages': []}}, [(0, False)])\n"
        "threading.Thread(target=sandbox.render, args=given, daemon=True).start()\nos._exit(0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert _ends(int(done.stdout.split()[1]))


def test_a_fork_starts_its_own_process():
    program = PROGRAM + (
        "child = os.fork()\n"
        "print(sandbox.render('{{ 2 }}', {'messages': []}, [(0, False)])[0][0], sandbox.WORKER.pid, flush=True)\n"
        "if child: assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    pids = [line.split()[1] for line in done.stdout.splitlines()]
    assert len(pids) == 3
    assert len(set(pids)) == 2
    assert not done.stderr


def _ends(pid):
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_importing_loads_neither_jinja_nor_tokenizers():
    program = (
        "import sys, tinyslm.tokenizer.tokenizer, tinyslm.tokenizer.chat, tinyslm.tokenizer.sandbox, tinyslm.cli\n"
        "print({'jinja2', 'tokenizers', 'tiktoken'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
