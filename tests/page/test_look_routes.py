"""`/look` and the page's files, without a browser."""

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyslm.inspection.inspecting import inspect
from tinyslm.model.folder import save_model
from tinyslm.serving.api_keys import make_key, read_keys
from tinyslm.serving.page import TYPES

FILES = ("/", "/page/main.js", "/page/style.css", "/page/icon.svg")


def client(url: str) -> httpx.Client:
    return httpx.Client(base_url=url, timeout=60, verify=False)


@pytest.fixture(scope="module")
def http(url: str):
    with client(url) as opened:
        yield opened


@pytest.mark.parametrize("path", FILES)
def test_files_have_their_content_type(http: httpx.Client, path: str) -> None:
    answer = http.get(path)
    ending = path.rpartition(".")[2] if "." in path else "html"
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{TYPES[ending]}; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    again = http.get(path, headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert http.head(path).status_code == 200


@pytest.mark.parametrize(
    "path", ["/page/", "/page/../app.py", "/page/%2e%2e/app.py", "/page/__init__.py", "/page/index.html/"]
)
def test_only_the_pages_files_are_served(http: httpx.Client, path: str) -> None:
    assert http.get(path).status_code == 404


def test_look_returns_what_inspect_returns(http: httpx.Client, tiny) -> None:
    engine = tiny()
    expected = inspect(engine.model, engine.tokenizer, engine.prompt_ids("to be"), top=3)
    found = http.post("/look", json={"model": "tiny", "text": "to be", "top": 3}).json()
    assert (found["layers"], found["heads"], found["left_out"]) == (2, 4, 0)
    for shown, one in zip(found["tokens"], expected.tokens, strict=True):
        assert (shown["id"], shown["text"], shown["kind"]) == (one.token.id, one.token.text, one.token.kind)
        assert (shown["logprob"], shown["rank"]) == (pytest.approx(one.logprob), one.rank)
        assert [other["id"] for other in shown["top"]] == [token.id for token, _ in one.top]
    ids = [token["id"] for token in found["tokens"]]
    for head in (None, 3):
        weights = http.post("/look/attention", json={"model": "tiny", "ids": ids, "layer": 1, "head": head}).json()
        for row, wanted in zip(weights["weights"], expected.attention(1, head), strict=True):
            np.testing.assert_allclose(row, wanted[: len(row)], atol=6e-5)


@pytest.mark.parametrize(
    ("path", "body", "status", "problem"),
    [
        ("/look", {"model": "tiny"}, 400, "give either text or messages"),
        ("/look", {"model": "tiny", "text": "x", "messages": []}, 400, ""),
        ("/look", {"model": "none", "text": "x"}, 404, 'There is no model "none"'),
        ("/look", {"model": "tiny", "text": "x", "topp": 3}, 400, "topp"),
        ("/look", {"model": "tiny", "text": "x", "top": 1000}, 400, "top"),
        ("/look/attention", {"model": "tiny", "ids": [1], "layer": 3}, 400, "This model has no layer 3"),
        ("/look/attention", {"model": "tiny", "ids": [1], "layer": 1, "head": 5}, 400, "This model has no head 5"),
        ("/look/attention", {"model": "tiny", "ids": [999], "layer": 1}, 400, "This model has no token 999"),
        ("/look/attention", {"model": "tiny", "ids": [], "layer": 1}, 400, "ids"),
        ("/look/attention", {"model": "tiny", "ids": [1] * 513, "layer": 1}, 400, "at most 512"),
    ],
)
def test_invalid_inspections(http: httpx.Client, path: str, body: dict, status: int, problem: str) -> None:
    answer = http.post(path, json=body)
    assert answer.status_code == status
    assert problem in answer.json()["error"]["message"]


def test_an_empty_text_is_a_new_document(http: httpx.Client) -> None:
    found = http.post("/look", json={"model": "tiny", "text": ""}).json()
    assert [token["text"] for token in found["tokens"]] == ["<|endoftext|>"]


def test_look_needs_the_key_and_the_page_does_not(serve, tiny) -> None:
    key, line = make_key("me")
    with serve({"tiny": tiny()}, read_keys(None, line)) as url, client(url) as http:
        for path in FILES:
            assert http.get(path).status_code == 200
        for path, body in {"/look": {"text": "x"}, "/look/attention": {"ids": [1], "layer": 1}}.items():
            assert http.post(path, json={"model": "tiny", **body}).status_code == 401
            with_key = http.post(path, json={"model": "tiny", **body}, headers={"Authorization": f"Bearer {key}"})
            assert with_key.status_code == 200
        assert http.get("/card/tiny").status_code == 401


def test_the_card_tells_what_is_known(serve, tiny, tmp_path, monkeypatch) -> None:
    engine = tiny()
    engine.conversations = False
    save_model(engine.model, tmp_path / "model", engine.tokenizer, {
        "bits_per_byte": 1.25, "low": 1.1, "high": 1.4, "training_tokens": 1_200_000, "training_seconds": 65,
        "pulled_from": {"repository": "a/b", "revision": "0123456789abcdef"}, "loss": "damaged",
    })  # fmt: skip
    (tmp_path / "model" / "README.md").write_text("---\nlanguage: en\nlicense: 'apache-2.0'\n---\nlicense: other\n")
    monkeypatch.chdir(tmp_path)
    with serve({"model": engine}) as url, client(url) as http:
        found = http.get("/card/model").json()
        assert http.get("/card/none").status_code == 404
    rows = {name: value for section in found["sections"] for name, value in section["rows"]}
    assert (rows["family"], rows["bits per byte"], rows["95 % interval"]) == ("phi", "1.2500", "1.1000 to 1.4000")
    assert (rows["tokens"], rows["time"], rows["licence"]) == ("1.2 M", "1:05", "apache-2.0")
    assert rows["conversations"] == "never trained on any"
    assert rows["pulled from"] == "a/b at 0123456789ab"
    assert "loss (nats per token)" not in rows


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text(max_size=40)}
    ),
    min_size=1,
    max_size=4,
)
looks = st.fixed_dictionaries(
    {"model": st.just("tiny")},
    optional={
        "text": st.text(max_size=40) | anything,
        "messages": messages | anything,
        "top": anything,
        "tools": anything,
    },
)
heads = st.fixed_dictionaries(
    {
        "model": st.just("tiny"),
        "ids": st.lists(st.integers(-2, 330), max_size=30) | anything,
        "layer": st.integers(-1, 3),
    },
    optional={"head": st.integers(-1, 5) | anything},
)


@settings(max_examples=80, deadline=None)
@given(st.tuples(st.just("/look"), looks) | st.tuples(st.just("/look/attention"), heads))
def test_no_body_makes_the_server_fail(http: httpx.Client, asked: tuple[str, dict]) -> None:
    path, body = asked
    try:
        content = httpx.Request("POST", http.base_url, json=body).content
    except ValueError:  # what JSON cannot hold
        return
    answer = http.post(path, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code in (200, 400), answer.text
