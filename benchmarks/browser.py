"""How fast a model is in the page of `tinyslm deploy --to page`, in a Chromium without a window, on one thread.

    python benchmarks/browser.py MODEL [--tokens 64] [--rounds 5] [--threads 1]

Makes the page of a model folder, opens it, and continues a text greedily in rounds. On a machine that does other things
too, the tokens per second of processor time (of the process that draws the page and runs the model) say how fast it
would be alone. Also: seconds to make the page and to load the model, bytes of the page besides the model.
"""

import json
import tempfile
import time
from pathlib import Path

import psutil

from harness import parser, spread
from tinyslm.deploy.deploying import deploy_model
from tinyslm.deploy.page.checking import HEADERS, served
from tinyslm.deploy.page.chromium import find_browser, open_page

SECONDS = 900
LOAD = """async () => {
  const { loading } = await import(new URL("page/loading.js", document.baseURI).href);
  globalThis.runtime = await loading.model;
  return runtime.threads;
}"""
CONTINUE = """async (most) => {
  const sampling = { ...runtime.about.sampling, temperature: 0 };
  runtime.about.stop = [];
  let count = 0;
  let began = 0;
  for await (const _ of runtime.generate(await runtime.prompt("Once upon a time"), { sampling, most })) {
    began ||= performance.now();
    count += 1;
  }
  return (1000 * (count - 1)) / (performance.now() - began);
}"""


def busiest() -> tuple[float, int]:
    """Processor seconds of the browser's process with the most, and its id."""
    return max((sum(one.cpu_times()[:2]), one.pid) for one in psutil.Process().children(recursive=True))


def main() -> None:
    """Measure, and print the figures as JSON."""
    arguments = parser(__doc__)
    arguments.add_argument("model", type=Path)
    arguments.add_argument("--tokens", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1)
    given = arguments.parse_args()
    program = find_browser()
    assert program, "there is no Chromium"
    with tempfile.TemporaryDirectory() as place:
        made = deploy_model(given.model, "page", Path(place) / "site", check=False)
        with (
            served(made.folder, HEADERS) as url,
            open_page(program, f"{url}/?threads={given.threads}", SECONDS) as page,
        ):
            begun = time.perf_counter()
            threads = page.run(LOAD, SECONDS)
            loaded = time.perf_counter() - begun
            rates, alone = [], []
            page.run(CONTINUE, SECONDS, given.tokens)
            for _ in range(given.rounds):
                before, _ = busiest()
                rates.append(page.run(CONTINUE, SECONDS, given.tokens))
                alone.append(given.tokens / (busiest()[0] - before))
            found = {
                "browser": page.browser,
                "threads": threads,
                "tokens_per_second": spread(rates),
                "tokens_per_processor_second": spread(alone),
                "seconds_to_make": made.seconds,
                "seconds_to_load": loaded,
                "bytes_besides_the_model": made.bytes - max(made.files.values()),
                "load_average": psutil.getloadavg()[0],
            }
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
