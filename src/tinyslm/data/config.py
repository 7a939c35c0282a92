"""Settings for converting text files to shards."""

from pydantic import Field, field_validator

from tinyslm.core.config import Section
from tinyslm.data.charset import check_encoding


class DataConfig(Section):
    """How to read, clean, compare and split documents."""

    text_column: str = Field(
        default="", description="Column that holds the text in JSONL, CSV and Parquet; empty: find it."
    )
    encoding: str = Field(
        default="",
        description="Encoding of the text files that are not UTF-8 and have no byte order mark; empty: guess it.",
    )
    max_record_bytes: int = Field(
        default=1 << 26, ge=1, description="Most bytes of a JSON record, table row or HTML page; others are skipped."
    )
    exclude: tuple[str, ...] = Field(
        default=(), description="Patterns of files and folders to leave out, such as *.log, drafts or old/*.txt."
    )
    clean: bool = Field(
        default=True, description="Remove control characters, mend broken encodings, end lines with \\n."
    )
    deduplicate: bool = Field(default=True, description="Keep only the first of equal or nearly equal documents.")
    near_duplicate_threshold: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Share of common five-word sequences that makes documents nearly equal; 0: off.",
    )
    valid_share: float = Field(
        default=0.05, gt=0, le=0.5, description="Share of the text that is held out for validation."
    )
    valid_paths: tuple[str, ...] = Field(
        default=(), description="Text to validate on, instead of a share of the training text."
    )
    strict: bool = Field(
        default=False, description="Stop at broken lines, rows and bytes instead of skipping and counting them."
    )
    lossy: bool = Field(default=False, description="Accept a tokenizer whose ids do not restore every text.")
    workers: int = Field(default=0, ge=0, description="Processes that read and encode; 0: one for each usable core.")

    _encoding = field_validator("encoding")(check_encoding)

    @property
    def compares_nearly(self) -> bool:
        """Whether to search for nearly equal documents."""
        return self.near_duplicate_threshold > 0 and (self.deduplicate or bool(self.valid_paths))
