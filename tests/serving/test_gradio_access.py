"""The interface made with Gradio is behind the server's checks, and has only the routes that its page needs."""

import sys

import pytest

from tinyslm.core.errors import TinyslmError
from tinyslm.serving.api_keys import make_key, read_keys
from tinyslm.serving.app import create_app
from tinyslm.serving.models import Models
from tinyslm.serving.settings import ServerSettings


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, model_folder) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(TinyslmError, match='needs the optional dependency group "gradio"') as caught:
        create_app(ServerSettings(gradio=True), Models({"tiny": model_folder}, lambda _source: None))
    assert "pip install 'tinyslm[gradio]'" in caught.value.remedy


class TestWithGradio:
    @pytest.fixture(scope="class")
    def locked(self, serve, tmp_path_factory):
        """A server with a key, and the key."""
        pytest.importorskip("gradio")
        file = tmp_path_factory.mktemp("keys") / "keys.txt"
        key, _ = make_key("ann", file)
        with serve(keys=read_keys(file), gradio=True) as running:
            yield running, key

    pytestmark = pytest.mark.filterwarnings("ignore")  # Gradio's own, raised in its threads

    def test_a_browser_asks_for_the_key(self, locked) -> None:
        running, key = locked
        with running.http() as http:
            for path in ("/gradio/", "/gradio/config"):
                response = http.get(path)
                assert response.status_code == 401
                assert response.headers["WWW-Authenticate"].startswith("Basic ")
                assert http.get(path, auth=("me", "wrong")).status_code == 401
                assert http.get(path, auth=("me", key)).status_code == 200
                assert http.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
            assert http.get("/gradio/", headers={"Authorization": "Basic ???"}).status_code == 401
            # Elsewhere a browser must not send the key by itself.
            assert http.get("/v1/models", auth=("me", key)).status_code == 401
            assert http.get("/gradiot", auth=("me", key)).status_code == 401

    def test_pages_of_other_origins_may_not_use_it(self, locked) -> None:
        running, key = locked
        with running.http(auth=("me", key)) as http:
            assert http.get("/gradio/", headers={"Host": "evil.example"}).status_code == 403
            assert http.get("/gradio/", headers={"Origin": "https://evil.example"}).status_code == 403

    def test_only_what_the_page_needs_exists(self, locked) -> None:
        running, key = locked
        with running.http(auth=("me", key)) as http:
            page = http.get("/gradio/")
            assert "default-src 'self'" in page.headers["Content-Security-Policy"]
            assert page.headers["X-Frame-Options"] == "DENY"
            for path in ("gradio_api/file=/etc/passwd", "gradio_api/proxy=http://x", "login", "docs", "openapi.json"):
                assert http.get(f"/gradio/{path}").status_code == 404
            for path in ("gradio_api/upload", "gradio_api/call/answer", "gradio_api/vibe-edit"):
                assert http.post(f"/gradio/{path}", json={}).status_code == 404
