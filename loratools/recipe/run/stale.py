"""Why a step is to do: what its key was made of when it last ran, against what it is made of now, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.files import sha256
from loratools.recipe.plan.step import Planned
from loratools.recipe.record import Record
from loratools.recipe.run.work_folder import WorkFolder, short_path
from loratools.version import __version__
from loratools.yamlio import Place

_MOST = 12  # changes listed of one step
_LONG = 60  # letters of a value


def explain(planned: Planned, steps: Mapping[str, Planned], folder: WorkFolder) -> list[str]:
    """What changed since ``planned`` last ran in the work folder, a line each; nothing if it is cached.

    A change of an earlier step is followed to what changed there, indented below it.

    Args:
        steps: every step of the plan by name.
    """
    record = folder.record(planned.name)
    if record is None:
        return ["it has not run in this work folder yet"]
    if not folder.same_out(record, planned):
        before = short_path(folder.work / record.out)
        return [f"its result now goes to {short_path(planned.out)}; before it went to {before}"]
    if record.key == planned.key:
        return _same_key(record, planned, folder)
    lines = list(_changes(record, planned, steps, folder))
    if len(lines) > _MOST:
        lines = [*lines[:_MOST], f"and {len(lines) - _MOST} more changes"]
    return lines or ["how a result is named in its header changed"]


def _same_key(record: Record, planned: Planned, folder: WorkFolder) -> list[str]:
    if not record.done:
        return ["it was interrupted; it goes on from there"]
    if folder.fresh(planned) is not None:
        return []
    damaged = [
        name for name, digest in record.files.items() if _digest(planned.out / name if name else planned.out) != digest
    ]
    named = ", ".join(short_path(planned.out / name if name else planned.out) for name in damaged[:3])
    return [
        f"nothing that determines it changed, but {named} {'is' if len(damaged) == 1 else 'are'} gone or not what "
        "was written"
    ]


def _changes(record: Record, planned: Planned, steps: Mapping[str, Planned], folder: WorkFolder) -> Iterator[str]:
    if record.kind != planned.kind:
        yield f"it was a {record.kind} step and is a {planned.kind} step now"
        return
    if record.version != __version__:
        yield f"loratools was {record.version} and is {__version__} now"
    if record.revision != planned.revision:
        yield f"what a {planned.kind} step computes was revised"
    labels = [source.label for source in planned.draft.inputs]
    for place, before, now in differences(record.options, planned.draft.options):
        yield f"{_place(place, labels)}: {_value(before)} -> {_value(now)}"
    yield from _sources(record, planned, steps, folder)


def _sources(record: Record, planned: Planned, steps: Mapping[str, Planned], folder: WorkFolder) -> Iterator[str]:
    before = {source.label: source for source in record.sources}
    now = {source.label: source for source in planned.draft.inputs}
    for label in before.keys() - now.keys():
        yield f"'{label}' is no longer read"
    for label, source in now.items():
        if label not in before:
            yield f"'{label}' is read now"
        elif before[label].digest != source.digest:
            if source.step is None or source.step not in steps:
                yield f"the content of {label} changed"
                continue
            yield f"the step '{source.step}' changed:"
            yield from (f"  {line}" for line in explain(steps[source.step], steps, folder) or ["it has run anew since"])


def differences(before: Any, now: Any, place: Place = ()) -> Iterator[tuple[Place, Any, Any]]:
    """Every leaf of two JSON values that differs: (keys and indices down to it, value before, value now)."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from differences(before.get(key), now.get(key), (*place, key))
    elif _lists(before) and _lists(now) and len(before) == len(now):
        for index, (one, two) in enumerate(zip(before, now, strict=True)):
            yield from differences(one, two, (*place, index))
    elif _plain(before) != _plain(now):
        yield place, before, now


def _place(place: Sequence[str | int], labels: Sequence[str]) -> str:
    """``terms.0.vector.0.1.IN04`` as ``style's vector, IN04``; other places by their keys."""
    match list(place):
        case ["terms", int(term), "vector", _, _, block] if term < len(labels):
            return f"{labels[term]}'s vector, {block}"
        case ["terms", int(term), *rest] if term < len(labels):
            return f"{labels[term]}'s {' '.join(str(part) for part in rest)}"
    return ".".join(str(part) for part in place)


def _value(value: Any) -> str:
    text = "nothing" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONG else f"{text[: _LONG - 3]}..."


def _lists(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _plain(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    return [_plain(item) for item in value] if _lists(value) else value


def _digest(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None
