"""The verdict over a run's epochs as the page shows it: from ``NAME.verdict.json``, in words that have keys."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from loratools.adapter.files.epoch_files import Epoch
from loratools.errors import LoratoolsError
from loratools.studio.api.models import Verdict, VerdictEpoch
from loratools.studio.api.words import Words, english, quoted, words
from loratools.studio.discover.snapshot import FoundRun
from loratools.train.output.recorded_verdict import RecordedVerdict, Staleness, read_verdict

_ORDER = (  # those first that come closest to being taken
    "as good",
    "behind",
    "defects",
    "obeys less",
    "votes",
    "disobeys",
    "repeats itself",
    "copies",
    "breaks",
)
Entry = Mapping[str, Any]


def verdict_of(found: FoundRun) -> tuple[Verdict | None, Words | None]:
    """The verdict beside the run; else what is wrong with it."""
    files = [Epoch(number, path) for number, path in found.epochs.items()]
    if not files:
        return None, None
    try:
        recorded = read_verdict(files)
        if recorded is None:
            return None, None
        content = json.loads(recorded.path.read_text(encoding="utf-8"))
        return _shown(recorded, content, _stale(recorded, files)), None
    except LoratoolsError as error:
        return None, quoted(str(error))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, words("verdict.unreadable", error=str(error))


def _shown(recorded: RecordedVerdict, content: Entry, stale: Words | None) -> Verdict:
    return Verdict(
        epoch=recorded.epoch,
        sentence=recorded.sentence,
        says=[*_clauses(recorded.epoch, content["epochs"]), *_warnings(content)],
        epochs=[_epoch(own) for own in content["epochs"]],
        stale=stale,
    )


def _epoch(own: Entry) -> VerdictEpoch:
    figures = {name: (value.get("mean"), value.get("standard_error")) for name, value in own["figures"].items()}
    return VerdictEpoch(epoch=own["epoch"], figures=figures, note=_reason(own, [own["epoch"]]))


def _clauses(chosen: int, epochs: Sequence[Entry]) -> Iterator[Words]:
    """Why the others are not taken: epochs of one reason together, those first that came closest."""
    others = [own for own in epochs if own["epoch"] != chosen]
    if not others:
        yield words("verdict.only")
    together: dict[tuple[int, str], list[Entry]] = {}
    for own in others:
        place = _ORDER.index(own["why"]) if own["why"] in _ORDER else len(_ORDER)
        together.setdefault((place, str(own.get("decided_by") or own.get("reason"))), []).append(own)
    for _, group in sorted(together.items(), key=lambda item: item[0]):
        yield _reason(group[0], [int(own["epoch"]) for own in group])


def _reason(own: Entry, epochs: Sequence[int]) -> Words:
    """The reason of epochs that share it; of one that has no words, what the verdict wrote."""
    key = f"verdict.{own['why']}"
    if key not in english():
        return quoted(f"{numbers(epochs)}: {own.get('reason', '')}")
    figure = {"figure": str(own.get("decided_by") or "")} if "{figure}" in english()[key] else {}
    return words(key, epochs=numbers(epochs), **figure)


def _warnings(content: Entry) -> Iterator[Words]:
    """What is wrong with the whole run, and what the base itself shows."""
    kinds = content.get("warning_kinds")
    if kinds is None:  # of an earlier version
        yield from map(quoted, [*content.get("warnings", ()), *content.get("notes", ())])
        return
    for own in kinds:
        figure = {"figure": own["figure"]} if own["figure"] else {}
        yield words(f"verdict.{own['kind']}", **figure)
    for own in content["base_defects"]:
        base, chosen = (f"{own[whose]['mean']:.2f}" for whose in ("base", "own"))
        yield words("verdict.base", figure=own["figure"], base=base, own=chosen, epoch=own["epoch"])


def numbers(epochs: Sequence[int]) -> str:
    """``1-4, 7, 9``."""
    ordered = sorted(epochs)
    starts = [ordered[0], *(two for one, two in pairwise(ordered) if two != one + 1)]
    ends = [*(one for one, two in pairwise(ordered) if two != one + 1), ordered[-1]]
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


def _stale(recorded: RecordedVerdict, files: Sequence[Epoch]) -> Words | None:
    """Why the verdict does not hold any more; the files are only hashed again when one has changed."""
    stamps = tuple((own.number, str(own.path), own.path.stat().st_mtime_ns) for own in files)
    why = _stale_of(str(recorded.path), recorded.path.stat().st_mtime_ns, stamps)
    return None if why is None else words(f"verdict.stale.{why.kind}", epoch=why.epoch)


@lru_cache(maxsize=64)
def _stale_of(verdict: str, changed: int, stamps: tuple[tuple[int, str, int], ...]) -> Staleness | None:
    files = [Epoch(number, Path(path)) for number, path, _ in stamps]
    recorded = read_verdict(files)
    return recorded.staleness(files) if recorded is not None else None
