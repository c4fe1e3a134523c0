"""An arrangement on one base -> jobs: the picture of every place, its key, its file, and the texts inside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.base.model import LoadedBase
from loratools.base.prompt.embeddings import Embeddings
from loratools.base.prompt.prompt_encoding import PromptEncoder, used_embeddings
from loratools.errors import PromptError
from loratools.preview.plan.jobs import GridJob, PictureFile, Stack, content_keys_of
from loratools.preview.plan.resolve import ResolvedPicture, RowResolver
from loratools.preview.record.cells import Cell, SamplingSettings, cell_path, folder_names
from loratools.preview.record.grid import Picture, RowInfo
from loratools.preview.request.arrange import Arrangement
from loratools.preview.request.axes import Axis
from loratools.preview.request.setting import CellSetting

_IN_PATH = ("adapter", "weight", "vector", "block", "te", "unet", "prompt", "s/r", "seed")


@dataclass(frozen=True)
class PlannedPicture:
    """One place of an arrangement on one base: where it stands, what is added there, and how it is sampled.

    ``embeddings`` are those that its prompts name, with the sha256 of their files.
    """

    at: tuple[int, ...]
    base: tuple[int, ...] | None
    setting: CellSetting
    resolved: ResolvedPicture
    settings: SamplingSettings
    embeddings: tuple[tuple[str, str], ...] = ()


class PlannedPictures:
    """All pictures that an arrangement asks of one base, before anything is rendered.

    Args:
        resolver: opens the rows; shared by all bases of a grid.
        name: of the base on an axis of base models, whose places are meant; empty where there is no such axis.
        embeddings: of this base, which prompts may name.
    Raises:
        GridError, PromptError, BlockError, FileError: what is wrong with a place.
    """

    def __init__(
        self,
        base: LoadedBase,
        arrangement: Arrangement,
        resolver: RowResolver,
        name: str = "",
        embeddings: Embeddings | None = None,
    ) -> None:
        self.encode = PromptEncoder(embeddings)
        self._named: dict[tuple[str, str, int], tuple[tuple[str, str], ...]] = {}
        self.model, self.arrangement, self._drawn_by = (base.name, base.digest), arrangement, base.drawn_by
        self.places = [
            self._place(base, at, setting, resolver) for at, setting in _in_rows(arrangement) if setting.base == name
        ]
        self.rows = resolver.rows
        self.infos = resolver.infos()
        self.prompts = tuple(dict.fromkeys(place.resolved.prompt for place in self.places))

    def _place(
        self, base: LoadedBase, at: tuple[int, ...], setting: CellSetting, resolver: RowResolver
    ) -> PlannedPicture:
        resolved, settings = resolver.resolve(setting), settings_on(base, setting)
        texts = resolved.prompt, settings.negative, settings.steps
        for text in texts[:2]:
            base.check_prompt(text)
        if texts not in self._named:
            self._named[texts] = self._embeddings(*texts)
        return PlannedPicture(at, self.arrangement.base_of(at), setting, resolved, settings, self._named[texts])

    def _embeddings(self, prompt: str, negative: str, steps: int) -> tuple[tuple[str, str], ...]:
        known = self.encode.embeddings
        return (
            tuple((one.name, one.digest) for one in used_embeddings((prompt, negative), steps, known)) if known else ()
        )

    @property
    def plain(self) -> bool:
        """Whether rows, weights, prompts and seeds alone say where each picture stands, with the base in front."""
        axes = self.arrangement.axes
        kinds = [(axis.kind, axis.term, axis.slot) for axis in axes]
        usual = [("weight", "", "x"), ("adapter", "", "y"), ("prompt", "", ""), ("seed", "", "")]
        return (
            kinds == usual
            and 0 in axes[0].values
            and all(
                (place.resolved.row, place.resolved.weight, self.prompts.index(place.resolved.prompt))
                == (place.at[1], place.setting.weight, place.at[2])
                for place in self.places
            )
        )

    @property
    def stacks(self) -> list[Stack]:
        """Each row's deltas, to be checked against the base."""
        used = dict.fromkeys(place.resolved.row for place in self.places)
        return [Stack(self.rows[row].deltas) for row in used]

    def jobs(self, out: Path, compute: str) -> tuple[list[GridJob], list[GridJob]]:
        """The distinct pictures, and for every place the one that it shows."""
        names = folder_names([row.label for row in self.rows])
        content_keys = [content_keys_of(row.deltas) for row in self.rows]
        distinct: dict[str, GridJob] = {}
        taken: set[Path] = set()
        shown = []
        for place in self.places:
            info, resolved = self.infos[place.resolved.row], place.resolved
            weight = resolved.weight if info.digest else 0.0
            digests = tuple(digest for _, digest in place.embeddings)
            cell = Cell(info.digest, weight, resolved.prompt, place.setting.seed, digests)
            key = cell.key(place.settings, self._drawn_by, compute)
            if key not in distinct:
                path = self._path(out, place, names[resolved.row] if weight else "base", weight, taken)
                stack = Stack(self.rows[resolved.row].deltas, weight, info.digest, content_keys[resolved.row])
                distinct[key] = self._job(place, stack, info, path, key)
            shown.append(distinct[key])
        return list(distinct.values()), shown

    def pictures(
        self, out: Path, shown: Sequence[GridJob], prompts: Sequence[str], common: SamplingSettings
    ) -> Iterator[Picture]:
        """The record of every place, in the order of the places."""
        several = any(axis.kind == "base" for axis in self.arrangement.axes)
        for place, job in zip(self.places, shown, strict=True):
            file = job.file.path.relative_to(out).as_posix()
            yield Picture(
                row=place.resolved.row,
                weight=place.resolved.weight,
                prompt=prompts.index(place.resolved.prompt),
                seed=place.setting.seed,
                file=file,
                key=job.file.key,
                at=place.at,
                base=place.base,
                settings=place.settings if place.settings != common else None,
                model=self.model if several else None,
                embeddings=place.embeddings,
            )

    def _job(self, place: PlannedPicture, stack: Stack, info: RowInfo, path: Path, key: str) -> GridJob:
        settings, seed, prompt = place.settings, place.setting.seed, place.resolved.prompt
        loras = info.loras if stack.weight else ()
        text = settings.infotext(prompt, seed, self.model, loras, stack.weight, place.embeddings)
        made = {
            "key": key,
            "base": self.model[1],
            "row": info.label if stack.weight else "",
            "weight": stack.weight,
            "adapter": info.digest if stack.weight else "",
            "provenance": info.provenance if stack.weight else "",
        }
        return GridJob(stack, prompt, seed, settings, PictureFile(path, key, text, made))

    def _path(self, out: Path, place: PlannedPicture, folder: str, weight: float, taken: set[Path]) -> Path:
        """A name that says what the picture is; a counter parts those that would be called the same."""
        prompt = self.prompts.index(place.resolved.prompt) + 1
        extra = "".join(
            f"_{_slug(axis, index)}"
            for axis, index in zip(self.arrangement.axes, place.at, strict=True)
            if axis.kind not in _IN_PATH and len(axis.values) > 1
        )
        plain = out / cell_path(folder, weight, prompt, place.setting.seed)
        path, copy = plain.with_name(f"{plain.stem}{extra}.png"), 2
        while path in taken:
            path, copy = plain.with_name(f"{plain.stem}{extra}-{copy}.png"), copy + 1
        taken.add(path)
        return path


def settings_on(base: LoadedBase, setting: CellSetting) -> SamplingSettings:
    """How a setting is sampled on ``base``, with the base's own values where it leaves them open.

    Raises:
        GridError: for a size that does not fit the base, no steps, or an unknown sampler.
    """
    own = base.defaults
    settings = SamplingSettings(
        steps=own.steps if setting.steps is None else setting.steps,
        cfg=own.cfg if setting.cfg is None else setting.cfg,
        sampler=setting.sampler or own.sampler,
        size=setting.size or base.resolution,
        negative=setting.negative,
        clip_skip=setting.clip_skip,
        noise=setting.noise,
        frames=own.frames if setting.frames is None else setting.frames,
    )
    base.check_settings(settings)
    return settings


def title_of(base: str, arrangement: Arrangement, settings: SamplingSettings) -> str:
    """What all pictures of a grid have in common, for over the sheet."""
    varied = {axis.kind for axis in arrangement.axes if len(axis.values) > 1}
    height, width = settings.size
    only = arrangement.start.row if not any(axis.kind == "adapter" for axis in arrangement.axes) else None
    parts = {
        "base": base,
        **({"row": only.label} if only else {}),
        "sampler": settings.sampler,
        "steps": f"{settings.steps} steps",
        "cfg": f"CFG {settings.cfg:g}",
        "size": f"{width}x{height}",
    }
    return " · ".join(text for kind, text in parts.items() if kind not in varied)


def _in_rows(arrangement: Arrangement) -> list[tuple[tuple[int, ...], CellSetting]]:
    """Every place, row by row."""
    if not all(axis.values for axis in arrangement.axes if axis.kind == "prompt"):
        raise PromptError("there is no prompt; give at least one")
    return sorted(arrangement.places(), key=lambda place: (place[0][1:2], place[0][:1], place[0][2:]))


def _slug(axis: Axis, index: int) -> str:
    if axis.kind in ("negative", "base"):
        return f"{axis.kind}{index + 1}"
    return re.sub(r"[^\w.+-]+", "_", f"{axis.kind.split()[0]}{axis.label(index)}")
