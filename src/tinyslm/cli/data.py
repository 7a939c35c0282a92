"""`tinyslm data prepare`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from pydantic import Field

from tinyslm.cli.options import SettingOptions
from tinyslm.core.config import Section


class PrepareOptions(Section):
    """What to leave out, and what to accept."""

    strict: bool = Field(
        default=False, description="Stop at broken lines, rows and bytes; short for --data.strict true."
    )
    exclude: Annotated[tuple[str, ...], Parameter(negative=())] = Field(
        default=(),
        description='Files and folders to leave out, such as "*.log"; can be repeated. Short for --data.exclude.',
    )
    on: str = Field(
        default="",
        description="Use the workers of a Ray cluster: ray://HOST runs this command there; on one of its hosts, give "
        "`ray`. All hosts must see the same files at the same paths.",
    )
    lossy: bool = Field(
        default=False, description="Accept a tokenizer that does not restore every text; short for --data.lossy true."
    )


def prepare(
    *paths: str,
    out: Annotated[str, Parameter(name=["--out", "-o"])],
    tokenizer: Path | None = None,
    config: Annotated[Path | None, Parameter(name=["--config", "-c"])] = None,
    options: Annotated[PrepareOptions | None, Parameter(name="*")] = None,
    json: bool = False,
    settings: SettingOptions = (),
) -> None:
    """Turn text into token shards: read, clean, drop duplicates, split, train a tokenizer unless one is given, encode.

    What is already there for the same inputs is not made again. Settings of the sections `data` and `tokenizer` can
    be given as `--section.key value` (see `tinyslm config`).

    Parameters
    ----------
    paths
        Files, folders and globs of text, also in object storage (`s3://BUCKET/FOLDER`), `-` for standard input,
        `hf://NAME` for a dataset.
    out
        The shards folder to write, or an address in object storage: `s3://BUCKET/FOLDER`.
    tokenizer
        A folder with a tokenizer to use instead of training one.
    config
        A TOML or YAML file of settings.
    options
        What to leave out, and what to accept.
    json
        Print what the shards hold as JSON.
    settings
        Any setting, as `--section.key value`.
    """
    from tinyslm.cli.on_cluster import run_remotely
    from tinyslm.cli.planning import describe_data
    from tinyslm.cli.settings import settings as read_settings
    from tinyslm.cli.telling import tell, working
    from tinyslm.core.console import say, warn
    from tinyslm.data.prepare import prepare as prepare_shards
    from tinyslm.tokenizer.tokenizer import Tokenizer
    from tinyslm.training.config import RunConfig

    options = options or PrepareOptions()
    run_remotely(options.on)
    settings = (
        *settings,
        *(f"data.exclude={pattern}" for pattern in options.exclude),
        *(f"data.{name}=true" for name in ("strict", "lossy") if getattr(options, name)),
    )
    chosen = read_settings(RunConfig, config, settings)
    given = Tokenizer.load(tokenizer) if tokenizer else chosen.tokenizer
    with working("Preparing the text", json=json) as progress:
        shards = prepare_shards(
            paths, out, tokenizer=given, config=chosen.data, on=options.on, progress=progress, notify=warn
        )
    if json:
        tell({"shards": out, **{key: shards.manifest[key] for key in ("tokenizer", "splits")}})
        return
    say(describe_data(shards.manifest))
    say(f"Shards: {out}\nTrain on them: tinyslm train {out} --out RUN")
