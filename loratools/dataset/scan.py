"""Finding a run's images and captions: every folder, file and caption is opened and checked before training."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from loratools.dataset import caption_files
from loratools.dataset.caption_files import Uncaptioned, find_captions, refuse_uncaptioned
from loratools.dataset.caption_metadata import Captions, find_listed, read_captions
from loratools.dataset.captions import CaptionRules
from loratools.dataset.held_out import hold_out
from loratools.dataset.images import has_alpha, unreadable
from loratools.errors import DatasetError
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Subset
from loratools.train.data.buckets import Size, bucket_of, bucket_sizes
from loratools.train.data.dataset import Dataset, Folder, Item, make_parts

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
_REPEATED = re.compile(r"(\d+)_(.*)")
_RULES = {  # CaptionRules' field -> the setting
    "shuffle": "shuffle_tags",
    "keep": "keep_tokens",
    "dropout": "caption_dropout",
    "tag_dropout": "tag_dropout",
    "prefix": "caption_prefix",
    "suffix": "caption_suffix",
    "separator": "caption_separator",
    "keep_separator": "keep_tokens_separator",
    "secondary_separator": "secondary_separator",
    "wildcards": "wildcards",
    "dropout_every": "caption_dropout_every",
    "warmup_min": "token_warmup_min",
    "warmup": "token_warmup",
}


def read_dataset(config: TrainConfig, resolution: Size) -> Dataset:
    """Find, open and check every image and caption; ``resolution`` (width, height) is used where config has none.

    Raises:
        DatasetError: naming the folder without images, the image that cannot be read, or up to ten images whose caption
            is missing or empty.
    """
    notes: list[str] = []
    folders = [
        folder
        for part, data_set in enumerate(config.parts())
        for subset in data_set.images
        for folder in _folders(subset, config, part, notes)
    ]
    parts = make_parts(config, resolution)
    sizes = [bucket_sizes(part.rules) for part in parts]
    items: list[Item] = []
    missing: list[Uncaptioned] = []
    for index, folder in enumerate(folders):
        paths, listed = _listed(folder)
        folders[index], captions, bare = find_captions(folder, paths, listed, _word(folder), notes)
        missing += bare
        opaque = folder.alpha_mask
        for path, caption in zip(paths, captions, strict=True):
            size, digest, transparent = _look(path)
            bucket = bucket_of(size, parts[folder.part].rules, sizes[folder.part])
            items.append(Item(path, caption, index, size, bucket, digest, _mask_of(path, folder)))
            opaque &= not transparent
        if opaque:
            notes.append(f"no image in {folder.path} has an alpha channel, so that alpha_mask leaves nothing out")
    if not config.allow_uncaptioned:
        refuse_uncaptioned(missing)
    items, folders = hold_out(items, folders, config, notes)
    for part in range(len(parts)):
        own = {index for index, folder in enumerate(folders) if folder.part == part}
        _note_surplus([item for item in items if item.folder in own], folders, notes)
    return Dataset(
        tuple(items),
        tuple(folders),
        parts,
        _digest(items, folders, config),
        tuple(notes),
        latent_folder(config),
        config.prior_loss_weight,
        config.epochs,
    )


def _note_surplus(items: Sequence[Item], folders: Sequence[Folder], notes: list[str]) -> None:
    """Of one data set's items."""
    trained = [folders[item.folder] for item in items if not item.held_out]
    prior = sum(folder.regularisation for folder in trained)
    wanted = sum(folder.repeats for folder in trained if not folder.regularisation)
    if not wanted:
        what = "holds regularisation images" if prior else "is held out"
        raise DatasetError(f"every folder of a data set {what}, so there is nothing to learn; name one to train on")
    if prior > wanted:
        notes.append(f"{prior - wanted} of {prior} regularisation images are not used: an epoch has {wanted} others")


def _mask_of(path: Path, folder: Folder) -> Path | None:
    """The mask of an image, by its name in the folder's ``mask_folder``."""
    if folder.mask_folder is None:
        return None
    for extension in (path.suffix, *sorted(EXTENSIONS)):
        if (found := folder.mask_folder / f"{path.stem}{extension}").is_file():
            return found
    raise DatasetError(
        f"{path} has no mask in {folder.mask_folder}; put {path.stem}.png there, white where the picture is learnt"
    )


def latent_folder(config: TrainConfig) -> Path | None:
    """Where latents are kept from run to run: ``cache_dir``, or beside the epoch files; None without ``disk``."""
    return (config.cache_dir or config.out / "latents") if config.cache_latents == "disk" else None


def _folders(subset: Subset, config: TrainConfig, part: int, notes: list[str]) -> Iterator[Folder]:
    """The folder itself where it holds images, and its ``N_name`` folders."""
    root = subset.folder
    if subset.lists_images:
        yield _folder(root, subset, config, part)
        return
    if not root.is_dir():
        raise DatasetError(f"there is no folder {root}; --images names a folder of images with a .txt beside each")
    inside = sorted(path for path in root.iterdir() if path.is_dir() and _images(path))
    numbered = [] if subset.plain_name else [path for path in inside if _REPEATED.fullmatch(path.name)]
    for path in inside:
        if path not in numbered and not subset.plain_name:
            notes.append(f"{path} is left out: only folders named like 10_{path.name} (10 repeats) are read")
    if not _images(root) and not numbered:
        hint = f"; its folder {inside[0].name} has some, rename it to 1_{inside[0].name}" if inside else ""
        raise DatasetError(f"{root} holds no images ({', '.join(sorted(EXTENSIONS))}){hint or '; put some there'}")
    if _images(root):
        yield _folder(root, subset, config, part)
    for path in numbered:
        yield _folder(path, subset, config, part)


def _folder(path: Path, subset: Subset, config: TrainConfig, part: int) -> Folder:
    named = None if subset.plain_name or subset.lists_images else _REPEATED.fullmatch(path.resolve().name)
    repeats = subset.repeats or (int(named[1]) if named else config.repeats)
    if repeats < 1:
        raise DatasetError(f"{path} asks for 0 repeats; rename it, or take it out of the images")

    def own(name: str) -> Any:
        value = getattr(subset, name)
        return getattr(config, name) if value is None else value

    rules = CaptionRules(**{ours: own(setting) for ours, setting in _RULES.items()})
    extension = own("caption_extension")
    extensions = (str(extension),) if extension else caption_files.EXTENSIONS
    return Folder(path, repeats, rules, bool(own("flip")), subset.class_tokens, extensions,
                  metadata_file=subset.metadata_file, regularisation=subset.regularisation,
                  random_crop=own("random_crop"), color_aug=own("color_aug"),
                  interpolation=own("resize_interpolation"), part=part, alpha_mask=own("alpha_mask"),
                  mask_folder=subset.mask_folder, split=_split(subset, own("validation_split")))  # fmt: skip


def _word(folder: Folder) -> str:
    """What the name of a folder such as ``10_ink`` says is in its images."""
    named = _REPEATED.fullmatch(folder.path.resolve().name)
    return named[2] if named and folder.path != folder.metadata_file else ""


def _listed(folder: Folder) -> tuple[list[Path], Captions]:
    """A folder's images, and what its metadata file holds of them; where it is that file, the images it names."""
    if folder.metadata_file is None:
        return _images(folder.path), Captions({})
    separator = folder.rules.separator
    if folder.path != folder.metadata_file:
        return _images(folder.path), read_captions(folder.metadata_file, separator)
    found = find_listed(folder.metadata_file, separator, EXTENSIONS)
    return list(found), Captions({str(path): caption for path, caption in found.items()})


def _split(subset: Subset, share: float) -> float:
    """All of a folder to judge by, none of one that is there to keep the class as it is."""
    return 1.0 if subset.held_out else 0.0 if subset.regularisation else share


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")
    )


def _look(path: Path) -> tuple[Size, str, bool]:
    """The size as it will be seen (after EXIF rotation), the digest of the file's bytes, and if it has transparency."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            (width, height), transparent = image.size, has_alpha(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(unreadable(path, error)) from error
    return ((height, width) if turned else (width, height)), digest, transparent


def _digest(items: Sequence[Item], folders: Sequence[Folder], config: TrainConfig) -> str:
    """sha256 over every image's bytes, mask, caption, repeats and rules; not over where the folder lies.

    Where a run has several data sets, their batch sizes and buckets count as well.
    """
    whole = hashlib.sha256()
    for part in config.datasets:
        whole.update(repr(part.model_dump(mode="json", exclude={"images"})).encode())
    for item in items:
        folder = folders[item.folder]
        whole.update(
            repr(
                (
                    item.digest,
                    item.caption,
                    folder.repeats,
                    folder.regularisation,
                    folder.rules,
                    folder.flip,
                    folder.random_crop,
                    folder.color_aug,
                    folder.interpolation,
                    folder.part,
                    folder.alpha_mask,
                    item.held_out,
                    hashlib.sha256(item.mask.read_bytes()).hexdigest() if item.mask else None,
                )
            ).encode()
        )
    return whole.hexdigest()
