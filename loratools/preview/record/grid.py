"""A grid on disk: ``grid.json`` says what is where, and the sheet and the page are drawn from it alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loratools.base.infotext import LoraUse, number
from loratools.errors import FormatError, did_you_mean
from loratools.preview.record.cells import SamplingSettings

NAME = "grid.json"
_MOST_ASIDE = 6


@dataclass(frozen=True)
class RowInfo:
    """A row as ``grid.json`` keeps it.

    The 0.9 test judges a LoRA over all the rows that show it, since tags in prompts make a row for each weight.

    Args:
        note: free text under the label, such as scores.
        verdict: what the 0.9 test says: a level (``good``, ``under``, ``over``, ``note``) and a line of text.
        of: what the test calls the LoRA: rows of one name are judged together; empty for the row's own label.
        times: what the weight of a picture is multiplied by to get the strength of the LoRA in it. None where one
            number does not tell its strength; such a row is not judged.
    """

    label: str
    digest: str
    provenance: str = ""
    loras: tuple[LoraUse, ...] = ()
    note: str = ""
    verdict: tuple[str, str] | None = None
    of: str = ""
    times: float | None = 1.0

    @property
    def tested(self) -> str:
        """The name under which the 0.9 test judges the row."""
        return self.of or self.label

    @property
    def under(self) -> str:
        """The note and the verdict, as they stand under the label."""
        return "\n".join(text for text in (self.note, self.verdict[1] if self.verdict else "") if text)


@dataclass(frozen=True)
class AxisInfo:
    """An axis as ``grid.json`` keeps it: its name, its values as text, and where it stands.

    ``slot`` is ``x`` (across), ``y`` (down), ``z`` and on (a sub-grid for each value), or empty for what fills a cell.
    """

    name: str
    labels: tuple[str, ...]
    kind: str = ""
    slot: str = ""


@dataclass(frozen=True)
class Picture:
    """One picture: indices into the grid's rows and prompts, and its file below the grid's folder.

    Args:
        at: its place on every axis, and ``base`` that of the base it is compared with; a plain grid's follow from
            the rest.
        settings: where they differ from the grid's.
        model: name and digest of its base model, where the grid has several.
        embeddings: those that its prompts name, with the sha256 of their files.
    """

    row: int
    weight: float
    prompt: int
    seed: int
    file: str
    key: str
    at: tuple[int, ...] = ()
    base: tuple[int, ...] | None = None
    settings: SamplingSettings | None = None
    model: tuple[str, str] | None = None
    embeddings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class PictureScore:
    """One figure of a picture: its name, its text, and its part of the way from 0 to 1 where it is drawn as a strip."""

    name: str
    text: str
    part: float | None = None


@dataclass(frozen=True)
class Grid:
    """All that is known of a rendered grid; ``badges`` are short texts under single cells, by (row, weight).

    A plain grid has rows down and weights across, with prompts and seeds in each cell; every other one has ``axes``.

    Args:
        labels: what a value is called on the sheet and the page, where that is not its own text.
        captions: lines under the sheet.
        scores: figures of pictures, by key.
    """

    owner: str
    title: str
    base: str
    base_digest: str
    compute: str
    rows: tuple[RowInfo, ...]
    weights: tuple[float, ...]
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    settings: SamplingSettings
    pictures: tuple[Picture, ...] = ()
    badges: Mapping[tuple[int, float], str] = field(default_factory=dict)
    axes: tuple[AxisInfo, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    scores: Mapping[str, tuple[PictureScore, ...]] = field(default_factory=dict)

    def called(self, label: str) -> str:
        """What a value is called where it is shown."""
        return self.labels.get(label, label)

    @property
    def shown(self) -> tuple[AxisInfo, ...]:
        """The axes: across, down, and further ones."""
        if self.axes:
            return self.axes
        weights = tuple("base" if weight == 0 else number(weight) for weight in self.weights)
        return (
            AxisInfo("weight", weights, "weight", "x"),
            AxisInfo("adapter", tuple(row.label for row in self.rows), "adapter", "y"),
            AxisInfo("prompt", self.prompts, "prompt"),
            AxisInfo("seed", tuple(str(seed) for seed in self.seeds), "seed"),
        )

    def headed(self, row: RowInfo) -> bool:
        """Whether a row's label, and its verdict under it, stand on an axis."""
        return any(axis.kind == "adapter" and row.label in axis.labels for axis in self.shown)

    @property
    def aside(self) -> tuple[str, ...]:
        """What no axis says of the rows: their verdicts, or the name of the only one."""
        rows = [row for row in self.rows if row.loras and not self.headed(row)]
        verdicts = tuple(dict.fromkeys(f"{row.tested}:  {row.verdict[1]}" for row in rows if row.verdict))
        if len(verdicts) > _MOST_ASIDE:
            return (*verdicts[:_MOST_ASIDE], f"and {len(verdicts) - _MOST_ASIDE} more rows, in {NAME}")
        named = self.title.split(" · ")
        return verdicts or tuple(f"LoRA:  {row.label}" for row in rows if len(rows) == 1 and row.label not in named)

    def place(self, picture: Picture) -> tuple[int, ...]:
        """Where ``picture`` stands on every axis."""
        if self.axes:
            return picture.at
        return (self.weights.index(picture.weight), picture.row, picture.prompt, self.seeds.index(picture.seed))

    def base_place(self, picture: Picture) -> tuple[int, ...] | None:
        """Where the base stands that ``picture`` is compared with, if there is one."""
        if self.axes:
            return picture.base
        return (self.weights.index(0), *self.place(picture)[1:]) if 0 in self.weights else None

    def settings_of(self, picture: Picture) -> SamplingSettings:
        """How ``picture`` was sampled."""
        return picture.settings or self.settings

    def cell(self, row: int, weight: float) -> list[Picture]:
        """The pictures of one cell, prompts before seeds."""
        pictures = [picture for picture in self.pictures if picture.row == row and picture.weight == weight]
        return sorted(pictures, key=lambda picture: (picture.prompt, self.seeds.index(picture.seed)))

    def cells(self) -> Iterator[tuple[int, float]]:
        """Every (row, weight), row by row."""
        return ((row, weight) for row in range(len(self.rows)) for weight in self.weights)

    def relabelled(self, labels: Mapping[str, str]) -> Grid:
        """The same grid with values called otherwise; an empty text gives a value its own name back.

        Raises:
            FormatError: for a value that stands on no axis.
        """
        known = [label for axis in self.shown for label in axis.labels]
        for label in labels:
            if label not in known:
                raise FormatError(
                    f"no axis has a value '{label}'{did_you_mean(label, known)}; values are {', '.join(known[:20])}"
                )
        return replace(self, labels={k: v for k, v in {**self.labels, **labels}.items() if v})

    def annotated(
        self, notes: Mapping[str, str] | None = None, badges: Mapping[tuple[str, float], str] | None = None
    ) -> Grid:
        """The same grid with ``notes`` by row label and ``badges`` by (row label, weight) over those it has."""
        notes, badges = notes or {}, badges or {}
        rows = tuple(replace(row, note=notes.get(row.label, row.note)) for row in self.rows)
        index = {row.label: i for i, row in enumerate(self.rows)}
        _known("notes", notes, index)
        _known("badges", [label for label, _ in badges], index)
        own = {(index[label], weight): text for (label, weight), text in badges.items()}
        return replace(self, rows=rows, badges={**self.badges, **own})


def _known(what: str, given: Mapping[str, str] | Sequence[str], index: Mapping[str, int]) -> None:
    for label in given:
        if label not in index:
            raise FormatError(f"{what} name the row '{label}', which the grid does not have; rows: {', '.join(index)}")
