"""Where each file's norm lies, block by block: computed once by the measuring process, and kept by the file's stamp."""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from loratools.errors import FileError, LoratoolsError, StudioError
from loratools.files import write_text
from loratools.ops.merging.merge_string import TermSpec
from loratools.studio.discover.walk import Stamp

_FORMAT = 1  # of the kept shares; another one is computed anew
_MOST = 20_000  # files that are kept
_TRIES = 3  # of a question that gave way to newer ones
Shares = Mapping[str, float]


class Measures(Protocol):
    """What computes the shares of a merge string; :class:`.client.Measurer`."""

    def ask(self, stack: str, other: str | None = None) -> Mapping[str, object]: ...


class Norms:
    """Shares of the squared norm by file.

    Args:
        file: where they are kept between two starts of the server.
        measurer: computes them, in a process of its own.
        on_known: called, on this class's thread, with a file whose shares are known from now on.
    """

    def __init__(self, file: Path, measurer: Measures, on_known: Callable[[Path], None]) -> None:
        self._file, self._measurer, self._on_known = file, measurer, on_known
        self._guard = threading.Lock()
        self._known = dict(_load(file))
        self._waiting: queue.SimpleQueue[tuple[Path, Stamp] | None] = queue.SimpleQueue()
        self._wanted: set[tuple[Path, Stamp]] = set()
        self._thread: threading.Thread | None = None
        self._ended = False

    def shares(self, path: Path, stamp: Stamp) -> Shares | None:
        """A file's shares by block; None while they are computed, which begins now. Empty for one that has none."""
        with self._guard:
            known = self._known.get(str(path))
            if known is not None and known[0] == stamp:
                return known[1]
            if (path, stamp) not in self._wanted:
                self._wanted.add((path, stamp))
                self._waiting.put((path, stamp))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="studio-norms", daemon=True)
                self._thread.start()
        return None

    def close(self) -> None:
        """Begin nothing more."""
        self._ended = True
        self._waiting.put(None)

    def _work(self) -> None:
        while (wanted := self._waiting.get()) is not None and not self._ended:
            path, stamp = wanted
            shares = self._measured(path)
            with self._guard:
                self._wanted.discard(wanted)
                if shares is None:
                    continue
                self._known.pop(str(path), None)
                self._known[str(path)] = stamp, shares
                while len(self._known) > _MOST:
                    del self._known[next(iter(self._known))]
            self._save()
            self._on_known(path)

    def _measured(self, path: Path) -> dict[str, float] | None:
        """The shares; empty for a file that cannot be measured, None where the process was busy or ended."""
        for _ in range(_TRIES):
            try:
                answer = self._measurer.ask(TermSpec(str(path)).text())
            except StudioError:  # it gave way to newer questions, or the process ended
                continue
            except LoratoolsError:  # of the file itself, and so for good
                return {}
            shares = answer["shares"]
            return dict(shares) if isinstance(shares, Mapping) else {}
        return None

    def _save(self) -> None:
        with self._guard:
            files = {path: [stamp.mtime_ns, stamp.size, dict(shares)] for path, (stamp, shares) in self._known.items()}
        with contextlib.suppress(FileError):  # on a full disk they are computed again next time
            write_text(self._file, json.dumps({"format": _FORMAT, "files": files}, ensure_ascii=False))


def _load(file: Path) -> Mapping[str, tuple[Stamp, Shares]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            return {}
        return {
            path: (Stamp(int(mtime), int(size)), {str(block): float(share) for block, share in shares.items()})
            for path, (mtime, size, shares) in content["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
