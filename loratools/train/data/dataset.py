"""A run's images and captions, put into batches whose order is a function of (seed, epoch)."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from PIL import Image

from loratools.dataset.captions import Moment, vary
from loratools.dataset.folder import Folder, Item, Size
from loratools.dataset.images import cover, fit, open_image, open_mask, recolored
from loratools.errors import DatasetError
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import DataSet
from loratools.train.data.buckets import BucketRules, bucket_of, bucket_sizes


@dataclass(frozen=True, kw_only=True)
class TrainItem(Item):
    """A picture and the size that it is trained at."""

    bucket: Size


@dataclass(frozen=True, kw_only=True)
class TrainFolder(Folder):
    """A folder and how its pictures are used.

    Attributes:
        part: index into Dataset.parts.
        flip: mirrored at random.
        interpolation: see :func:`loratools.dataset.images.fit`.
    """

    part: int
    flip: bool
    random_crop: bool
    color_aug: bool
    interpolation: str | None


@dataclass(frozen=True)
class Sample:
    """One use of an image in an epoch: which, its caption this time, and whether it is mirrored."""

    item: int
    caption: str
    flipped: bool
    draw: str | None = None  # names the random crop and colours of this use; None where pixels do not change


@dataclass(frozen=True)
class DatasetPart:
    """One data set of a run; its images share batches with each other alone. A ``batch_size`` of None is the run's."""

    rules: BucketRules
    batch_size: int | None = None


@dataclass(frozen=True)
class Dataset:
    """Every image of a run. ``notes`` are things that a person should know and that stop nothing."""

    items: tuple[TrainItem, ...]
    folders: tuple[TrainFolder, ...]
    parts: tuple[DatasetPart, ...]
    digest: str
    notes: tuple[str, ...] = field(default=())
    cache_dir: Path | None = None  # where its latents are kept on disk; None: nowhere
    prior_loss_weight: float = 1.0
    epochs: int = 1  # of the run, which a token warm-up given as a fraction counts by

    @property
    def buckets(self) -> BucketRules:
        """The rules of the first part, which is the only one unless a run has several data sets."""
        return self.parts[0].rules

    @property
    def samples_per_epoch(self) -> int:
        """Images x repeats."""
        return sum(self.uses())

    @property
    def held_out(self) -> tuple[int, ...]:
        """Indices into ``items`` of the images that no epoch shows."""
        return tuple(index for index, item in enumerate(self.items) if item.held_out)

    @property
    def masked(self) -> bool:
        """Whether any image has a mask for the loss."""
        return any(folder.options.alpha_mask or folder.options.mask_folder for folder in self.folders)

    def uses(self) -> list[int]:
        """How often an epoch shows each item: its folder's repeats, and not at all what is held out.

        Regularisation images are gone through again and again until they are as many as all others of their data set,
        as in sd-scripts.
        """
        counts = [0 if item.held_out else self.folders[item.folder].repeats for item in self.items]
        for part in range(len(self.parts)):
            own = [index for index, item in enumerate(self.items) if self.folders[item.folder].part == part]
            prior = [index for index in own if self.folders[self.items[index].folder].regularisation]
            others = sum(counts[index] for index in own) - sum(counts[index] for index in prior)
            for number, index in enumerate(prior):
                counts[index] = others // len(prior) + (number < others % len(prior))
        return counts

    def weights(self, batch: Sequence[Sample]) -> list[float] | None:
        """Each sample's weight in the loss; None where all images of the run count as one."""
        if self.prior_loss_weight == 1 or not any(folder.regularisation for folder in self.folders):
            return None
        prior = [self.folders[self.items[sample.item].folder].regularisation for sample in batch]
        return [self.prior_loss_weight if each else 1.0 for each in prior]

    def batches_per_epoch(self, batch_size: int) -> int:
        """Batches never mix data sets or buckets, so each bucket may end in a smaller one.

        Args:
            batch_size: of the data sets that have none of their own.
        """
        return sum(
            -(-count // (part.batch_size or batch_size))
            for number, part in enumerate(self.parts)
            for count in self.bucket_counts(number).values()
        )

    def at(self, config: TrainConfig, resolution: Size) -> Dataset:
        """The same images in the buckets of another default resolution (width, height)."""
        parts = make_parts(config, resolution)
        sizes = [bucket_sizes(part.rules) for part in parts]
        owners = [self.folders[item.folder].part for item in self.items]
        items = tuple(
            replace(item, bucket=bucket_of(item.size, parts[part].rules, sizes[part]))
            for item, part in zip(self.items, owners, strict=True)
        )
        return replace(self, items=items, parts=parts)

    def bucket_counts(self, part: int | None = None) -> dict[Size, int]:
        """Samples an epoch per bucket, buckets sorted; of one part, or of all together."""
        counts: dict[Size, int] = defaultdict(int)
        for item, uses in zip(self.items, self.uses(), strict=True):
            if uses and part in (None, self.folders[item.folder].part):
                counts[item.bucket] += uses
        return dict(sorted(counts.items()))

    def epoch(self, number: int, seed: int, batch_size: int) -> list[list[Sample]]:
        """The batches of epoch ``number``: every image exactly ``repeats`` times, each use with its own shuffle.

        A function of its arguments and the dataset alone, whatever the worker, the process or the epochs before.

        Args:
            batch_size: of the data sets that have none of their own.
        """
        uses: dict[tuple[int, Size], list[tuple[int, int]]] = defaultdict(list)
        for index, (item, count) in enumerate(zip(self.items, self.uses(), strict=True)):
            if count:
                uses[self.folders[item.folder].part, item.bucket] += [(index, repeat) for repeat in range(count)]
        rng = random.Random(f"order/{seed}/{number}")
        batches = []
        for part, bucket in sorted(uses):
            here, size = uses[part, bucket], self.parts[part].batch_size or batch_size
            rng.shuffle(here)
            batches += [here[at : at + size] for at in range(0, len(here), size)]
        rng.shuffle(batches)
        before, count = (number - 1) * len(batches), len(batches) * self.epochs
        return [
            [self._sample(index, repeat, seed, Moment(number, before + place, count)) for index, repeat in batch]
            for place, batch in enumerate(batches)
        ]

    def plain_batches(self, indices: Sequence[int], batch_size: int) -> list[list[Sample]]:
        """These items, each once, with its whole caption as it is written, never mirrored.

        Batches are of one data set and bucket; their order is the items', so that two epochs are judged alike.
        """
        groups: dict[tuple[int, Size], list[Sample]] = defaultdict(list)
        for index in indices:
            item = self.items[index]
            caption = vary(item.caption, self.folders[item.folder].rules.plain, random.Random(f"plain/{index}"))
            groups[self.folders[item.folder].part, item.bucket].append(Sample(index, caption, False))
        return [group[at : at + batch_size] for group in groups.values() for at in range(0, len(group), batch_size)]

    def sides(self, index: int) -> tuple[bool, ...]:
        """Whether an item is used as it is (False), mirrored (True), or both."""
        item = self.items[index]
        return (False, True) if self.folders[item.folder].flip and not item.held_out else (False,)

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
        crop = rng if folder.random_crop and sample.draw else None
        image = fit(open_image(item.path), item.bucket, crop, folder.interpolation)
        return recolored(image, rng) if folder.color_aug and sample.draw else image

    def mask(self, sample: Sample) -> Image.Image | None:
        """What of that picture counts in the loss, white for all and black for none; None where everything counts."""
        item, folder = self.items[sample.item], self.folders[self.items[sample.item].folder]
        mask = open_mask(item.path, item.mask, alpha=folder.options.alpha_mask)
        return None if mask is None else fit(mask, item.bucket, self._crop(sample), "box")

    def _crop(self, sample: Sample) -> random.Random | None:
        """What draws the place of this use's crop; None for the centre."""
        folder = self.folders[self.items[sample.item].folder]
        return random.Random(sample.draw) if folder.random_crop and sample.draw else None

    def time_ids(self, sample: Sample) -> tuple[int, int, int, int, int, int]:
        """SDXL's size conditioning: original height and width, the crop's top and left, the bucket's height and width.

        The crop is in the resized picture's pixels; of a mirrored use it is the mirrored picture's.
        """
        item = self.items[sample.item]
        covering, (left, top) = cover(item.size, item.bucket, self._crop(sample))
        left = covering[0] - item.bucket[0] - left if sample.flipped else left
        return (item.size[1], item.size[0], top, left, item.bucket[1], item.bucket[0])


def make_parts(config: TrainConfig, resolution: Size) -> tuple[DatasetPart, ...]:
    """The config's data sets; ``resolution`` (width, height) is used where neither they nor the run have one.

    Raises:
        DatasetError: if the smallest side is above the largest.
    """
    own = [part.batch_size for part in config.datasets] or [None]
    return tuple(
        DatasetPart(bucket_rules(part, resolution), size) for part, size in zip(config.data_sets(), own, strict=True)
    )


def bucket_rules(part: DataSet, resolution: Size) -> BucketRules:
    """The buckets of one data set of :meth:`TrainConfig.data_sets`.

    Raises:
        DatasetError: if the smallest side is above the largest.
    """
    width, height = part.resolution or resolution
    steps = part.bucket_steps or 64
    smallest = part.bucket_min or max(min(width, height) // 2, steps)
    largest = part.bucket_max or 2 * max(width, height)
    if part.buckets and smallest > largest:
        raise DatasetError(f"bucket_min {smallest} is above bucket_max {largest}; lower it")
    return BucketRules((width, height), bool(part.buckets), smallest, largest, steps, bool(part.bucket_no_upscale))
