"""Compiled functions on disk, so that the next start reads in a moment what took the first one most of a minute."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loratools.files import replacing, user_cache

_log = logging.getLogger(__name__)
_MOST = 1 << 30  # bytes kept; what was used longest ago goes first

Compiled = Callable[..., Any]  # tensors -> (output,)


class CompiledStore:
    """Compiled functions by key, in a folder. What cannot be read is made anew; what cannot be written is not kept."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = user_cache("compiled") if folder is None else folder

    def has(self, key: str) -> bool:
        """Whether a function is kept, readable or not."""
        return self._path(key).is_file()

    @property
    def empty(self) -> bool:
        """Whether nothing is kept."""
        return not any(self.folder.glob("*.bin"))

    def get(self, key: str) -> Compiled | None:
        """The function kept under ``key``."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            from torch._inductor.standalone_compile import CompiledArtifact

            loaded: Compiled = CompiledArtifact.load(path=str(path), format="binary")
            os.utime(path)
        except Exception as error:  # of another torch, damaged, or of a machine that cannot run it
            _log.warning("%s cannot be read and is compiled again: %s", path, error, exc_info=True)
            return None
        return loaded

    def put(self, key: str, artifact: Any) -> None:
        """Keep what torch compiled."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._path(key)) as part:
                artifact.save(path=str(part), format="binary")
            self._sweep()
        except Exception as error:  # torch refuses to save some graphs; a full disk is no reason to stop either
            _log.warning("a compiled block is not kept for the next start: %s", error, exc_info=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.bin"

    def _sweep(self) -> None:
        """Drop what was used longest ago beyond ``_MOST`` bytes."""
        files = sorted(((path.stat(), path) for path in self.folder.glob("*.bin")), key=lambda own: -own[0].st_mtime)
        size = 0
        for stat, path in files:
            size += stat.st_size
            if size > _MOST:
                path.unlink(missing_ok=True)
