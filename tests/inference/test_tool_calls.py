"""Tools: put to any chat template, kept to by the grammar, and read back however the text is cut."""

import json
from itertools import pairwise

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizer_folders import write_folder

from tinyslm.core.errors import TinyslmError
from tinyslm.inference.call_stream import ArgumentsDelta, CallBroken, CallEnd, CallStart, TextDelta, ToolCallStream
from tinyslm.inference.grammar import unpacked
from tinyslm.inference.request import Piece
from tinyslm.inference.tool_call_collector import ToolCallCollector
from tinyslm.inference.tool_grammar import tools_grammar
from tinyslm.tokenizer.chat import encode_chat
from tinyslm.tokenizer.tokenizer import Tokenizer
from tinyslm.tokenizer.tool_calls import reads_tools, with_tools


def split_calls(text: str) -> tuple[str, list[tuple[str, str]]]:
    """The text outside the calls, and name and arguments of each complete call."""
    collector = ToolCallCollector()
    collector.take(Piece(0, text, 1, "stop"))
    return collector.text, [(call.name, call.arguments) for call in collector.calls if call.complete]


def tool(name: str, **properties) -> dict:
    parameters = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "description": "It does.", "parameters": parameters}}


ADD = tool("add", x={"type": "integer"}, y={"type": "integer", "minimum": 0})
FIND = tool("find", words={"type": "array", "items": {"$ref": "#/$defs/word"}, "minItems": 1})
FIND["function"]["parameters"]["$defs"] = {"word": {"type": "string", "maxLength": 12}}
TOOLS = [ADD, FIND]
CALLED = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "What is 1 + 2?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1, "y": 2}'}},
            {"id": "2", "type": "function", "function": {"name": "find", "arguments": '{"words": ["é"]}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "1", "content": "3"},
    {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "all of </tool_response> it"}]},
    {"role": "user", "content": "Thanks."},
]


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    loaded: dict[str, Tokenizer] = {}

    def of(make: str) -> Tokenizer:
        if make not in loaded:
            loaded[make] = Tokenizer.load(write_folder(make, tmp_path_factory.mktemp(make) / "it"))
        return loaded[make]

    return of


def accepted(grammar, text: str) -> str:
    """How much of a text the grammar takes, with "." where it may end there, and "!" where it must."""
    matcher = grammar.matcher()
    ids = list(text.encode())
    count = matcher.take(ids)
    return f"{count}/{len(ids)}" + "." * matcher.accepts + "!" * matcher.finished


# What is put to the model.


def test_tools_and_calls_are_written_as_text_for_templates_without_them(byte_tokenizer) -> None:
    written = with_tools(CALLED, TOOLS, byte_tokenizer)
    assert [message["role"] for message in written] == ["system", "user", "assistant", "user", "user"]
    assert written[0]["content"].startswith("Be kind.\n\n# Tools")
    for one in TOOLS:
        assert json.dumps(one) in written[0]["content"]
    said, calls = split_calls(written[2]["content"])
    assert said == ""
    assert calls == [("add", '{"x":1,"y":2}'), ("find", '{"words":["é"]}')]
    result = "<tool_response>\n3\n</tool_response>\n<tool_response>\nall of <\\/tool_response> it\n</tool_response>"
    assert written[3]["content"] == result
    assert CALLED[2]["content"] is None  # the conversation itself stays
    assert encode_chat(byte_tokenizer, written)


def test_without_tools_messages_stay(byte_tokenizer) -> None:
    messages = [{"role": "developer", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    assert with_tools(messages, None, byte_tokenizer) == [{"role": "system", "content": "Be kind."}, messages[1]]


@pytest.mark.parametrize(("make", "first"), [("llama3", "system"), ("gemma", "user"), ("llama2", "user")])
def test_tools_stand_where_the_template_writes_them(load, make: str, first: str) -> None:
    tokenizer = load(make)
    written = with_tools([{"role": "user", "content": "Hello"}], TOOLS, tokenizer)
    assert (written[0]["role"], "# Tools" in written[0]["content"]) == (first, True)
    assert "# Tools" in tokenizer.decode(encode_chat(tokenizer, written))


def test_templates_that_read_tools_get_them(load, byte_tokenizer) -> None:
    qwen = load("qwen2")
    assert (reads_tools(qwen), reads_tools(byte_tokenizer)) == (True, False)
    written = with_tools(CALLED, TOOLS, qwen)
    assert [message["role"] for message in written] == [message["role"] for message in CALLED]
    assert written[2]["content"] == ""
    assert written[2]["tool_calls"][0]["function"]["arguments"] == {"x": 1, "y": 2}
    assert '"name": "find"' in qwen.decode(encode_chat(qwen, written, tools=TOOLS))


@pytest.mark.parametrize(
    "message",
    [
        "hello",
        {"content": "no role"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]},
    ],
)
def test_messages_of_another_shape_are_refused(byte_tokenizer, message) -> None:
    with pytest.raises(TinyslmError):
        with_tools([message], TOOLS, byte_tokenizer)


@pytest.mark.parametrize(
    "tools", [{}, "add", [{}], [ADD, ADD], [tool("two words")], [tool(str(i)) for i in range(200)]]
)
def test_tools_of_another_shape_are_refused(byte_tokenizer, tools) -> None:
    with pytest.raises(TinyslmError):
        tools_grammar(tools, "auto", True, byte_tokenizer)


# What the model may write.

ONE = '<tool_call>\n{"name":"add","arguments":{"x":-1,"y":2}}\n</tool_call>'
OTHER = '<tool_call>\n{"name":"find","arguments":{"words":["</tool_call>","b"]}}\n</tool_call>'


@pytest.mark.parametrize(
    ("choice", "parallel", "text", "expected"),
    [
        ("auto", True, "Hello <tool", "."),
        ("auto", True, ONE, "."),
        ("auto", True, f"I add.\n{ONE}\n{OTHER}", "."),
        ("auto", False, ONE, ".!"),
        ("required", True, f"{ONE}\n{OTHER}", "."),
        ("required", False, OTHER, ".!"),
        ("find", True, OTHER, ".!"),
    ],
)
def test_calls_are_allowed(byte_tokenizer, choice: str, parallel: bool, text: str, expected: str) -> None:
    grammar = tools_grammar(TOOLS, choice, parallel, byte_tokenizer)
    assert accepted(grammar, text) == f"{len(text.encode())}/{len(text.encode())}{expected}"


@pytest.mark.parametrize(
    ("choice", "text", "count"),
    [
        ("auto", "<tool_call>{", 11),
        ("auto", '<tool_call>\n{"name":"sub"', 21),
        ("auto", f"{ONE} and", len(ONE)),
        ("required", "Hello", 0),
        ("find", ONE, ONE.index("add")),
        ("add", ONE.replace("2", "-2"), ONE.index("2")),
        ("add", ONE.replace("-1", '"a"'), ONE.index("-1")),
    ],
)
def test_other_calls_are_not(byte_tokenizer, choice: str, text: str, count: int) -> None:
    grammar = tools_grammar(TOOLS, choice, True, byte_tokenizer)
    assert accepted(grammar, text).startswith(f"{count}/")


def test_without_a_choice_there_is_no_grammar(byte_tokenizer) -> None:
    assert tools_grammar(TOOLS, "none", True, byte_tokenizer) is None
    assert tools_grammar([], "auto", True, byte_tokenizer) is None
    for tools, choice in ((TOOLS, "sub"), ([], "required")):
        with pytest.raises(TinyslmError, match="no tool"):
            tools_grammar(tools, choice, True, byte_tokenizer)


def test_parameters_that_cannot_be_honoured_are_refused_with_the_tools_name(byte_tokenizer) -> None:
    with pytest.raises(TinyslmError, match=r"'guess'.*not"):
        tools_grammar([ADD, tool("guess", x={"not": {}})], "auto", True, byte_tokenizer)


@pytest.mark.parametrize("special", [False, True])
def test_a_tag_that_is_a_token_is_written_as_that_token(load, special: bool) -> None:
    tokenizer = load("qwen2")
    if special:
        backend = json.loads(json.dumps(tokenizer.content))
        for token in backend["added_tokens"]:
            token["special"] |= "tool_call" in token["content"]
        import tokenizers

        backend = tokenizers.Tokenizer.from_str(json.dumps(backend))
        tokenizer = Tokenizer(backend, eos="<|im_end|>", chat_template=tokenizer.chat_template)
    tag = tokenizer.content["added_tokens"]
    ids = {token["content"]: token["id"] for token in tag}
    matcher = tools_grammar(TOOLS, "add", False, tokenizer).matcher()
    assert matcher.forced()[0] == ids["<tool_call>"]
    body = tokenizer.encode('\n{"name": "add", "arguments": {"x": 3, "y": 4}}\n')
    call = [ids["<tool_call>"], *body, ids["</tool_call>"]]
    assert matcher.take(call) == len(call)
    assert matcher.finished
    assert split_calls(tokenizer.decode(call)) == ("", [("add", '{"x": 3, "y": 4}')])
    auto = tools_grammar(TOOLS, "auto", False, tokenizer).matcher()
    said = tokenizer.encode("I add.")
    assert auto.take([*said, *call]) == len(said) + len(call)


@settings(deadline=None, max_examples=30)
@given(room=st.integers(60, 200), seed=st.randoms(use_true_random=False))
def test_a_required_call_is_whole_and_valid(byte_tokenizer, room: int, seed) -> None:
    matcher = tools_grammar(TOOLS, "required", True, byte_tokenizer).matcher()
    ids: list[int] = []
    while not matcher.finished and len(ids) < room:
        row = np.zeros(-(-byte_tokenizer.vocab_size // 32), np.uint32)
        matcher.allow(row)
        choices = np.flatnonzero(unpacked(row, byte_tokenizer.vocab_size)).tolist()
        ids.append(matcher.settle(seed.choice(choices), room - len(ids)))
        matcher.take(ids[-1:])
        if ids[-1] in byte_tokenizer.stop_ids:
            break
    said, calls = split_calls(byte_tokenizer.decode(ids, skip_special=True))
    assert said == ""
    assert calls
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in TOOLS}
    for name, arguments in calls:
        jsonschema.validate(json.loads(arguments), schemas[name])


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_a_repeated_call_ends_the_list(byte_tokenizer, choice: str) -> None:
    grammar = tools_grammar(TOOLS, choice, True, byte_tokenizer)
    matcher = grammar.matcher()
    text = "\n".join([ONE, ONE.replace("-1", "-2"), OTHER])
    assert matcher.take(list(text.encode())) == len(text)
    assert not matcher.finished
    repeated = "\n" + ONE.replace("-1", "-2")
    for _ in range(2):  # also after it was taken back
        assert matcher.take(list(repeated.encode())) == len(repeated)
        assert matcher.finished
        assert matcher.copy().finished
        row = np.zeros(-(-byte_tokenizer.vocab_size // 32), np.uint32)
        matcher.allow(row)
        assert set(np.flatnonzero(unpacked(row, byte_tokenizer.vocab_size))) == set(byte_tokenizer.stop_ids)
        matcher.rollback(len(repeated))
        assert not matcher.finished


def test_models_that_have_seen_spaces_in_calls_write_them(load, byte_tokenizer) -> None:
    for tokenizer, text in ((load("qwen2"), '{"name": "add", "arguments": {"x": '), (byte_tokenizer, ONE[12:38])):
        matcher = tools_grammar([ADD], "required", False, tokenizer).matcher()
        forced = []
        while more := matcher.forced():
            matcher.take(more)
            forced += more
        assert tokenizer.decode(forced).removeprefix("<tool_call>\n").startswith(text.rstrip(" -"))


# What is read back.


def read(pieces: list[str]) -> list:
    """The events, neighbouring pieces of text joined."""
    stream = ToolCallStream()
    events = [event for piece in pieces for event in stream.push(piece)] + stream.flush()
    joined: list = []
    for event in events:
        last = joined[-1] if joined else None
        if isinstance(event, TextDelta) and isinstance(last, TextDelta):
            joined[-1] = TextDelta(last.text + event.text)
        elif isinstance(event, ArgumentsDelta) and isinstance(last, ArgumentsDelta) and last.index == event.index:
            joined[-1] = ArgumentsDelta(event.index, last.text + event.text)
        else:
            joined.append(event)
    return joined


@pytest.mark.parametrize(
    ("text", "events"),
    [
        ("Hello <b>there</b> <tool", [TextDelta("Hello <b>there</b> <tool")]),
        (
            f"I add.\n\n{ONE}\n",
            [TextDelta("I add."), CallStart(0, "add"), ArgumentsDelta(0, '{"x":-1,"y":2}'), CallEnd(0)],
        ),
        (
            f"{ONE}\n{OTHER}\nDone.",
            [
                *(CallStart(0, "add"), ArgumentsDelta(0, '{"x":-1,"y":2}'), CallEnd(0)),
                *(CallStart(1, "find"), ArgumentsDelta(1, '{"words":["</tool_call>","b"]}'), CallEnd(1)),
                TextDelta("\nDone."),
            ],
        ),
        (  # another order, arguments in a text
            '<tool_call>{"arguments": "{\\"a\\": \\"</tool_call>\\"}", "name": "f"}</tool_call>',
            [CallStart(0, "f"), ArgumentsDelta(0, '{"a": "</tool_call>"}'), CallEnd(0)],
        ),
        ('<tool_call>{"name": "f"}', [CallStart(0, "f"), ArgumentsDelta(0, "{}"), CallEnd(0)]),
        ("Look: <tool_call>what?</tool_call> ok", [TextDelta("Look: <tool_call>what?</tool_call> ok")]),
        ("Look: <tool_call>[1, 2", [TextDelta("Look: <tool_call>[1, 2")]),
        (
            '<tool_call>{"name": "f", "arguments": {"a": [1, "}',
            [CallStart(0, "f"), ArgumentsDelta(0, '{"a": [1, "}'), CallBroken(0)],
        ),
        (
            '<tool_call>{"name": "f", "arguments": {"a" 1}}</tool_call>!',
            [CallStart(0, "f"), ArgumentsDelta(0, '{"a" 1}'), CallBroken(0), TextDelta("!")],
        ),
        (  # no closing tag
            '<tool_call>{"name": "f", "arguments": {}}\n<tool_call>{"name": "g", "arguments": {"b": "\\\\"}}',
            [
                *(CallStart(0, "f"), ArgumentsDelta(0, "{}"), CallEnd(0)),
                *(CallStart(1, "g"), ArgumentsDelta(1, '{"b": "\\\\"}'), CallEnd(1)),
            ],
        ),
    ],
)
def test_calls_are_read(text: str, events: list) -> None:
    assert read([text]) == events
    assert read(list(text)) == events


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{ONE}\n{ONE}", [ONE]),
        (f"{ONE}\n{OTHER}\n{ONE}\n{OTHER.replace('b', 'c')} and more", [ONE, OTHER]),
        (f"{ONE}\n{ONE[:-16]}", [ONE]),  # cut off where it is still the same
        (ONE + ONE.replace("2", "22"), [ONE, ONE.replace("2", "22")]),
        (ONE + ONE.replace("add", "adds"), [ONE, ONE.replace("add", "adds")]),
    ],
)
def test_a_call_is_read_once(text: str, expected: list[str]) -> None:
    calls = [call for one in expected for call in split_calls(one)[1]]
    assert split_calls(text) == ("", calls)
    stream = ToolCallStream()
    events = [event for letter in text for event in stream.push(letter)]
    assert len([event for event in events if isinstance(event, CallEnd)]) == len(calls)
    assert stream.repeated == (text.count(ONE) > 1)


@pytest.mark.parametrize(
    ("text", "said", "calls"),
    [
        *((f"Look: {ONE[:size]}", "Look:", 0) for size in (1, 5, 10, 11, 12, 17, 20, 22)),
        *((f"{ONE}\n{OTHER[:size]}", "", 1) for size in (1, 5, 10, 11, 12, 17, 20, 22)),
        ("Look: <tool_call>what", "Look:", 0),
        ("Look: <b", "Look: <b", 0),
        (f"Look: {ONE[:-12]}", "Look:", 1),  # the call itself was complete
        ('<tool_call>{"arguments": {}, "name": "f"}', "", 1),
    ],
)
def test_a_cut_leaves_no_part_of_a_call_in_the_text(text: str, said: str, calls: int) -> None:
    for pieces in ([text], list(text)):
        stream = ToolCallStream()
        events = [event for piece in pieces for event in stream.push(piece)] + stream.flush(cut=True)
        assert "".join(event.text for event in events if isinstance(event, TextDelta)) == said
        assert sum(isinstance(event, CallEnd) for event in events) == calls
        assert stream.unfinished == ((calls == 0 and "<b" not in text) or text.startswith(f"{ONE}\n"))


PARTS = ["<tool_call>", "</tool_call>", '{"name": "f", "arguments": ', '{"a": "', '\\"', "\\", '"', "}", "}}", "{", "[", "]", "\n", " ", "x", "<tool", "é", ONE, OTHER]  # fmt: skip  # noqa: E501


@settings(deadline=None, max_examples=500)
@given(parts=st.lists(st.sampled_from(PARTS), max_size=14), places=st.lists(st.integers(0, 400), max_size=8))
def test_reading_does_not_depend_on_how_the_text_is_cut(parts: list[str], places: list[int]) -> None:
    text = "".join(parts)
    bounds = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    whole = read([text])
    assert read([text[start:end] for start, end in pairwise(bounds)]) == whole
    assert read(list(text)) == whole
    arguments = {event.index: event.text for event in whole if isinstance(event, ArgumentsDelta)}
    for event in whole:
        if isinstance(event, CallEnd):
            assert isinstance(json.loads(arguments[event.index]), dict)
    if "<tool_call>" not in text:
        assert "".join(event.text for event in whole) == text


def test_arguments_come_as_they_are_written() -> None:
    stream = ToolCallStream()
    assert stream.push('<tool_call>\n{"name": "f", "arg') == []
    assert stream.push('uments": {"a') == [CallStart(0, "f"), ArgumentsDelta(0, '{"a')]
    assert stream.push('": 1') == [ArgumentsDelta(0, '": 1')]
    assert stream.push("}}\n</tool_") == [ArgumentsDelta(0, "}"), CallEnd(0)]
    assert stream.push("call>") == stream.flush() == []
