"""Looks below the roots again and again, and says by events what has changed."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from loratools.errors import FileError
from loratools.files import is_locked
from loratools.studio.discover.lora_files import FactsCache, read_facts
from loratools.studio.discover.picture_folders import FoundPictures, PictureCount, count, picture_folders
from loratools.studio.discover.run_log import RunLog, is_run_log
from loratools.studio.discover.snapshot import FoundBase, FoundFile, FoundLora, FoundRun, Snapshot
from loratools.studio.discover.walk import Stamp, walk
from loratools.studio.events import Events
from loratools.studio.roots import STATE, Roots

_EPOCH = re.compile(r"(?P<name>.+)-(?P<number>\d{6})")
_VERDICT = ".verdict.json"
_STEPS = re.compile(rb"^steps:", re.MULTILINE)
_LONGEST_RECIPE = 1024 * 1024  # bytes
_PAUSE, _BUSY = 1.0, 10.0  # seconds between two looks: at least so many, and at least so many times what one takes
_PUBLISHED = 1.0  # seconds after which the headers read so far are shown
_FAMILY = re.compile(r'"_class_name"\s*:\s*"(?P<name>\w+)"')
_PIPELINES = {"StableDiffusionPipeline": "sd1", "StableDiffusionXLPipeline": "sdxl", "FluxPipeline": "flux"}
_LOG = logging.getLogger(__name__)


class Index:
    """What lies below ``roots``; :attr:`now` is the last look.

    Args:
        events: ``file`` and ``run`` events go there.
    """

    def __init__(self, roots: Roots, events: Events) -> None:
        self._roots, self._events = roots, events
        self._cache = FactsCache(roots.roots[0].path / STATE / "headers.json")
        self._logs: dict[Path, RunLog] = {}
        self._no_logs: dict[Path, Stamp] = {}
        self._recipes: dict[Path, tuple[Stamp, bool]] = {}
        self._running: dict[Path, bool] = {}
        self._now = Snapshot()
        self._looked = threading.Event()
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._wake = threading.Event()

    @property
    def now(self) -> Snapshot:
        """The last look; the first one is waited for, for some seconds at most."""
        self._looked.wait(10)
        return self._now

    def start(self) -> None:
        """Look for changes on a thread, until :meth:`close`."""
        threading.Thread(target=self._watch, name="studio-index", daemon=True).start()

    def close(self) -> None:
        """End the thread."""
        self._ended.set()
        self._wake.set()

    def look_soon(self) -> None:
        """Look at once rather than after the pause: something was just written."""
        self._wake.set()

    def refresh(self) -> Snapshot:
        """Look now."""
        with self._looking:
            self._look()
        return self._now

    def _watch(self) -> None:
        while not self._ended.is_set():
            begun = time.monotonic()
            try:
                self.refresh()
            except Exception:  # a thread that ends in silence would leave the page with what it saw last
                _LOG.exception("while looking through the opened folders")
                self._looked.set()
            self._wake.wait(max(_PAUSE, _BUSY * (time.monotonic() - begun)))
            self._wake.clear()

    def _look(self) -> None:
        counts: dict[Path, PictureCount] = {}

        def on_folder(folder: Path, names: Sequence[str]) -> None:
            if (own := count(folder, names)) is not None:
                counts[folder] = own

        roots = [root.path for root in self._roots.roots]
        stamps = {path: stamp for root in roots for path, stamp in walk(root, self._allowed, on_folder=on_folder)}
        found = _Sorted.of(stamps)
        found.pictures = picture_folders(counts, roots)
        self._read_headers(found, stamps)
        self._publish(found, stamps)
        self._looked.set()
        self._cache.keep_only(found.tensors)
        with contextlib.suppress(FileError):  # on a full disk the headers are read again next time
            self._cache.save()

    def _allowed(self, path: Path) -> bool:
        return self._roots.root_of(path) is not None

    def _read_headers(self, found: _Sorted, stamps: Mapping[Path, Stamp]) -> None:
        """Read headers that are not known; what is known so far is shown from time to time."""
        shown = time.monotonic()
        for path in found.tensors:
            if self._cache.get(path, stamps[path]) is None:
                self._cache.put(path, stamps[path], read_facts(path))
            if time.monotonic() - shown > _PUBLISHED:
                self._publish(found, stamps)
                self._looked.set()
                shown = time.monotonic()
            if self._ended.is_set():
                return

    def _publish(self, found: _Sorted, stamps: Mapping[Path, Stamp]) -> None:
        before = self._now
        runs = self._runs(found, stamps)
        by_epoch = {path: (run.place, number) for run in runs for number, path in run.epochs.items()}
        loras, bases = list[FoundLora](), list[FoundBase]()
        for path in found.tensors:
            facts = self._cache.get(path, stamps[path])
            if facts is None:
                continue
            if facts.kind == "lora":
                place, number = by_epoch.get(path, (None, None))
                loras.append(FoundLora(path, stamps[path], facts, place, number))
            elif facts.kind == "base":
                bases.append(FoundBase(path, stamps[path], facts.family))
        bases += [FoundBase(path.parent, stamps[path], _pipeline(path)) for path in found.folders]
        bases += [FoundBase(path, stamps[path], "unknown") for path in found.pickles]
        grids = [FoundFile(path.parent, stamps[path]) for path in found.grids]
        recipes = [FoundFile(path, stamps[path]) for path in found.yaml if self._is_recipe(path, stamps[path])]
        self._now = Snapshot(loras, bases, runs, grids, recipes, found.pictures, stamps)
        if self._looked.is_set():
            self._tell(before, self._now)

    def _runs(self, found: _Sorted, stamps: Mapping[Path, Stamp]) -> list[FoundRun]:
        """Runs by their logs, and those of other trainers by their numbered files."""
        files: dict[Path, dict[int, Path]] = {}
        for path in found.tensors:
            if match := _EPOCH.fullmatch(path.stem):
                files.setdefault(path.with_name(match["name"]), {})[int(match["number"])] = path
        logs = [path for path in found.logs if self._is_log(path, stamps[path])]
        for gone in self._logs.keys() - set(logs):
            del self._logs[gone]
        runs = [self._logged(path, files.pop(_place(path), {}), stamps) for path in logs]
        for place, epochs in files.items():
            if all((facts := self._cache.get(path, stamps[path])) and facts.kind == "lora" for path in epochs.values()):
                newest = max(stamps[path].mtime_ns for path in epochs.values()) / 1e9
                runs.append(FoundRun(place, None, dict(sorted(epochs.items())), False, newest))
        return sorted(runs, key=lambda run: run.place)

    def _logged(self, path: Path, epochs: Mapping[int, Path], stamps: Mapping[Path, Stamp]) -> FoundRun:
        log = self._logs.setdefault(path, RunLog(path))
        grown = log.refresh()
        place = _place(path)
        if grown or self._running.get(place, True):  # a run that has stopped is not asked again until its log grows
            self._running[place] = not log.finished and is_locked(place)
        return FoundRun(place, log, dict(sorted(epochs.items())), self._running[place], stamps[path].mtime_ns / 1e9)

    def _is_log(self, path: Path, stamp: Stamp) -> bool:
        if path in self._logs:
            return True
        if self._no_logs.get(path) == stamp:
            return False
        if is_run_log(path):
            return True
        self._no_logs[path] = stamp
        return False

    def _is_recipe(self, path: Path, stamp: Stamp) -> bool:
        known = self._recipes.get(path)
        if known is None or known[0] != stamp:
            known = (stamp, _has_steps(path, stamp))
            self._recipes[path] = known
        return known[1]

    def _tell(self, before: Snapshot, now: Snapshot) -> None:
        """Events for what came, changed or went."""
        files = _changed(before.stamps, now.stamps)
        runs = {run.place for run in now.runs if run not in before.runs} | {
            run.place for run in before.runs if run.place not in {own.place for own in now.runs}
        }
        runs |= {_place(path) for path in files if path.name.endswith(_VERDICT) or path.suffix == ".jsonl"}
        known = {run.place for run in (*now.runs, *before.runs)}
        if ids := [self._roots.id_of(place, "run") for place in sorted(runs & known)]:
            self._events.add("run", {"ids": ids})
        shown = [path for path in files if path.suffix != ".jsonl"]
        folders = set(before.pictures) ^ set(now.pictures)
        # a file's header may be read, and the file be shown, long after it was seen
        models = {own.path for own in (*before.loras, *before.bases)} ^ {own.path for own in (*now.loras, *now.bases)}
        shown += sorted(models.difference(shown))
        shown += sorted({own.path for own in folders if own.path.exists()})
        if shown or folders:
            self._events.add("file", {"ids": [self._roots.id_of(path) for path in shown if self._allowed(path)]})


@dataclass
class _Sorted:
    """Paths by what they may be."""

    tensors: list[Path] = field(default_factory=list)
    pickles: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)  # model_index.json
    logs: list[Path] = field(default_factory=list)
    grids: list[Path] = field(default_factory=list)
    yaml: list[Path] = field(default_factory=list)
    pictures: list[FoundPictures] = field(default_factory=list)

    @classmethod
    def of(cls, paths: Iterable[Path]) -> _Sorted:
        """Sort ``paths``; the parts of a Diffusers folder are left out."""
        listed = sorted(paths)
        made = cls(folders=[path for path in listed if path.name == "model_index.json"])
        bases = [path.parent for path in made.folders]
        kinds: dict[str, list[Path]] = {
            ".safetensors": made.tensors,
            ".ckpt": made.pickles,
            ".jsonl": made.logs,
            ".yaml": made.yaml,
            ".yml": made.yaml,
        }
        for path in listed:
            if any(path.is_relative_to(base) for base in bases):
                continue
            if path.name == "grid.json":
                made.grids.append(path)
            elif (kind := kinds.get(path.suffix.lower())) is not None:
                kind.append(path)
        return made


def _place(path: Path) -> Path:
    """``OUT/NAME`` of ``OUT/NAME.jsonl`` or ``OUT/NAME.verdict.json``."""
    return path.with_name(path.name.removesuffix(".jsonl").removesuffix(_VERDICT))


def _has_steps(path: Path, stamp: Stamp) -> bool:
    if stamp.size > _LONGEST_RECIPE:
        return False
    try:
        return _STEPS.search(path.read_bytes()) is not None
    except OSError:
        return False


def _pipeline(path: Path) -> str:
    """The family of a Diffusers folder, by its pipeline's name."""
    try:
        match = _FAMILY.search(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "unknown"
    return _PIPELINES.get(match["name"], "unknown") if match else "unknown"


def _changed(before: Mapping[Path, Stamp], now: Mapping[Path, Stamp]) -> list[Path]:
    return sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path))
