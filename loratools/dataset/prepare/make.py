"""One original to its pieces: upright, on white, cropped, freed of text, enlarged; each file whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from loratools.dataset.detect.boxes import Box, Boxes
from loratools.dataset.detect.framing import framing_class
from loratools.dataset.facts.facts import PictureFacts
from loratools.dataset.images import has_alpha, open_image
from loratools.dataset.prepare.crops import Crop, crops_of, needed_factor
from loratools.dataset.prepare.enlarge import Upscaler, enlarged
from loratools.dataset.prepare.manifest import Entry, Piece
from loratools.dataset.prepare.options import PrepareOptions
from loratools.dataset.prepare.sort import caption_digest
from loratools.dataset.prepare.tags import of_crop, on_white, without_text
from loratools.dataset.prepare.text import mask_of, remove_text
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.tag import Tag
from loratools.dataset.walk import MASKS
from loratools.errors import FileError
from loratools.files import replacing

LANCZOS: Final = "lanczos"
_KEPT_KINDS: Final = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}  # files that may be copied as they are
_ORIENTATION: Final = 0x0112


@dataclass(frozen=True)
class Original:
    """A picture that is to be prepared: where it lies, its tags, its facts, the name of what is made of it, and what
    detectors found in it."""

    path: Path
    picture: Picture
    facts: PictureFacts
    name: str
    boxes: Boxes = field(default_factory=Boxes)


@dataclass(frozen=True)
class Made:
    """What was made of an original: its entry in the manifest, and the pictures with their tags, by class folder."""

    entry: Entry
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True)
class Maker:
    """Makes pieces.

    Attributes:
        out: the folder that holds the classes' folders.
        folders: the name of each class's folder, such as ``1_face``.
    """

    out: Path
    folders: Mapping[str, str]
    options: PrepareOptions
    heads_tall: float | None
    upscaler: Upscaler | None

    def make(self, original: Original) -> Made:
        """Make and write all pieces of one original.

        Raises:
            DatasetError: if it cannot be read.
            FileError: if a piece cannot be written.
            FormatError: if the upscaler fails on it.
        """
        try:
            return self._make(original)
        except OSError as error:
            raise FileError(
                f"what was made of {original.path.name} cannot be written ({error.strerror or error}); make room, and "
                "run the same command again"
            ) from error

    def _make(self, original: Original) -> Made:
        image = open_image(original.path)
        picture, boxes = original.picture, original.boxes
        kind = picture.framing_class or framing_class(image.size, picture.names(), boxes, self.heads_tall).name
        tags = on_white(picture.tags) if original.facts.transparent else picture.tags
        whole = self._piece(original, image, Crop(kind, (0, 0, *image.size), 1.0), boxes.text, tags)
        crops = crops_of(image.size, kind, boxes, self.options, self.heads_tall) if self.options.crops else None
        made = [] if whole is None else [whole]
        counts: dict[str, int] = {}
        for crop in crops.made if crops is not None else ():
            counts[crop.kind] = counts.get(crop.kind, 0) + 1
            part = replace(original, name=f"{original.name}_{crop.kind}{counts[crop.kind]}")
            inside = tuple(box.moved(-crop.box[0], -crop.box[1]).within(crop.size) for box in boxes.text)
            inside = tuple(box for box in inside if box.area > 0)
            seen = of_crop(tags if inside or not boxes.text else without_text(tags), crop.kind)
            piece = self._piece(part, image.crop(crop.box), crop, inside, seen)
            made += [] if piece is None else [piece]
        entry = Entry(
            picture.file, original.facts.digest, "used", size=original.facts.size, caption=caption_digest(picture)
        )
        notes = crops.refused if crops is not None else ()
        if not made:
            factor = needed_factor(image.size, self.options.resolution)
            reason = f"{image.width}x{image.height} would be blown up {factor:.1f} x"
            return Made(replace(entry, outcome="unused", reason=reason, notes=notes))
        pieces = tuple(piece for piece, _ in made)
        return Made(replace(entry, pieces=pieces, notes=notes), tuple(tagged for _, tagged in made))

    def _piece(
        self, original: Original, image: Image.Image, crop: Crop, text: tuple[Box, ...], tags: tuple[Tag, ...]
    ) -> tuple[Piece, Picture] | None:
        """Write one piece; None where it would be enlarged too much."""
        is_whole = crop.size == original.facts.size
        without = remove_text(image, text, self.options.text)
        factor = needed_factor(without.image.size, self.options.resolution)
        if factor > self.options.most_enlarged:
            return None
        changed = not is_whole or original.facts.transparent or factor > 1 or without.image is not image
        folder, stem = self.folders[crop.kind], original.name
        size = (round(without.image.width * factor), round(without.image.height * factor))
        if changed or (suffix := _copied_suffix(original)) is None:
            suffix = ".png"
            result = without.image if factor == 1 else enlarged(without.image, size, self.upscaler)
            _save(result, self.out / folder / f"{stem}{suffix}")
        else:
            _copy(original.path, self.out / folder / f"{stem}{suffix}")
        if without.masked:
            mask = mask_of(without.image.size, without.masked).resize(size, Image.Resampling.NEAREST)
            _save(mask, self.out / MASKS / f"{stem}.png")
        by = "" if factor == 1 else LANCZOS if self.upscaler is None else self.upscaler.name
        kept = without_text(tags) if without.actions else tags
        origin: dict[str, Any] = {**original.picture.origin, "original": original.picture.file}
        if not is_whole:
            origin["crop"] = list(crop.box)
        tagged = replace(
            original.picture, file=f"{folder}/{stem}{suffix}", tags=kept, group="", origin=origin, sentence=""
        )
        if is_whole:
            tagged = replace(tagged, sentence=original.picture.sentence)
        piece = Piece(
            name=f"{stem}{suffix}",
            kind=crop.kind,
            crop=None if is_whole else crop.box,
            factor=round(factor, 3),
            by=by,
            text=without.actions,
            caption=tagged.caption(),
        )
        return piece, tagged


def _copied_suffix(original: Original) -> str | None:
    """The ending of a file that needs no change, and may be copied; None for one that is written anew."""
    if original.facts.animated:
        return None
    with Image.open(original.path) as file:
        plain = file.mode in ("RGB", "L") and not has_alpha(file) and file.getexif().get(_ORIENTATION, 1) == 1
        return _KEPT_KINDS.get(file.format or "") if plain else None


def _save(image: Image.Image, path: Path) -> None:
    with replacing(path, sync=False) as part:
        image.save(part, format="PNG")


def _copy(source: Path, path: Path) -> None:
    with replacing(path, sync=False) as part:
        shutil.copyfile(source, part)
