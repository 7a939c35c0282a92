"""The models of one server: loaded when they are asked for, unloaded when nobody uses them or memory runs out.

Everything here happens in the event loop's thread, except loading and closing, which take their time in another one.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import platform
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import psutil

from tinyslm.core.errors import TinyslmError, did_you_mean
from tinyslm.inference.engine import Engine
from tinyslm.serving.grammars import Grammars

Result = TypeVar("Result")


class UnknownModel(TinyslmError):
    """There is no model of that name."""


class Unavailable(TinyslmError):
    """The model cannot be used now: it could not be loaded, there is no memory for it, or the server is closing."""


@dataclass(eq=False)
class Served:
    """A loaded model."""

    name: str
    engine: Engine
    grammars: Grammars


@dataclass(eq=False)
class _Place:
    """Where a model is, loaded or not, how many use it, and when the last one was done with it.

    bytes: that it took when it was loaded last; before, those of its files.
    """

    name: str
    path: Path
    served: Served | None = None
    users: int = 0
    bytes: int = 0
    last_used: float = field(default_factory=time.monotonic)


class Models:
    """Named models. `use` one for as long as an answer takes; it stays loaded meanwhile.

    names: of all of them; the first is the one that stays loaded unless memory runs out.
    """

    def __init__(
        self, paths: Mapping[str, Path], load: Callable[[Path], Engine], *, memory: int = 0, idle: float = 0
    ) -> None:
        """`load` opens a model; memory: bytes that this process may take; idle: seconds; 0: no limit."""
        assert paths, "a server without models"
        self._places = {name: _Place(name, Path(path)) for name, path in paths.items()}
        self._load, self._memory, self._idle = load, memory, idle
        self._loading = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "tinyslm-models")
        self._closed = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models."""
        return tuple(self._places)

    def created(self, name: str) -> int:
        """When the model was made, in seconds since 1970."""
        path = self._place(name).path
        return int(path.stat().st_mtime) if path.exists() else 0

    def loaded(self) -> dict[str, Engine]:
        """The engines of the models that are loaded now."""
        return {name: place.served.engine for name, place in self._places.items() if place.served is not None}

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[Served]:
        """The model, loaded first if need be; it is not unloaded before the block ends.

        Raises `UnknownModel`, or `Unavailable`.
        """
        place = self._place(name)
        place.users += 1
        try:
            yield place.served or await self._loaded(place)
        finally:
            place.users -= 1
            place.last_used = time.monotonic()

    async def load_first(self) -> None:
        """Load the first model. Raises `Unavailable`."""
        async with self.use(self.names[0]):
            pass

    async def unload_idle(self) -> None:
        """Unload what nobody has used for long, but for the first model; and any, while memory runs out."""
        before = time.monotonic() - self._idle
        async with self._loading:
            for place in list(self._places.values())[1:] if self._idle else []:
                if place.served is not None and not place.users and place.last_used < before:
                    await self._unload(place)
            await self._shrink()

    async def close(self) -> None:
        """End all engines; what runs on them is cancelled."""
        self._closed = True
        async with self._loading:
            for place in self._places.values():
                if place.served is not None:
                    await self._unload(place)
        self._thread.shutdown()

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise UnknownModel(f'There is no model "{name[:100]}".', did_you_mean(name[:100], self._places))
        return self._places[name]

    async def _loaded(self, place: _Place) -> Served:
        async with self._loading:
            if place.served is None:
                if self._closed:
                    raise Unavailable("The server is closing.", "Ask another one, or try again later.")
                place.bytes = place.bytes or await self._apart(lambda: weight_bytes(place.path))
                await self._make_room(place)
                before = _memory()
                engine = await self._apart(lambda: self._open(place))
                place.bytes = max(place.bytes, _memory() - before)
                place.served = Served(place.name, engine, Grammars())
                await self._shrink()
            return place.served

    def _open(self, place: _Place) -> Engine:
        try:
            engine = self._load(place.path)
        except TinyslmError as error:
            raise Unavailable(f'The model "{place.name}" could not be loaded: {error.problem}', error.remedy) from error
        engine.start()
        return engine

    async def _make_room(self, place: _Place) -> None:
        """Unload models that nobody uses, until there is memory for this one."""
        while self._over(place.bytes) or place.bytes > int(psutil.virtual_memory().available):
            if not await self._unload_one():
                raise Unavailable(
                    f'There is no memory for the model "{place.name}" now: it takes {place.bytes / 1e6:,.0f} MB.',
                    "Try again later, or start the server with a larger --max-memory.",
                )

    async def _shrink(self) -> None:
        """Unload models that nobody uses, while they take more than they may."""
        while self._over(0) and await self._unload_one():
            pass

    def _over(self, more: int) -> bool:
        """Whether so many bytes more are too many."""
        return bool(self._memory) and _memory() + more > self._memory

    async def _unload_one(self) -> bool:
        """Unload the model that was used longest ago, of those that nobody uses; False if there is none."""
        idle = [one for one in self._places.values() if one.served is not None and not one.users]
        if idle:
            await self._unload(min(idle, key=lambda one: one.last_used))
        return bool(idle)

    async def _unload(self, place: _Place) -> None:
        assert place.served is not None
        engine, place.served = place.served.engine, None
        await self._apart(engine.close)
        del engine
        await self._apart(_give_back_memory)

    async def _apart(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


def _memory() -> int:
    """Bytes that this process takes."""
    return int(psutil.Process().memory_info().rss)


def weight_bytes(path: Path) -> int:
    """About how much memory a model takes: the bytes of its largest kind of file."""
    if path.is_file():
        return path.stat().st_size
    kinds: dict[str, int] = {}
    for file in (*path.glob("*"), *path.glob("model/*")):
        if file.suffix in (".safetensors", ".gguf", ".onnx", ".data"):
            kinds[file.suffix] = kinds.get(file.suffix, 0) + file.stat().st_size
    return max(kinds.values(), default=0)


def _give_back_memory() -> None:
    """Let the C library return what was freed to the system, where it can."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL("libc.so.6").malloc_trim(0)
