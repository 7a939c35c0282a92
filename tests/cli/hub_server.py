"""The parts of the Hugging Face hub's interface that pulling and pushing use, served from a folder on this machine."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34
WRITER = "hf_writer"


@contextmanager
def hub(folder: Path):
    """Serve `folder/OWNER/NAME/FILE`: gives the address, and a list of the paths that were asked for.

    What is pushed goes there too, if the token is `WRITER`.
    """
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_content=True)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_POST(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append("/".join(parts))
            if self.headers["Authorization"] != f"Bearer {WRITER}":
                content = json.dumps({"error": "You may not write here."}).encode()
                return self._send(content, status=403)
            match parts[1:]:
                case ["repos", "create"]:
                    told = json.loads(body)
                    address = f"{told['organization']}/{told['name']}"
                    answer = {"url": f"https://huggingface.co/{'spaces/' * (told['type'] == 'space')}{address}"}
                    (folder / address).mkdir(parents=True, exist_ok=True)
                case [_, owner, name, "preupload", "main"]:
                    files = json.loads(body)["files"]
                    modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
                    answer = {"files": modes}
                case [kind, owner, name, "commit", "main"]:
                    self._take(folder / owner / name, body)
                    place = "/".join([*([kind] * (kind == "spaces")), owner, name])
                    address = f"http://{self.headers['Host']}/{place}/commit/{COMMIT}"
                    answer = {"success": True, "commitOid": COMMIT, "commitUrl": address}
                case _:
                    answer = {}
            return self._send(json.dumps(answer).encode())

        def _take(self, place: Path, body: bytes) -> None:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    path = place / line["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(base64.b64decode(line["value"]["content"]))

        def _answer(self, *, with_content: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            asked.append(path)
            parts = path.split("/")
            if parts[:2] == ["api", "models"]:
                self._describe(parts[2:])
            elif len(parts) > 4 and parts[2] == "resolve" and (folder / parts[0] / parts[1] / parts[4]).is_file():
                self._give(folder / parts[0] / parts[1] / parts[4], with_content=with_content)
            else:
                self._refuse("EntryNotFound")

        def _describe(self, parts: list[str]) -> None:
            place = folder.joinpath(*parts[:2])
            if not place.is_dir():
                return self._refuse("RepoNotFound")
            if len(parts) > 3 and parts[3] not in ("main", "v1", COMMIT):
                return self._refuse("RevisionNotFound")
            files = sorted(file for file in place.iterdir() if file.is_file())
            if parts[2:3] == ["tree"]:
                entries = [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": _etag(f)} for f in files]
                return self._send(json.dumps(entries).encode())
            siblings = [{"rfilename": file.name, "size": file.stat().st_size, "blobId": _etag(file)} for file in files]
            name = "/".join(parts[:2])
            told = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings, "cardData": {"license": "mit"}}
            return self._send(json.dumps(told).encode())

        def _give(self, file: Path, *, with_content: bool) -> None:
            content = file.read_bytes()
            self._send(content, with_content=with_content, **{"ETag": f'"{_etag(file)}"'})

        def _send(self, content: bytes, *, with_content: bool = True, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if with_content:
                self.wfile.write(content)

        def _refuse(self, code: str) -> None:
            self.send_response(404)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def _etag(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()
