"""The classes of pictures in a dataset folder: its numbered folders, each main pictures, faces, variants or others."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.balance.repeats import ClassKind, RepeatClass
from loratools.dataset.facts.measure import side_by_side
from loratools.dataset.folder import folder_repeats
from loratools.dataset.images import is_grey
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.tags.vocabulary import ASYMMETRIC, FACE, MAIN, MONOCHROME, VARIANTS
from loratools.errors import DatasetError, OptionError, did_you_mean
from loratools.progress import OnProgress, counted

KINDS: tuple[ClassKind, ...] = ("main", "face", "variants", "other")


@dataclass(frozen=True)
class ImageClass:
    """The pictures of one class.

    Attributes:
        word: its name, ``main`` of ``10_main``.
        folder: that its pictures lie in; None where they lie in several.
        repeats: by the folder's name, 1 where it says nothing.
        groups: pictures that are variants of one another; each other picture is a group of its own.
        grey: how many are without colour.
    """

    word: str
    kind: ClassKind
    folder: Path | None
    repeats: int
    pictures: tuple[Picture, ...]
    groups: tuple[tuple[Picture, ...], ...]
    grey: int = 0

    @property
    def group_size(self) -> int:
        """Pictures in the largest group."""
        return max(len(group) for group in self.groups)

    @property
    def uneven(self) -> bool:
        """Whether groups of variants are of different sizes."""
        return self.kind == "variants" and len({len(group) for group in self.groups}) > 1

    def filled(self) -> tuple[tuple[Picture, int], ...]:
        """Its pictures, each with a number: 1 and on are copies that fill its group up to the largest one."""
        if self.kind != "variants":
            return tuple((picture, 0) for picture in self.pictures)
        size = self.group_size
        return tuple((group[place % len(group)], place // len(group)) for group in self.groups for place in range(size))

    def repeat_class(self, *, filled: bool, even: bool = False) -> RepeatClass:
        """What the search for repeats knows of it.

        Args:
            filled: whether groups of variants are filled up with copies.
            even: each of its pictures is to be shown as often as a main one, as far as the rules allow.
        """
        if self.kind != "variants":
            relation = 1.0 if even and self.kind == "other" else None
            return RepeatClass(self.word, self.kind, len(self.pictures), relation, self.grey)
        images = len(self.filled()) if filled else len(self.pictures)
        size = self.group_size if filled else len(self.pictures) / len(self.groups)
        return RepeatClass(self.word, self.kind, images, 1 / size, self.grey)


def read_classes(
    folder: DatasetFolder, kinds: Mapping[str, ClassKind] | None = None, on_progress: OnProgress | None = None
) -> tuple[ImageClass, ...]:
    """The classes of a folder, main pictures first.

    Pictures in a numbered folder are of the class that its name says, others of that of the folder that they lie in.
    What is called after faces holds faces, what ends in ``_variants`` variants; ``main``, or else the largest of the
    others, the main pictures.

    Args:
        kinds: instead of what names say.
        on_progress: of pictures that are looked at for colour.
    Raises:
        DatasetError: if there are no pictures.
        OptionError: if ``kinds`` names a class that is not there.
    """
    by_word: dict[str, list[Picture]] = defaultdict(list)
    for picture in folder.pictures():
        by_word[picture.numbered_word or picture.file.rpartition("/")[0].rpartition("/")[2]].append(picture)
    if not by_word:
        raise DatasetError(f"{folder.folder} holds no pictures; name the folder that `prepare` wrote, or another one")
    own = folder.folder.name
    named = {
        word or (named_.word if (named_ := folder_repeats(folder.folder)) else own): pictures
        for word, pictures in by_word.items()
    }
    for word in kinds or {}:
        if word not in named:
            raise OptionError(f"there is no class '{word}'{did_you_mean(word, named)}; there are {', '.join(named)}")
    of = _kinds(named, kinds or {})
    grey = _grey(folder, [picture for pictures in named.values() for picture in pictures], on_progress)
    classes = [_class(folder, word, of[word], pictures, grey) for word, pictures in named.items()]
    return tuple(sorted(classes, key=lambda each: (KINDS.index(each.kind), each.word)))


def asymmetric_tags(classes: Sequence[ImageClass]) -> dict[str, int]:
    """How many pictures have each tag that a mirrored copy makes untrue."""
    names = (name for each in classes for picture in each.pictures for name in picture.names() & ASYMMETRIC)
    return dict(sorted(Counter(names).items(), key=lambda item: (-item[1], item[0])))


def _class(
    folder: DatasetFolder, word: str, kind: ClassKind, pictures: Sequence[Picture], grey: Collection[str]
) -> ImageClass:
    places = {folder.path_of(picture).parent for picture in pictures}
    place = next(iter(places)) if len(places) == 1 else None
    number = None if place is None else folder_repeats(place)
    groups: dict[str, list[Picture]] = defaultdict(list)
    for picture in pictures:
        groups[picture.group or f"/{picture.file}"].append(picture)
    return ImageClass(
        word,
        kind,
        place,
        number.repeats if number else 1,
        tuple(pictures),
        tuple(tuple(group) for group in groups.values()),
        sum(picture.file in grey for picture in pictures),
    )


def _kinds(named: Mapping[str, Sequence[Picture]], given: Mapping[str, ClassKind]) -> dict[str, ClassKind]:
    kinds: dict[str, ClassKind] = dict(given)
    for word in named:
        if word not in kinds and word.lower().endswith(VARIANTS):
            kinds[word] = "variants"
        elif word not in kinds and FACE in word.lower():
            kinds[word] = "face"
    rest = [word for word in named if word not in kinds]
    if rest and "main" not in kinds.values():
        largest = max(rest, key=lambda word: (MAIN in word.lower(), len(named[word])))
        kinds[largest] = "main"
    return {word: kinds.get(word, "other") for word in named}


def _grey(folder: DatasetFolder, pictures: Sequence[Picture], on_progress: OnProgress | None) -> set[str]:
    """The files of pictures without colour, by their tags or else by their pixels; one that cannot be read counts as
    one with colour, since whoever trains on it says so."""
    grey = {picture.file for picture in pictures if picture.names() & MONOCHROME}
    paths = {folder.path_of(picture): picture.file for picture in pictures if picture.file not in grey}
    for path, answer in counted(side_by_side(is_grey, paths), len(paths), on_progress):
        if answer is True:
            grey.add(paths[path])
    return grey
