"""A container beside the server outside of one: the first token's time, and how long a start takes.

    tinyslm deploy MODEL --to container --out FOLDER --no-check
    podman build --tag IMAGE FOLDER
    python benchmarks/container.py --folder FOLDER --image IMAGE [--program podman] [--rounds 30]

Both serve the bundle's model on this machine, the container read-only and without capabilities. They are asked in
turns, each round with a prompt of its own, for the first token of a stream, over a new connection each time.
"""

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.request import Request, urlopen

from harness import TINYSLM, alternate, finish, medians, parser, ratio
from tinyslm.deploy.container import PORT
from tinyslm.deploy.running import free_port, started

TEXT = "The cat sat on the mat and looked out of the window for a long time, until it was dark. " * 3


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True, help="the bundle")
    options.add_argument("--image", required=True, help="the image that was built from it")
    options.add_argument("--program", default="podman", help="podman or docker")
    options.add_argument("--rounds", type=int, default=30)
    given = options.parse_args()
    ports = {"container": free_port(), "bare": free_port()}
    name = f"tinyslm-benchmark-{time.time_ns()}"
    confined = ["--read-only", "--cap-drop", "ALL", "--publish", f"127.0.0.1:{ports['container']}:{PORT}"]
    commands = {
        "container": [given.program, "run", "--name", name, *confined, given.image, "--public"],
        "bare": [*TINYSLM, "serve", str(given.folder.resolve() / "model"), "--port", str(ports["bare"])],
    }
    with ExitStack() as stack:
        stack.callback(subprocess.run, [given.program, "rm", "--force", name], capture_output=True, check=False)
        starts = {
            way: stack.enter_context(started(command, f"http://127.0.0.1:{ports[way]}/ready", {}))
            for way, command in commands.items()
        }
        asked = {way: lambda number, port=port: first_token(port, number) for way, port in ports.items()}
        seconds = alternate(asked, range(given.rounds + 1))
    finish(
        {
            "first_token_seconds": medians(seconds),
            "ratio": ratio(seconds["container"], seconds["bare"]),
            "start_seconds": starts,
        }
    )


def first_token(port: int, number: int) -> float:
    """Seconds from the request to the first token that the server on a port streams."""
    with urlopen(f"http://127.0.0.1:{port}/v1/models") as answer:
        model = json.load(answer)["data"][0]["id"]
    body = {"model": model, "prompt": f"{number}: {TEXT}", "max_tokens": 2, "temperature": 0, "stream": True}
    request = Request(
        f"http://127.0.0.1:{port}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    begun = time.perf_counter()
    with urlopen(request) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                return time.perf_counter() - begun
    sys.exit("The server streamed no token.")


if __name__ == "__main__":
    main()
