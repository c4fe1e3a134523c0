"""What a tune will do, for a person and as JSON: what is searched and how, its pictures, files, time and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loratools.tune.dry_run.cost import MemoryEstimate, TimeEstimate
from loratools.tune.folder import FolderState
from loratools.tune.problem.request import BLOCKS

_NAMED = 6  # numbers that are named
_STAGES = {
    "base": "the base and the whole LoRA",
    "ladder": "plain strengths",
    "screening": "what each number does",
    "search": "the search itself",
    "check": "checks of its best",
    "descent": "down the gradient",
    "fresh": "fresh ones, by which the answer is chosen",
}
_MEASURES = {
    "judge": "the pocket base's judge, which sees defects, style and tags in a picture",
    "votes": "your choices between two sides, on pages that the tune writes",
    "like": "pictures that you like",
    "unlike": "pictures that you do not like",
    "marks": "stars that you give to pictures",
    "python": "a function of yours, called with the pictures",
    "command": "a program of yours, which is given the pictures",
}


@dataclass(frozen=True)
class Drawing:
    """On what and how pictures are drawn; ``size`` is (width, height) in pixels, ``search`` and ``report`` are steps
    and sampler of their pictures."""

    base: str
    family: str
    device: str
    dtype: str
    size: tuple[int, int]
    batch: int
    search: tuple[int, str]
    report: tuple[int, str]


@dataclass(frozen=True)
class Numbers:
    """What moves: ``names`` of blocks or of kinds of layers, from ``lowest`` to ``highest``; and why these.

    Attributes:
        more: what else moves, in words.
    """

    parts: str
    why: str
    names: tuple[str, ...]
    lowest: float
    highest: float
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompts:
    """Where prompts come from, and how many each part has; ``fresh`` is 0 where it takes the search's own."""

    source: str
    search: int
    fresh: int
    report: int
    seeds: tuple[int, ...]
    report_seeds: tuple[int, ...]


@dataclass(frozen=True)
class Pictures:
    """Pictures at most.

    Attributes:
        stages: of the search by stage; one with its gradient counts for ``gradient_cost``.
        columns: of the report, each of ``held_out`` pictures, of which one counts for ``weight``.
        later: of each way that follows, about.
        there: what earlier runs of the same tune left, in the same count.
    """

    stages: Mapping[str, int]
    gradient_cost: int
    columns: int
    held_out: int
    weight: int
    later: tuple[tuple[str, int], ...]
    there: int

    @property
    def search(self) -> int:
        """Of the whole search."""
        return sum(self.stages.values())

    @property
    def total(self) -> int:
        """Of the search and the report."""
        return self.search + self.columns * self.held_out * self.weight


@dataclass(frozen=True)
class TuneDryRun:
    """A tune before its first picture.

    Attributes:
        tuned: the LoRA whose numbers are searched, with its weight; ``beside`` is what else is in the stack.
        measures: as they are written after ``--measure``.
        asks: what a person is asked to do first, and by how many pictures; empty for nothing.
        keep: share of the style that has to stay.
        method: ``gradient`` or ``pictures``, and ``why``.
        folder: where it writes, ``state`` what it finds there, ``files`` what it leaves there.
        edits: the recipe whose vector is edited at the end; empty for none.
        budget: seconds, where it stops before its end.
        time: None where nothing was measured that tells it.
    """

    tuned: str
    beside: tuple[str, ...]
    symptoms: tuple[str, ...]
    measures: tuple[str, ...]
    asks: str
    keep: float
    method: str
    why: str
    numbers: Numbers
    prompts: Prompts
    drawing: Drawing
    pictures: Pictures
    folder: Path
    state: FolderState
    files: tuple[str, ...]
    edits: str
    budget: float | None
    time: TimeEstimate | None
    memory: MemoryEstimate

    def json(self) -> dict[str, Any]:
        """All of it as JSON values, memory in bytes and time in seconds."""
        facts = asdict(self)
        pictures = {**facts["pictures"], "search": self.pictures.search, "total": self.pictures.total}
        memory = {**facts["memory"], "total": self.memory.total}
        return {**facts, "folder": str(self.folder), "state": self.state.value, "pictures": pictures, "memory": memory}

    def text(self) -> str:
        """For a person: one line a fact."""
        drawing = self.drawing
        width, height = drawing.size
        return "\n".join(
            [
                f"tuned: {self.tuned}, on {drawing.base} ({width}x{height}, {drawing.dtype} on {drawing.device})",
                *(f"beside it: {own}" for own in self.beside),
                f"symptom: {' and '.join(self.symptoms)}",
                *(f"measure: {text}, {_MEASURES[text.partition('=')[0]]}" for text in self.measures),
                *(f"asks first: {own}" for own in [self.asks] if own),
                f"keeps: {100 * self.keep:g} % of the style, and tags and other defects but for noise, as far as the "
                "measure sees them",
                f"method: {self.method} ({self.why})",
                self._numbers_line(),
                *(f"  and {own}" for own in self.numbers.more),
                *self._prompt_lines(),
                *self._picture_lines(),
                self._folder_line(),
                f"writes: {', '.join(self.files)} into {self.folder}",
                *(f"edits: the vector in {own}; `loratools blocks undo` takes it back" for own in [self.edits] if own),
                self._time_line(),
                *self._memory_lines(),
            ]
        )

    def _numbers_line(self) -> str:
        own = self.numbers
        parts = "one for each block" if own.parts == BLOCKS else "one for each kind of layers in a block"
        names = " ".join(own.names[:_NAMED]) + (" ..." if len(own.names) > _NAMED else "")
        return f"moves: {len(own.names)} numbers, {parts} ({own.why}), from {own.lowest:g} to {own.highest:g}: {names}"

    def _prompt_lines(self) -> list[str]:
        own = self.prompts
        chosen = f"{own.fresh} others" if own.fresh else "the same with other seeds"
        return [
            f"prompts: {own.source}",
            f"  {own.search} for the search (seeds {_range(own.seeds)}), {chosen} to choose the answer by",
            f"  {own.report} that neither sees, for the report (seeds {_range(own.report_seeds)})",
        ]

    def _picture_lines(self) -> list[str]:
        own, (coarse, sampler), (fine, fine_sampler) = self.pictures, self.drawing.search, self.drawing.report
        lines = [f"pictures: at most {own.search:,} for the search, by {coarse} steps of {sampler}"]
        for stage, count in own.stages.items():
            drawn = count // own.gradient_cost
            more = f": {drawn:,}, each as long as {own.gradient_cost}" if stage == "descent" else ""
            lines += [f"  {count:,} {_STAGES[stage]}{more}"] if count else []
        each = "" if own.weight == 1 else f", each as long as {own.weight}"
        lines.append(
            f"  then the report: {own.columns} columns of {own.held_out} by {fine} steps of {fine_sampler}{each}"
        )
        return [*lines, *(f"  then {way}, about as long as {count:,} of the search's" for way, count in own.later)]

    def _folder_line(self) -> str:
        match self.state:
            case FolderState.SAME:
                there = f"{self.pictures.there:,} of {self.pictures.total:,} pictures are there"
                return f"folder: {self.folder} holds this tune, which goes on ({there})"
            case FolderState.REPLACED:
                return f"folder: {self.folder} holds another tune, in whose place a new one begins"
        return f"folder: {self.folder} holds no tune; a new one begins"

    def _time_line(self) -> str:
        cut = "" if self.budget is None else f"; it ends with the best so far after {self.budget / 60:.3g} minutes"
        if self.time is None:
            return f"time: nothing is measured for this yet; the tune says it after its first pictures{cut}"
        return f"time: {self.time.text()}{cut}"

    def _memory_lines(self) -> list[str]:
        own, batch = self.memory, self.drawing.batch
        parts = [f"torch {_gib(own.runtime)}", f"weights {_gib(own.weights)}"]
        parts += [] if own.drawing is None else [f"{batch} pictures at once {_gib(own.drawing)}"]
        parts += [] if own.gradient is None else [f"their gradient {_gib(own.gradient)}"]
        about = "within a factor of two"
        if own.drawing is None:
            about = "and more for the pictures, of which it is not known how much they take in this family"
        lines = [f"memory: about {_gib(own.total)} on {self.drawing.device}, {about} ({', '.join(parts)})"]
        if own.free is not None and own.free < own.total:
            lines.append(f"  {_gib(own.free)} are free, so it goes on with fewer pictures at once where they run out")
        if own.gradient is not None and not self.drawing.device.startswith("cpu"):
            steps = self.drawing.search[0]
            lines.append(f"  where more is free, up to {steps} times the gradient's, which is quicker")
        if own.gradient is not None:
            lines.append("  a smaller `batch_size=` or `size=` takes less, and so does `method=pictures`")
        return lines


def _range(seeds: Sequence[int]) -> str:
    """``1`` or ``1-4``; listed where some are left out."""
    first, last = min(seeds), max(seeds)
    if last - first + 1 == len(seeds):
        return str(first) if first == last else f"{first}-{last}"
    return ", ".join(map(str, seeds))


def _gib(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
