"""The parts of the Hugging Face hub's interface that pulling uses, served from a folder on this machine."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "c0ffee" + "0" * 34


@contextmanager
def hub(folder: Path):
    """Serve `folder/OWNER/NAME/FILE`: gives the address, and a list of the paths that were asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(with_content=True)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

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

        def _send(self, content: bytes, *, with_content: bool = True, **headers: str) -> None:
            self.send_response(200)
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
