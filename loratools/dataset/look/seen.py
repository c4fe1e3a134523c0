"""Everything that is known of a folder's pictures, gathered once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loratools.dataset.detect.boxes import Boxes
from loratools.dataset.detect.detectors import Detectors
from loratools.dataset.detect.framing import FramingClass, framing_class, usual_heads_tall
from loratools.dataset.facts.facts import PictureFacts
from loratools.dataset.facts.measure import measure, side_by_side
from loratools.dataset.images import open_image
from loratools.dataset.sidecars.read import FolderTags, read_folder
from loratools.dataset.similar.groups import Groups, find_groups
from loratools.dataset.similar.pairs import find_pairs
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.walk import Below, files_below
from loratools.errors import LoratoolsError
from loratools.progress import OnProgress, part_of

_SAME_RATIO = 0.045


@dataclass(frozen=True)
class SeenPicture:
    """One picture that can be read.

    Attributes:
        picture: its tags and where it is from.
        boxes: what detectors found; None where none looked.
        framing: its class.
    """

    path: Path
    picture: Picture
    facts: PictureFacts
    boxes: Boxes | None
    framing: FramingClass

    @property
    def file(self) -> str:
        """Its path in the dataset folder."""
        return self.picture.file


@dataclass(frozen=True)
class SeenFolder:
    """A folder's pictures.

    Attributes:
        groups: of copies and variants, by index of ``pictures``.
        refused: pictures that cannot be read, with the reason, by file.
        tags: what the sidecars say, and what is wrong with them.
        below: all files.
        detectors: what found the boxes, in words.
        notes: what of the boxes by hand is not used, a sentence each.
    """

    folder: DatasetFolder
    pictures: tuple[SeenPicture, ...]
    groups: Groups
    refused: Mapping[str, str]
    tags: FolderTags
    below: Below
    detectors: tuple[str, ...]
    notes: tuple[str, ...] = ()

    def files(self, group: Sequence[int]) -> list[str]:
        """The files of a group."""
        return [self.pictures[index].file for index in group]


def see(folder: DatasetFolder, detectors: Detectors, on_progress: OnProgress | None = None) -> SeenFolder:
    """Read every picture and sidecar of a folder, and compare them.

    Raises:
        DatasetError: if the folder or its record cannot be read.
    """
    below = files_below(folder.folder)
    parts = 3 if detectors else 2
    count = max(len(below.pictures), 1)
    tags = read_folder(folder, below=below, on_progress=part_of(on_progress, 0, parts, count))
    measured = measure(below.pictures, part_of(on_progress, 1, parts, count))
    by_file = {picture.file: picture for picture in tags.pictures}
    found = find_boxes(folder, list(measured.facts), detectors, part_of(on_progress, 2, parts, count))
    refused = {folder.file_of(path): reason for path, reason in {**measured.refused, **found.refused}.items()}
    pictures = []
    heads_tall = usual_heads_tall((measured.facts[path].size, boxes) for path, boxes in found.boxes.items())
    for path, facts in measured.facts.items():
        if path in found.refused:
            continue
        picture = by_file[folder.file_of(path)]
        boxes = found.boxes.get(path)
        framing = _framing(picture, facts, boxes, heads_tall)
        pictures.append(SeenPicture(path, picture, facts, boxes, framing))
    groups = group_pictures([(one.picture, one.facts) for one in pictures])
    notes = detectors.notes(by_file)
    return SeenFolder(folder, tuple(pictures), groups, refused, tags, below, detectors.names, notes)


@dataclass(frozen=True)
class FoundBoxes:
    """``boxes`` by path, of pictures that detectors looked at; ``refused``: those that could not be shown to them."""

    boxes: Mapping[Path, Boxes]
    refused: Mapping[Path, str]


def find_boxes(
    folder: DatasetFolder, paths: Sequence[Path], detectors: Detectors, on_progress: OnProgress | None = None
) -> FoundBoxes:
    """Show pictures to detectors."""
    boxes: dict[Path, Boxes] = {}
    refused: dict[Path, str] = {}
    if not detectors:
        return FoundBoxes(boxes, refused)

    def look(path: Path) -> Boxes:
        return detectors.boxes(folder.file_of(path), open_image(path))

    for done, (path, result) in enumerate(side_by_side(look, paths), 1):
        if isinstance(result, LoratoolsError):
            refused[path] = str(result)
        else:
            boxes[path] = result
        if on_progress is not None:
            on_progress(done, len(paths))
    return FoundBoxes(boxes, refused)


def group_pictures(pictures: Sequence[tuple[Picture, PictureFacts]], since: int = 0) -> Groups:
    """Copies and variants among pictures; of copies the largest comes first, and then the first.

    Args:
        since: of copies, pictures before this index come before all others, whatever their size.
    """
    facts = [one for _, one in pictures]
    pairs = find_pairs([one.small_print for one in facts], [one.ratio for one in facts])
    order = sorted(range(len(pictures)), key=lambda index: (index >= since, -facts[index].pixels, index))
    rank = {index: place for place, index in enumerate(order)}
    return find_groups(len(pictures), pairs, _sites(pictures), [rank[index] for index in range(len(pictures))])


def _sites(pictures: Sequence[tuple[Picture, PictureFacts]]) -> dict[int, str]:
    """The group that a site names for each picture; of a group with several ratios, as pages of a comic have, each
    ratio is a group of its own."""
    groups: dict[int, str] = {}
    ratios: dict[str, list[float]] = {}
    for index, (picture, facts) in enumerate(pictures):
        if not picture.group:
            continue
        known = ratios.setdefault(picture.group, [])
        alike = next((place for place, ratio in enumerate(known) if abs(facts.ratio / ratio - 1) < _SAME_RATIO), None)
        if alike is None:
            known.append(facts.ratio)
            alike = len(known) - 1
        groups[index] = picture.group if alike == 0 else f"{picture.group}/{alike + 1}"
    return groups


def _framing(picture: Picture, facts: PictureFacts, boxes: Boxes | None, heads_tall: float | None) -> FramingClass:
    if picture.framing_class:
        return FramingClass(picture.framing_class, "folder")
    return framing_class(facts.size, picture.names(), boxes, heads_tall)
