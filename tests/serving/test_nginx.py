"""The server behind nginx, with the configuration of docs/service.md."""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tiny_server import Running, make_model, wait_until

from tinyslm.serving.api_keys import make_key, read_keys

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
GUIDE = Path(__file__).parents[2] / "docs/service.md"
NAME = "models.example.com"
MAIN = """
daemon off; pid nginx.pid; error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fast; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    {site}
}}
"""
CONTEXT = 16_000
LONG = {"model": "long", "prompt": "x", "logit_bias": {"97": 100}, "stream": True}

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


@pytest.fixture(scope="module")
def behind(serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Running, httpx.Client]]:
    """A server, and a client of nginx."""
    folder = tmp_path_factory.mktemp("nginx")
    key, _ = make_key("ann", folder / "keys")
    model = make_model(folder / "long", context=CONTEXT, depth=1)
    with serve({"long": model}, keys=read_keys(folder / "keys"), allow_host=(NAME,)) as running:
        port = configure(folder, running.url.rpartition(":")[2])
        nginx = subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf"], stderr=subprocess.PIPE, text=True)
        headers = {"Authorization": f"Bearer {key}", "Host": NAME}
        with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=False, headers=headers, timeout=30) as client:
            try:
                wait_until(lambda: listens(port) or nginx.poll() is not None)
                assert nginx.poll() is None, nginx.stderr.read()
                yield running, client
            finally:
                nginx.terminate()
                nginx.communicate(timeout=30)


def configure(folder: Path, server: str) -> int:
    """Write the guide's configuration, with ports, and a certificate of this machine. Returns nginx's port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", f"/CN={NAME}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    site = re.search(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)[1]
    for old, new in {
        "127.0.0.1:8000": f"127.0.0.1:{server}",
        "listen 443": f"listen 127.0.0.1:{port}",
        f"/etc/letsencrypt/live/{NAME}": str(folder),
    }.items():
        assert old in site
        site = site.replace(old, new)
    (folder / "nginx.conf").write_text(MAIN.format(site=site))
    return port


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stats(running: Running):
    return running.models.loaded()["long"].stats()


def test_tokens_arrive_at_once_and_a_disconnect_cancels_the_answer(behind) -> None:
    running, client = behind
    before = stats(running).generated_tokens
    with client.stream("POST", "/v1/completions", json=LONG) as response:
        lines = response.iter_lines()
        texts = [json.loads(line[6:])["choices"][0]["text"] for line in (next(lines), next(lines), next(lines)) if line]
        assert set("".join(texts)) == {"a"}
        assert stats(running).running == 1
    wait_until(lambda: stats(running).running == 0)
    assert stats(running).generated_tokens - before < CONTEXT // 2
    wait_until(lambda: running.server._service.admission.samples == 0)


def test_a_whole_stream_and_errors_pass(behind) -> None:
    _, client = behind
    whole = client.post("/v1/completions", json=LONG | {"max_tokens": 500}).text
    assert whole.count('"text":"a') >= 1
    assert whole.endswith("data: [DONE]\n\n")
    wrong = client.post("/v1/completions", json=LONG, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (401, "invalid_api_key")
    page = client.get("/v1/models", headers={"Origin": f"https://{NAME}"})
    assert page.status_code == 200
    assert client.get("/v1/models", headers={"Origin": "https://evil.example"}).status_code == 403
    assert client.get("/metrics").status_code == 404


def test_the_request_has_the_id_that_nginx_gave_it(behind) -> None:
    assert re.fullmatch("[0-9a-f]{32}", behind[1].get("/health").headers["x-request-id"])
