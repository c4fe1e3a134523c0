"""The folders of a run as guide 004's classes, and the repeats that fulfil its rules for them.

The search is that of :mod:`loratools.dataset.balance.repeats`; here every class that is neither main pictures nor faces
keeps the relation of its repeats to those of the main pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.balance.repeats import ClassKind, RepeatClass, best_plans, fulfils
from loratools.dataset.folder import folder_repeats
from loratools.train.data.dataset import Dataset


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
    if not classes:
        return None
    others = [each for each in classes if not each.faces]
    both = 0 < len(others) < len(classes)
    main = max(others, key=_main_first) if both else classes[0]

    def kind(each: PictureClass) -> ClassKind:
        return "other" if not both else "main" if each is main else "face" if each.faces else "other"

    asked = [RepeatClass(each.path.name, kind(each), each.images, each.repeats / main.repeats) for each in classes]
    best = best_plans(asked, factor, 1)[0]
    return best.repeats if fulfils(best) else None


def _main_first(each: PictureClass) -> tuple[bool, int, int]:
    """What makes a class the main one: its name, else how many pictures it has."""
    return "main" in each.path.name.lower(), each.images, each.count


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
