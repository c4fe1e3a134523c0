"""A run's images and captions, put into batches whose order is a function of (seed, epoch)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image, ImageOps

from loratools.errors import DatasetError
from loratools.train.augment import recolored
from loratools.train.buckets import BucketRules, Size, bucket_of, bucket_sizes, cover, fit
from loratools.train.captions import CaptionRules, Moment, vary
from loratools.train.config import TrainConfig


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
        rules = bucket_rules(config, resolution)
        sizes = bucket_sizes(rules)
        items = tuple(replace(item, bucket=bucket_of(item.size, rules, sizes)) for item in self.items)
        return replace(self, items=items, buckets=rules)

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


def open_image(item: Item, crop: random.Random | None = None, interpolation: str | None = None) -> Image.Image:
    """The image as RGB at its bucket's size; EXIF rotation is applied and transparency becomes white.

    Raises:
        DatasetError: if the file cannot be decoded.
    """
    try:
        with Image.open(item.path) as file:
            return fit(_on_white(ImageOps.exif_transpose(file)), item.bucket, crop, interpolation)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DatasetError(unreadable(item.path, error)) from error


def _on_white(image: Image.Image) -> Image.Image:
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


def unreadable(path: Path, error: Exception) -> str:
    """What to say of an image that cannot be decoded."""
    reason = "it is no image that can be read" if "identify" in str(error) else str(error)
    return f"the image {path} cannot be read ({reason}); replace it, or take it out of the folder"


def bucket_rules(config: TrainConfig, resolution: Size) -> BucketRules:
    """The config's buckets; ``resolution`` (width, height) stands in where it has none.

    Raises:
        DatasetError: if the smallest side is above the largest.
    """
    width, height = config.resolution or resolution
    smallest = config.bucket_min or max(min(width, height) // 2, config.bucket_steps)
    largest = config.bucket_max or 2 * max(width, height)
    if config.buckets and smallest > largest:
        raise DatasetError(f"bucket_min {smallest} is above bucket_max {largest}; lower it")
    return BucketRules((width, height), config.buckets, smallest, largest, config.bucket_steps,
                       config.bucket_no_upscale)  # fmt: skip
