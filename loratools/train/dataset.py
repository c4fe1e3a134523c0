"""The images and captions of a run: read, checked, and put into batches whose order is a function of (seed, epoch)."""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from loratools.errors import DatasetError
from loratools.train.augment import recolored
from loratools.train.buckets import BucketRules, Size, bucket_of, bucket_sizes, cover, fit
from loratools.train.captions import CaptionRules, Moment, vary
from loratools.train.config import TrainConfig
from loratools.train.config_data import Subset
from loratools.train.metadata_json import Captions, read_captions

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif"})
CAPTIONS = (".txt", ".caption")
_REPEATED = re.compile(r"(\d+)_(.*)")
_SHOWN = 10
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


@dataclass(frozen=True)
class Item:
    """One image: where it is, its caption as written, its folder's rules, and the size it is trained at."""

    path: Path
    caption: str
    folder: int  # index into Dataset.folders
    size: Size
    bucket: Size
    digest: str


@dataclass(frozen=True)
class Folder:
    """One folder after its name, its own settings and the run's have been put together."""

    path: Path
    repeats: int
    rules: CaptionRules
    flip: bool
    class_tokens: str | None
    extensions: tuple[str, ...]
    count: int = 0
    metadata_file: Path | None = None
    regularisation: bool = False
    random_crop: bool = False
    color_aug: bool = False
    interpolation: str | None = None


@dataclass(frozen=True)
class Sample:
    """One use of an image in an epoch: which, its caption this time, and whether it is mirrored."""

    item: int
    caption: str
    flipped: bool
    draw: str | None = None  # names the random crop and colours of this use; None where pixels do not change


@dataclass(frozen=True)
class Dataset:
    """Every image of a run. ``notes`` are things that a person should know and that stop nothing."""

    items: tuple[Item, ...]
    folders: tuple[Folder, ...]
    buckets: BucketRules
    digest: str
    notes: tuple[str, ...] = field(default=())
    cache_dir: Path | None = None  # where its latents are kept on disk; None: nowhere
    prior_loss_weight: float = 1.0
    epochs: int = 1  # of the run, which a token warm-up given as a fraction counts by

    @property
    def samples_per_epoch(self) -> int:
        """Images x repeats."""
        return sum(self.uses())

    def uses(self) -> list[int]:
        """How often an epoch shows each item: its folder's repeats.

        Regularisation images are gone through again and again until they are as many as all others, as in sd-scripts.
        """
        counts = [self.folders[item.folder].repeats for item in self.items]
        prior = [index for index, item in enumerate(self.items) if self.folders[item.folder].regularisation]
        if prior:
            wanted = sum(counts) - sum(counts[index] for index in prior)
            for place, index in enumerate(prior):
                counts[index] = wanted // len(prior) + (place < wanted % len(prior))
        return counts

    def weights(self, batch: Sequence[Sample]) -> list[float] | None:
        """Each sample's weight in the loss; None where all images of the run count as one."""
        if self.prior_loss_weight == 1 or not any(folder.regularisation for folder in self.folders):
            return None
        prior = [self.folders[self.items[sample.item].folder].regularisation for sample in batch]
        return [self.prior_loss_weight if each else 1.0 for each in prior]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Batches never mix buckets, so each bucket may end in a smaller one."""
        return sum(-(-count // batch_size) for count in self.bucket_counts().values())

    def at(self, config: TrainConfig, resolution: Size) -> Dataset:
        """The same images in the buckets of another default resolution (width, height)."""
        rules = _bucket_rules(config, resolution)
        sizes = bucket_sizes(rules)
        items = tuple(replace(item, bucket=bucket_of(item.size, rules, sizes)) for item in self.items)
        return replace(self, items=items, buckets=rules)

    def split(self, share: float, seed: int) -> tuple[Dataset, Dataset]:
        """``(to train on, held out)``: ``share`` of each folder's images, rounded, chosen by ``seed`` and their bytes.

        Images with the same bytes go the same way. A folder keeps at least one image to train on.
        """
        ranks: dict[int, list[tuple[str, str]]] = defaultdict(list)
        for item in self.items:
            name = hashlib.sha256(f"validation/{seed}/{item.digest}".encode()).hexdigest()
            ranks[item.folder].append((name, item.digest))
        held: set[str] = set()
        for ranked in ranks.values():
            different = sorted(set(ranked))
            held |= {digest for _, digest in different[: min(round(share * len(different)), len(different) - 1)]}
        return self._only(item for item in self.items if item.digest not in held), self._only(
            item for item in self.items if item.digest in held
        )

    def _only(self, items: Iterable[Item]) -> Dataset:
        kept = tuple(items)
        counts = Counter(item.folder for item in kept)
        folders = tuple(replace(folder, count=counts[index]) for index, folder in enumerate(self.folders))
        return replace(self, items=kept, folders=folders, digest=_digest(kept, folders))

    def bucket_counts(self) -> dict[Size, int]:
        """Samples an epoch per bucket, buckets sorted."""
        counts: dict[Size, int] = defaultdict(int)
        for item, uses in zip(self.items, self.uses(), strict=True):
            counts[item.bucket] += uses
        return dict(sorted(counts.items()))

    def epoch(self, number: int, seed: int, batch_size: int) -> list[list[Sample]]:
        """The batches of epoch ``number``: every image exactly ``repeats`` times, each use with its own shuffle.

        A function of its arguments and the dataset alone: no worker, process or earlier epoch has a say.
        """
        uses: dict[Size, list[tuple[int, int]]] = defaultdict(list)
        for index, (item, count) in enumerate(zip(self.items, self.uses(), strict=True)):
            uses[item.bucket] += [(index, repeat) for repeat in range(count)]
        rng = random.Random(f"order/{seed}/{number}")
        batches = []
        for bucket in sorted(uses):
            rng.shuffle(uses[bucket])
            batches += [uses[bucket][at : at + batch_size] for at in range(0, len(uses[bucket]), batch_size)]
        rng.shuffle(batches)
        before, count = (number - 1) * len(batches), len(batches) * self.epochs
        return [
            [self._sample(index, repeat, seed, Moment(number, before + place, count)) for index, repeat in batch]
            for place, batch in enumerate(batches)
        ]

    def _sample(self, index: int, repeat: int, seed: int, moment: Moment) -> Sample:
        item, rng = self.items[index], random.Random(f"sample/{seed}/{moment.epoch}/{index}/{repeat}")
        folder = self.folders[item.folder]
        flipped = folder.flip and rng.random() < 0.5
        changes = folder.random_crop or folder.color_aug
        draw = f"pixels/{seed}/{moment.epoch}/{index}/{repeat}" if changes else None
        return Sample(index, vary(item.caption, folder.rules, rng, moment), flipped, draw)

    def image(self, sample: Sample) -> Image.Image:
        """The picture of one use, at its bucket's size, with that use's crop and colours, not mirrored."""
        item, folder = self.items[sample.item], self.folders[self.items[sample.item].folder]
        rng = random.Random(sample.draw)
        image = open_image(item, rng if folder.random_crop and sample.draw else None, folder.interpolation)
        return recolored(image, rng) if folder.color_aug and sample.draw else image

    def time_ids(self, sample: Sample) -> tuple[int, int, int, int, int, int]:
        """SDXL's size conditioning: original height and width, the crop's top and left, the bucket's height and width.

        The crop is in the resized picture's pixels; of a mirrored use it is the mirrored picture's.
        """
        item, folder = self.items[sample.item], self.folders[self.items[sample.item].folder]
        rng = random.Random(sample.draw) if folder.random_crop and sample.draw else None
        covering, (left, top) = cover(item.size, item.bucket, rng)
        left = covering[0] - item.bucket[0] - left if sample.flipped else left
        return (item.size[1], item.size[0], top, left, item.bucket[1], item.bucket[0])


def read_dataset(config: TrainConfig, resolution: Size) -> Dataset:
    """Find, open and check every image and caption; ``resolution`` (width, height) is used where config has none.

    Raises:
        DatasetError: naming the folder without images, the image that cannot be read, or up to ten images whose caption
            is missing or empty.
    """
    notes: list[str] = []
    folders = [folder for subset in config.images for folder in _folders(subset, config, notes)]
    rules = _bucket_rules(config, resolution)
    sizes = bucket_sizes(rules)
    items: list[Item] = []
    missing: list[Path] = []
    for index, folder in enumerate(folders):
        paths = _images(folder.path)
        folders[index], captions = _captions(folder, paths, config, missing, notes)
        for path, caption in zip(paths, captions, strict=True):
            size, digest = _look(path)
            items.append(Item(path, caption, index, size, bucket_of(size, rules, sizes), digest))
    _refuse_uncaptioned(missing)
    _note_surplus(items, folders, notes)
    return Dataset(
        tuple(items), tuple(folders), rules, _digest(items, folders), tuple(notes), latent_folder(config),
        config.prior_loss_weight, config.epochs,
    )  # fmt: skip


def _note_surplus(items: Sequence[Item], folders: Sequence[Folder], notes: list[str]) -> None:
    prior = sum(folders[item.folder].regularisation for item in items)
    wanted = sum(folders[item.folder].repeats for item in items if not folders[item.folder].regularisation)
    if prior and not wanted:
        raise DatasetError(
            "every folder holds regularisation images, so there is nothing to learn; name one to train on"
        )
    if prior > wanted:
        notes.append(f"{prior - wanted} of {prior} regularisation images are not used: an epoch has {wanted} others")


def latent_folder(config: TrainConfig) -> Path | None:
    """Where latents are kept from run to run: ``cache_dir``, or beside the epoch files; None without ``disk``."""
    return (config.cache_dir or config.out / "latents") if config.cache_latents == "disk" else None


def open_image(item: Item, crop: random.Random | None = None, interpolation: str | None = None) -> Image.Image:
    """The image as RGB at its bucket's size; EXIF rotation is applied and transparency becomes white.

    Raises:
        DatasetError: if the file cannot be decoded.
    """
    try:
        with Image.open(item.path) as file:
            return fit(_on_white(ImageOps.exif_transpose(file)), item.bucket, crop, interpolation)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(_unreadable(item.path, error)) from error


def _on_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def _folders(subset: Subset, config: TrainConfig, notes: list[str]) -> Iterator[Folder]:
    """The folder itself where it holds images, and its ``N_name`` folders."""
    root = subset.folder
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
        yield _folder(root, subset, config)
    for path in numbered:
        yield _folder(path, subset, config)


def _folder(path: Path, subset: Subset, config: TrainConfig) -> Folder:
    named = None if subset.plain_name else _REPEATED.fullmatch(path.resolve().name)
    repeats = subset.repeats or (int(named[1]) if named else config.repeats)
    if repeats < 1:
        raise DatasetError(f"{path} asks for 0 repeats; rename it, or take it out of the images")

    def own(name: str) -> Any:
        value = getattr(subset, name)
        return getattr(config, name) if value is None else value

    rules = CaptionRules(**{ours: own(setting) for ours, setting in _RULES.items()})
    extension = own("caption_extension")
    extensions = (str(extension),) if extension else CAPTIONS
    return Folder(path, repeats, rules, bool(own("flip")), subset.class_tokens, extensions,
                  metadata_file=subset.metadata_file, regularisation=subset.regularisation,
                  random_crop=own("random_crop"), color_aug=own("color_aug"),
                  interpolation=own("resize_interpolation"))  # fmt: skip


def _captions(
    folder: Folder, paths: Sequence[Path], config: TrainConfig, missing: list[Path], notes: list[str]
) -> tuple[Folder, list[str]]:
    listed = read_captions(folder.metadata_file, folder.rules.separator) if folder.metadata_file else Captions({})
    files = [next((path.with_suffix(e) for e in folder.extensions if path.with_suffix(e).is_file()), None)
             for path in paths]  # fmt: skip
    class_tokens = folder.class_tokens
    named = _REPEATED.fullmatch(folder.path.resolve().name)
    if class_tokens is None and named and named[2] and not any(files) and not listed.by_name:
        class_tokens = named[2]  # sd-scripts' class-and-identifier way of training: no captions, a word in the name
        notes.append(f"{folder.path} has no captions; every image is captioned '{class_tokens}', from its name")
    captions = []
    for path, file in zip(paths, files, strict=True):
        text = listed.of(path) or (_read_caption(file, folder.rules.wildcards) if file else "")
        if not text and class_tokens is None and not config.allow_uncaptioned:
            missing.append(path)
        captions.append(text or class_tokens or "")
        unread = [e for e in CAPTIONS if file and e != file.suffix and path.with_suffix(e).is_file()]
        notes += [f"{path.with_suffix(e)} is not read: {file} is" for e in unread]
    return replace(folder, class_tokens=class_tokens, count=len(paths)), captions


def _read_caption(path: Path, lines_apart: bool = False) -> str:
    """The caption; several lines (one tag a line, as some taggers write) are joined with commas, or else kept apart."""
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise DatasetError(f"the caption {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"the caption {path} is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    return ("\n" if lines_apart else ", ").join(
        line.strip().strip(",").strip() for line in lines if line.strip().strip(",")
    )


def _refuse_uncaptioned(missing: Sequence[Path]) -> None:
    if not missing:
        return
    shown = ", ".join(str(path) for path in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    first = missing[0].with_suffix(".txt")
    raise DatasetError(
        f"{len(missing)} images have no caption, or an empty one: {shown}{more}; write their tags into {first.name} "
        "and so on, set class_tokens for the folder, or pass --allow-uncaptioned"
    )


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")
    )


def _look(path: Path) -> tuple[Size, str]:
    """The size as it will be seen (after EXIF rotation), and the digest of the file's bytes."""
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            width, height = image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(_unreadable(path, error)) from error
    return ((height, width) if turned else (width, height)), digest


def _unreadable(path: Path, error: Exception) -> str:
    reason = "it is no image that can be read" if "identify" in str(error) else str(error)
    return f"the image {path} cannot be read ({reason}); replace it, or take it out of the folder"


def _bucket_rules(config: TrainConfig, resolution: Size) -> BucketRules:
    width, height = config.resolution or resolution
    smallest = config.bucket_min or max(min(width, height) // 2, config.bucket_steps)
    largest = config.bucket_max or 2 * max(width, height)
    if config.buckets and smallest > largest:
        raise DatasetError(f"bucket_min {smallest} is above bucket_max {largest}; lower it")
    return BucketRules((width, height), config.buckets, smallest, largest, config.bucket_steps,
                       config.bucket_no_upscale)  # fmt: skip


def _digest(items: Sequence[Item], folders: Sequence[Folder]) -> str:
    """sha256 over every image's bytes, caption, repeats and rules; not over where the folder lies."""
    whole = hashlib.sha256()
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
                )
            ).encode()
        )
    return whole.hexdigest()
