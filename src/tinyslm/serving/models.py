"""The models of one server: loaded on demand, unloaded when idle or when memory runs out.

Everything runs in the thread of the event loop, except loading and closing, which take long.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import platform
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.inference.engine import Engine
from tinyslm.inference.grammar import Grammar
from tinyslm.model.adapted import AdaptedModel, find_adapter
from tinyslm.model.folder import find_model, holds_conversations

LOG = logging.getLogger("tinyslm.serving")

POLL_SECONDS = 0.02

Result = TypeVar("Result")
Source = Path | AdaptedModel
"""What a model is loaded from."""


class UnknownModel(TinyslmError):
    """There is no model with this name."""


class Unavailable(TinyslmError):
    """The model could not be loaded, there is no memory for it, or the server is closing."""


@dataclass(eq=False)
class ServedModel:
    """A loaded model; grammars: those compiled for it, the least recently used first."""

    name: str
    engine: Engine
    grammars: OrderedDict[str, asyncio.Future[Grammar | None]] = field(default_factory=OrderedDict)


@dataclass(eq=False)
class _Slot:
    """A model, loaded or not; users: the number of its users. last_used: when the last one released it.

    bytes: its memory when it was loaded last; before that, an estimate. files: its `identity` when it was loaded.
    """

    name: str
    source: Source
    model: ServedModel | None = None
    users: int = 0
    bytes: int = 0
    files: object = None
    last_used: float = field(default_factory=time.monotonic)

    @property
    def path(self) -> Path:
        """The model folder, run folder or GGUF file."""
        return self.source.base if isinstance(self.source, AdaptedModel) else self.source

    @property
    def adapter(self) -> Path | None:
        return self.source.adapter if isinstance(self.source, AdaptedModel) else None


class Models:
    """Named models. A model stays loaded while it is in `use`, also when a reload has replaced it.

    Attributes: `names`: the first one stays loaded unless memory runs out.
    """

    def __init__(
        self, sources: Mapping[str, Source], load: Callable[[Source], Engine], *, memory: int = 0, idle: float = 0
    ) -> None:
        """load: opens the model of a source. memory: limit of this process in bytes. idle: seconds until unloading.
        0: no limit.
        """
        assert sources, "a server without models"
        self._slots = {name: _Slot(name, source) for name, source in sources.items()}
        self._replaced: list[_Slot] = []  # may be in use
        self._load, self._memory, self._idle = load, memory, idle
        self._loading = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "tinyslm-models")
        self._closed = False

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._slots)

    def created(self, name: str) -> int:
        """When the model was written, in seconds since 1970."""
        slot = self._slot(name)
        path = slot.adapter or slot.path
        return int(path.stat().st_mtime) if path.exists() else 0

    def base(self, name: str) -> str | None:
        """For an adapter, the name of its base, if that is served too."""
        slot = self._slot(name)
        bases = (other.name for other in self._slots.values() if other.source == slot.path)
        return next(bases, None) if slot.adapter else None

    def source(self, name: str) -> Source:
        """What the model is loaded from."""
        return self._slot(name).source

    def holds_conversations(self, name: str) -> bool | None:
        """Whether the model was trained on conversations; `None` if that is not known before it is loaded."""
        slot = self._slot(name)
        if slot.model is not None:
            return slot.model.engine.conversations
        try:
            if isinstance(slot.source, AdaptedModel):
                return slot.source.holds_conversations()
            return holds_conversations(find_model(slot.path)) if slot.path.is_dir() else None
        except TinyslmError:  # reported when the model is asked for
            return None

    def memory(self, name: str) -> int:
        """The bytes that a model took when it was loaded last; before that, 0."""
        return self._slot(name).bytes

    def loaded(self) -> dict[str, Engine]:
        return {name: slot.model.engine for name, slot in self._slots.items() if slot.model is not None}

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[ServedModel]:
        """The model, loaded first if necessary; it stays loaded until the block ends.

        Raises `UnknownModel`, or `Unavailable`.
        """
        slot = await self._take(name)
        try:
            assert slot.model is not None
            yield slot.model
        finally:
            slot.users -= 1
            slot.last_used = time.monotonic()

    async def load_first(self) -> None:
        async with self.use(self.names[0]):
            pass

    async def reload(self, sources: Mapping[str, Source]) -> dict[str, str]:
        """Serve these models from now on; returns what has changed, by name.

        A loaded model whose files were replaced is loaded anew, and answers the requests that begin from then on; those
        under way end with the old weights, which are freed afterwards. If memory does not suffice for both, requests
        wait until the answers under way have ended. A model that cannot be loaded stays as it was.
        """
        assert sources, "a server without models"
        changes: dict[str, str] = {}
        async with self._loading:
            for name, source in sources.items():
                if name not in self._slots:
                    self._slots[name], changes[name] = _Slot(name, source), "added"
                elif change := await self._renew(self._slots[name], source):
                    changes[name] = change
            for name in [name for name in self._slots if name not in sources]:
                self._replaced.append(self._slots.pop(name))
                changes[name] = "removed"
            self._slots = {name: self._slots[name] for name in sources}
            await self._close_replaced()
        try:
            await self.load_first()
        except Unavailable as error:
            LOG.error("%s %s", error.problem, error.remedy)
        return changes

    async def unload_idle(self) -> None:
        """Unload idle models except the first, and any unused ones if memory runs out."""
        before = time.monotonic() - self._idle
        async with self._loading:
            for slot in list(self._slots.values())[1:] if self._idle else []:
                if slot.model is not None and not slot.users and slot.last_used < before:
                    await self._unload(slot)
            await self._make_room(0)

    async def close(self) -> None:
        """Close all engines; their answers are cancelled."""
        self._closed = True
        async with self._loading:
            for slot in (*self._slots.values(), *self._replaced):
                if slot.model is not None:
                    await self._unload(slot)
        self._thread.shutdown()

    def _slot(self, name: str) -> _Slot:
        if name not in self._slots:
            raise UnknownModel(f'There is no model "{name[:100]}".', did_you_mean(name[:100], self._slots))
        return self._slots[name]

    async def _take(self, name: str) -> _Slot:
        """Count a user of a model, which is loaded first if necessary."""
        slot = self._slot(name)
        if slot.model is not None:
            slot.users += 1
            return slot
        async with self._loading:
            slot = self._slot(name)  # a reload may have replaced it
            slot.users += 1
            try:
                if slot.model is None:
                    await self._load_into(slot)
            except BaseException:
                slot.users -= 1
                raise
            return slot

    async def _load_into(self, slot: _Slot) -> None:
        if self._closed:
            raise Unavailable("The server is closing.", "Try again later.")
        slot.bytes = slot.bytes or await self._in_thread(lambda: self._estimate(slot))
        if not await self._make_room(slot.bytes):
            raise Unavailable(
                f'There is no memory for the model "{slot.name}" now: it needs {slot.bytes / 1e6:,.0f} MB.',
                "Try again later, or start the server with a larger --max-memory.",
            )
        before, slot.files = _memory(), identity(slot.source)
        engine = await self._in_thread(lambda: self._open(slot))
        slot.bytes = max(slot.bytes, _memory() - before)
        slot.model = ServedModel(slot.name, engine)
        LOG.info("Loaded the model %s.", slot.name)
        await self._make_room(0)

    async def _renew(self, old: _Slot, source: Source) -> str:
        """Put a model of `source` in the place of `old`, unless it is the same. Returns what was done, in words."""
        same = old.source == source
        if same and (old.model is None or old.files == identity(source)):
            return ""
        new = _Slot(old.name, source)
        if old.model is None:
            self._slots[old.name] = new
            return "changed"
        old.users += 1  # so that it is not unloaded to make room
        try:
            new.bytes = max(old.bytes if same else 0, await self._in_thread(lambda: self._estimate(new)))
            if not await self._make_room(new.bytes):
                self._slots[old.name] = new
                while old.users > 1:
                    await asyncio.sleep(POLL_SECONDS)
                await self._unload(old)
            await self._load_into(new)
        except Unavailable as error:
            LOG.error("%s %s", error.problem, error.remedy)
            return "not loaded anew"
        finally:
            old.users -= 1
        self._slots[old.name] = new
        self._replaced.append(old)
        return "loaded anew"

    async def _close_replaced(self) -> None:
        """Unload models that were replaced or removed, and are no longer used."""
        for slot in [slot for slot in self._replaced if not slot.users]:
            self._replaced.remove(slot)
            if slot.model is not None:
                await self._unload(slot)

    def _estimate(self, slot: _Slot) -> int:
        """How much memory a model will take: the size of its files, or what its base or another adapter of it took."""
        siblings = (other.bytes for other in self._slots.values() if other.path == slot.path)
        return max(weight_bytes(slot.path), *siblings)

    def _open(self, slot: _Slot) -> Engine:
        try:
            engine = self._load(slot.source)
        except TinyslmError as error:
            raise Unavailable(f'The model "{slot.name}" could not be loaded: {error.problem}', error.remedy) from error
        engine.start()
        return engine

    async def _make_room(self, needed: int) -> bool:
        """Unload unused models, the least recently used first, until `needed` bytes are free; False if they are not."""

        def lacking() -> bool:
            over = bool(self._memory) and _memory() + needed > self._memory
            return over or needed > int(psutil.virtual_memory().available)

        await self._close_replaced()
        while lacking():
            idle = [slot for slot in self._slots.values() if slot.model is not None and not slot.users]
            if not idle:
                return False
            await self._unload(min(idle, key=lambda slot: slot.last_used))
        return True

    async def _unload(self, slot: _Slot) -> None:
        assert slot.model is not None
        engine, slot.model = slot.model.engine, None
        await self._in_thread(engine.close)
        del engine
        await self._in_thread(_release_memory)
        LOG.info("Unloaded the %smodel %s.", "" if slot is self._slots.get(slot.name) else "old ", slot.name)

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def identity(source: Source) -> object:
    """What differs when a model's files were replaced: their inodes, sizes and times. `None` if there is no model."""
    try:
        if isinstance(source, AdaptedModel):
            return identity(source.base), _identities(find_adapter(source.adapter))
        return _identities(source if source.is_file() else find_model(source))
    except (OSError, TinyslmError):
        return None


def _identities(path: Path) -> list[tuple[str, int, int, int]]:
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    stats = [(file.name, file.stat()) for file in files]
    return [(name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _memory() -> int:
    return int(psutil.Process().memory_info().rss)


def weight_bytes(path: Path) -> int:
    """An estimate of a model's memory: the bytes of its weight files, of the format that has most."""
    if path.is_file():
        return path.stat().st_size
    kinds: dict[str, int] = {}
    for file in (*path.glob("*"), *path.glob("model/*")):
        if file.suffix in (".safetensors", ".gguf", ".onnx", ".data"):
            kinds[file.suffix] = kinds.get(file.suffix, 0) + file.stat().st_size
    return max(kinds.values(), default=0)


def _release_memory() -> None:
    """Let glibc return freed memory to the system."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
