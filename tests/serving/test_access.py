"""Access: API keys, and requests of pages in browsers."""

import openai
import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.serving.api_keys import ApiKeys, make_key, read_keys
from tinyslm.serving.settings import ServerSettings

BODY = {"model": "tiny", "prompt": "x", "max_tokens": 1}


@pytest.fixture(scope="module")
def locked(serve, tmp_path_factory):
    """A server with a key, and the key."""
    file = tmp_path_factory.mktemp("keys") / "keys.txt"
    key, _ = make_key("ann", file)
    with serve(keys=read_keys(file), cors=("https://page.example",), allow_host=("models.example",)) as running:
        yield running, key


def test_a_wrong_key_is_rejected(locked) -> None:
    running, key = locked
    running.client.with_options(api_key=key).completions.create(**BODY)
    for wrong in ("wrong", key[:-1], key + "x"):
        with running.http(headers={"Authorization": f"Bearer {wrong}"}) as http:
            response = http.post("/v1/completions", json=BODY)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert key not in response.text


@pytest.mark.parametrize(
    "path", ["/v1/models", "/metrics", "/openapi.json", "/v1/models/tiny", "/look", "/nothing", "//v1/models"]
)
def test_every_route_needs_the_key(locked, path) -> None:
    with locked[0].http() as http:
        assert http.get(path).status_code == 401


@pytest.mark.parametrize("path", ["/", "/health", "/ready"])
def test_the_page_and_health_checks_need_no_key(locked, path) -> None:
    with locked[0].http() as http:
        assert http.get(path).status_code == 200


def test_keys_are_stored_as_hashes(tmp_path) -> None:
    file = tmp_path / "keys.txt"
    keys = {name: make_key(name, file)[0] for name in ("ann", "bob")}
    text = file.read_text()
    assert not [key for key in keys.values() if key in text]
    known = read_keys(file)
    assert [known.name(key) for key in keys.values()] == ["ann", "bob"]
    assert known.name("x") is None
    key, line = make_key("eve")
    assert read_keys(None, f"{line},\n# a comment\n").name(key) == "eve"
    assert not read_keys(None, "")


def test_key_files_are_private(tmp_path, caplog) -> None:
    file = tmp_path / "keys"
    make_key("ann", file)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o640)  # of a service's group
    make_key("bob", file)
    assert file.stat().st_mode & 0o777 == 0o640
    assert not caplog.messages
    file.chmod(0o644)
    assert read_keys(file)
    assert "chmod 600" in caplog.text


def test_a_key_is_not_appended_to_another_file(tmp_path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfa")
    for file in (tmp_path, tmp_path / "binary"):
        with pytest.raises(TinyslmError, match=r"Could not read .*|is not UTF-8 text"):
            make_key("ann", file)
    assert (tmp_path / "binary").read_bytes() == b"\xff\xfa"


@pytest.mark.parametrize("line", ["secret", "ann sha256:12", "ann secret", "a b sha256:" + "0" * 64])
def test_errors_do_not_quote_invalid_lines(tmp_path, line) -> None:
    (tmp_path / "keys").write_text(f"# keys\n{line}\n")
    with pytest.raises(TinyslmError, match="Line 2 of") as caught:
        read_keys(tmp_path / "keys")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.com"])
def test_other_addresses_need_keys(host) -> None:
    settings = ServerSettings(host=host)
    with pytest.raises(TinyslmError, match="no keys"):
        settings.check_reachable(bool(ApiKeys({})))
    settings.check_reachable(True)
    ServerSettings(host=host, public=True).check_reachable(False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.0.0.53"])
def test_loopback_addresses_need_no_keys(host) -> None:
    ServerSettings(host=host).check_reachable(False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "127.0.0.1:8000"}, 200),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:8000"}, 200),
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example:8000"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:3000", "Origin": "http://localhost:3000"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 400),
        ({"Origin": "http://[::1"}, 400),
        ({"Origin": "http://localhost:3000"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}, 200),
        ({"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}, 200),
    ],
    ids=str,
)
def test_pages_of_other_origins_are_rejected(running, headers, status) -> None:
    with running.http() as http:
        assert http.get("/v1/models", headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_bodies_that_need_no_preflight_request_are_rejected(running, kind) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    with running.http() as http:
        response = http.post("/v1/completions", content=b'{"model": "tiny", "max_tokens": 1}', headers=headers)
    assert (response.status_code, response.json()["error"]["code"]) == (415, "wrong_content_type")


def test_other_origins_need_cors(running, locked) -> None:
    ask = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    with running.http() as http:
        response = http.options("/v1/completions", headers=ask)
        assert response.status_code == 403
        assert "access-control-allow-origin" not in response.headers
    allowed, key = locked
    with allowed.http() as http:
        response = http.options("/v1/completions", headers=ask | {"Access-Control-Request-Headers": "authorization"})
        assert response.headers["access-control-allow-origin"] == "https://page.example"
        answer = http.post("/v1/completions", json=BODY, headers={**ask, "Authorization": f"Bearer {key}"})
        assert answer.status_code == 200
        other = http.options("/v1/completions", headers=ask | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers
        named = http.get("/v1/models", headers={"Host": "models.example", "Authorization": f"Bearer {key}"})
        assert named.status_code == 200


def test_an_invalid_origin_is_an_error_of_the_settings() -> None:
    for origin in ("*", "example.com", "https://example.com/page", "ftp://example.com"):
        with pytest.raises(ValueError, match="not an origin"):
            ServerSettings(cors=(origin,))


def test_security_headers(running) -> None:
    with running.http() as http:
        for response in (http.get("/v1/models"), http.get("/nothing"), http.post("/v1/completions", json={})):
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["x-frame-options"] == "DENY"
            assert response.headers["cross-origin-resource-policy"] == "same-origin"
            assert "server" not in response.headers


def test_stored_responses_belong_to_one_key(serve, tmp_path) -> None:
    made = {name: make_key(name, tmp_path / "keys")[0] for name in ("ann", "bob")}
    with serve(keys=read_keys(tmp_path / "keys")) as running:
        ann, bob = (running.client.with_options(api_key=key) for key in made.values())
        stored = ann.responses.create(model="tiny", input="x", max_output_tokens=2)
        assert ann.responses.retrieve(stored.id).output_text == stored.output_text
        with pytest.raises(openai.NotFoundError):
            bob.responses.retrieve(stored.id)
        with pytest.raises(openai.BadRequestError):
            bob.responses.create(model="tiny", input="x", previous_response_id=stored.id)
        ann.responses.delete(stored.id)
        with pytest.raises(openai.NotFoundError):
            ann.responses.retrieve(stored.id)
