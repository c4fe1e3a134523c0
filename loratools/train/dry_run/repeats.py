"""The repeats that fulfil guide 004's rules for the folders of a run: main pictures, faces, and every other class.

The rules: main pictures x repeats to faces x repeats as 4 to 1; every other class below the faces; the sum of pictures
x repeats times a factor (2 with mirrored copies, 4 without) from 1000 to 2000; and repeats as small as possible.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.folder import folder_repeats
from loratools.train.data.dataset import Dataset

FEWEST, MOST = 1000, 2000  # bounds of the guide's sum
FEWEST_MAIN, MOST_MAIN = 3.0, 5.0  # what still counts as 4 to 1
_MAIN = 4.0
_ALIKE = math.log(1.1)  # a ratio within a tenth of 4 to 1 is as good as any other
_MOST_REPEATS = 500


@dataclass(frozen=True)
class PictureClass:
    """One folder's pictures, as the guide counts them.

    Attributes:
        images: that are trained on; of a folder that several data sets read, the sum over these.
        by_name: the repeats are those of the folder's name.
    """

    path: Path
    images: int
    repeats: int
    by_name: bool

    @property
    def faces(self) -> bool:
        """Whether the folder's name says that it holds faces."""
        return "face" in self.path.name.lower()

    @property
    def count(self) -> int:
        """Images x repeats."""
        return self.images * self.repeats


def picture_classes(dataset: Dataset) -> list[PictureClass]:
    """The classes of a run: its folders but for regularisation images, those shown most often first."""
    classes: dict[Path, PictureClass] = {}
    for folder in dataset.folders:
        if folder.regularisation or not folder.count:
            continue
        before = classes.get(real := folder.path.resolve())
        named = None if folder.options.plain_name or folder.options.repeats else folder_repeats(folder.path)
        images = folder.count + (before.images if before else 0)
        classes[real] = PictureClass(folder.path, images, folder.repeats, named is not None)
    return sorted(classes.values(), key=lambda each: (-each.count, each.path))


def fulfilling(classes: Sequence[PictureClass], factor: float) -> tuple[int, ...] | None:
    """The least repeats of each class that fulfil the rules; None where none do.

    Args:
        factor: of the guide's sum, for one sample.
    """
    plans = _with_faces(classes, factor) if any(each.faces for each in classes) else _without_faces(classes, factor)
    best = min(plans, default=None)
    return best[2] if best else None


def changes(classes: Sequence[PictureClass], plan: Sequence[int]) -> str:
    """What to do for a plan: which folders to rename, and whose repeats to set."""
    renamed, set_to = list[str](), list[str]()
    for each, repeats in zip(classes, plan, strict=True):
        name = each.path.name or str(each.path)
        number = folder_repeats(each.path) if each.by_name else None
        if repeats != each.repeats and number is not None:
            renamed.append(f"{number.repeats}_{number.word} to {repeats}_{number.word}")
        elif repeats != each.repeats:
            set_to.append(f"of {name} to {repeats}")
    parts = [("rename ", renamed), ("set the repeats ", set_to)]
    return " and ".join(f"{verb}{_listed(names)}" for verb, names in parts if names)


def _listed(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


_Plan = tuple[float, int, tuple[int, ...]]  # how far from 4 to 1, sum of the repeats, the repeats


def _with_faces(classes: Sequence[PictureClass], factor: float) -> Iterator[_Plan]:
    others = [each for each in classes if not each.faces]
    faces = sum(each.images for each in classes if each.faces)
    if not others:
        yield from _without_faces(classes, factor)
        return
    main = max(others, key=lambda each: ("main" in each.path.name.lower(), each.images, each.count))
    for of_main in range(1, min(_MOST_REPEATS, int(MOST / factor / main.images)) + 1):
        shown = main.images * of_main
        for of_faces in range(max(math.ceil(shown / MOST_MAIN / faces), 1), int(shown / FEWEST_MAIN / faces) + 1):
            off = abs(math.log(shown / (faces * of_faces) / _MAIN))
            plan = tuple(_repeats(each, main, of_main, of_faces, faces) for each in classes)
            below = all(
                each.images * repeats <= faces * of_faces
                for each, repeats in zip(classes, plan, strict=True)
                if each is not main
            )
            if below and _in_bounds(classes, plan, factor):
                yield (0.0 if off <= _ALIKE else off, sum(plan), plan)


def _repeats(each: PictureClass, main: PictureClass, of_main: int, of_faces: int, faces: int) -> int:
    """The repeats of a class; of one that is neither they keep their relation to the main class's, if faces allow it.

    Args:
        faces: how many pictures of faces there are.
    """
    if each is main:
        return of_main
    if each.faces:
        return of_faces
    return max(min(round(each.repeats * of_main / main.repeats), faces * of_faces // each.images), 1)


def _without_faces(classes: Sequence[PictureClass], factor: float) -> Iterator[_Plan]:
    """Repeats in the same relation to each other as now."""
    for number in range(1, _MOST_REPEATS + 1):
        plan = tuple(max(round(each.repeats * number / classes[0].repeats), 1) for each in classes)
        if _in_bounds(classes, plan, factor):
            yield (0.0, sum(plan), plan)


def _in_bounds(classes: Sequence[PictureClass], plan: Sequence[int], factor: float) -> bool:
    total = sum(each.images * repeats for each, repeats in zip(classes, plan, strict=True))
    return FEWEST <= factor * total <= MOST
