"""Advice on a run before it begins: what the guides say about its data set, and whether the disk has room.

What is reckoned and not seen says so: no picture is searched for faces, whose size is reckoned from tags.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from loratools.dataset.balance.repeats import FEWEST, FEWEST_MAIN, MOST, MOST_MAIN
from loratools.dataset.captions import written_tags
from loratools.dataset.folder import Size
from loratools.dataset.images import is_grey
from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset, TrainItem
from loratools.train.dry_run.caption_advice import caption_advice
from loratools.train.dry_run.repeats import PictureClass, changes, fulfilling, picture_classes
from loratools.train.optim.lr_schedule import warmup_steps
from loratools.train.output.run_folder import RunFolder

_STYLES = ("default", "style-004")
_WITHOUT_PEOPLE = ("scene", "object")
_WIDEST = 3.0  # guide 003's ratio of sides
_IGNORE_WARMUP = ("constant", "piecewise_constant")  # schedules
_COLOURLESS = ("monochrome", "greyscale", "grayscale", "black and white", "black-and-white", "lineart")  # in captions
# how many times a picture is higher than a face in it, at least, by a tag: a figure is seven heads high, and of a wide
# shot takes at most half of the height
_FACES = {"wide shot": 14, "from afar": 14, "very wide shot": 28}
_PERSON = re.compile(r"\d\+?(girl|boy|other)s?|solo|multiple (girls|boys)|an? (girl|boy|woman|man|person)|people")
_SMALLEST_FACE = 40  # pixels: five positions of a latent of eight pixels each
_SHOWN = 5
_MIB = 2**20


def advice(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """One sentence each, with the guide it is from; none of them stops a run."""
    sentences = [*_ratios(dataset), *_duplicates(dataset), *_uncaptioned(dataset), *caption_advice(config, dataset)]
    sentences += _colourless(dataset)
    if config.preset not in _WITHOUT_PEOPLE:
        sentences += _tiny_faces(dataset)
    if config.preset in _STYLES:
        sentences += _by_guide_004(config, dataset)
    if config.lr_scheduler == "constant" and config.lr_warmup:
        sentences.append("lr_warmup has no effect with lr_scheduler constant; use constant_with_warmup")
    if config.preset.startswith("character") and len(dataset.items) < 15:
        sentences.append(
            f"{len(dataset.items)} images of a character; guide 002 calls 15 to 20 enough, guide 003 asks for 50"
        )
    return tuple(sentences)


def outlasting(config: TrainConfig, dataset: Dataset, steps: int, batches: int) -> Iterator[str]:
    """What is set to go on for longer than the whole run of so many optimiser steps and batches."""
    warmup = warmup_steps(float(config.lr_warmup), steps)
    if float(config.lr_warmup) >= 1 and warmup >= steps and config.lr_scheduler not in _IGNORE_WARMUP:
        yield (
            f"lr_warmup is {warmup} steps and the whole run {steps}, so that the rates only rise, to "
            f"{(steps - 1) / warmup:.0%} of what is set; lower it, or give a share of the run such as 5%"
        )
    of_tags = max((folder.rules.warmup for folder in dataset.folders), default=0.0)
    if of_tags >= 1 and of_tags >= batches:
        yield (
            f"token_warmup is {of_tags:g} batches and the whole run {batches}, so that captions never grow to all of "
            "their tags; lower it, or give a share of the run such as 0.1"
        )


def low_disk(config: TrainConfig, needed: int) -> Iterator[str]:
    """A sentence if the disk of the run's folder has no room for ``needed`` bytes."""
    room = disk_room(config)
    if room < needed:
        yield (
            f"{config.out} has {room / _MIB:.0f} MiB left, and the run takes up to {needed / _MIB:.0f} MiB; free some "
            "space, or set save_last_n"
        )


def disk_room(config: TrainConfig) -> int:
    """Bytes that a run's files may take: what is left on the disk of its folder, which need not exist yet, and what
    they take already, where it was begun before."""
    out = config.out.absolute()
    existing = next((folder for folder in (out, *out.parents) if folder.is_dir()), Path())
    return shutil.disk_usage(existing).free + RunFolder(config.out, config.name).size()


def _ratios(dataset: Dataset) -> Iterator[str]:
    long = [item.path for item in dataset.items if max(item.size) > _WIDEST * min(item.size)]
    if long:
        yield f"{_listed(long)}: over 3:1; crop them, since much of them is cut off by a bucket (guide 003)"


def _duplicates(dataset: Dataset) -> Iterator[str]:
    """Pictures that are there more than once at one resolution; at several it is meant so."""
    same: dict[tuple[str, Size], list[Path]] = defaultdict(list)
    for item in dataset.items:
        same[item.digest, dataset.parts[dataset.folders[item.folder].part].rules.resolution].append(item.path)
    twice = list({tuple(paths): None for paths in same.values() if len(paths) > 1})
    if twice:
        pairs = "; ".join(" = ".join(map(str, paths[:_SHOWN])) for paths in twice[:_SHOWN])
        yield f"{len(twice)} images are there more than once, and count as often: {pairs}; raise repeats instead"


def _uncaptioned(dataset: Dataset) -> Iterator[str]:
    bare = [item.path for item in dataset.items if not item.caption]
    if bare:
        yield f"{_listed(bare)}: no caption, so that everything in them is learnt as what is always there"


def _colourless(dataset: Dataset) -> Iterator[str]:
    """Whether nothing but pictures without colour is learnt as if it were a style in colour."""
    items = [item for item in dataset.items if not item.held_out]
    said = [item for item in items if any(word in item.caption.lower() for word in _COLOURLESS)]
    if len(said) < len(items) and all(is_grey(item.path) for item in items):  # ends at the first with colour
        yield (
            f"all {len(items)} images are without colour, and {len(items) - len(said)} captions do not say so, so that "
            "pictures without colour are what is learnt; add monochrome, greyscale to the captions, or images in "
            "colour, of which guide 004 wants more than of others"
        )


def _tiny_faces(dataset: Dataset) -> Iterator[str]:
    sizes = {item.path: size for item in dataset.items if (size := _face(item, dataset)) < _SMALLEST_FACE}
    if sizes:
        yield (
            f"{_listed(list(sizes))}: faces of {min(sizes.values()):.0f} pixels or fewer at their buckets' size, too "
            "few to learn a face from (reckoned from the tags wide shot, very wide shot and from afar; no picture was "
            "searched for faces); crop to the figure, or train at a higher resolution"
        )


def _face(item: TrainItem, dataset: Dataset) -> float:
    """The most pixels that a face is high in a picture of a person, by its tags; infinite where these do not say."""
    tags = {tag.lower().replace("_", " ") for tag in written_tags(item.caption, dataset.folders[item.folder].rules)}
    heads = max((_FACES[tag] for tag in tags & _FACES.keys()), default=0)
    return item.bucket[1] / heads if heads and any(map(_PERSON.search, tags)) else float("inf")


def _by_guide_004(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """The guide's rules that the folders' repeats break, then the repeats that fulfil them all."""
    classes, samples = picture_classes(dataset), dataset.samples_per_epoch
    factor = config.guide_factor or (2 if _mirrored(dataset) else 4)
    broken = [*_classes(classes), *_amount(samples, factor)]
    yield from broken
    if broken and classes:
        # regularisation images double what an epoch shows
        plan = fulfilling(classes, factor * samples / sum(each.count for each in classes))
        if plan is None:
            yield "no repeats fulfil all of guide 004's rules for these numbers of images; take some out, or add some"
        else:
            count = sum(each.images * new for each, new in zip(classes, plan, strict=True))
            yield f"to fulfil guide 004's rules {changes(classes, plan)}: {count} images x repeats"
    if config.epochs < 8:
        yield f"{config.epochs} epochs; guide 004 asks for 8 or more to choose from"


def _classes(classes: Sequence[PictureClass]) -> Iterator[str]:
    """Main pictures x repeats to faces x repeats as 4 to 1, every other class below the faces; the classes are
    folders, of which one is named for faces."""
    faces = sum(each.count for each in classes if each.faces)
    others = [each for each in classes if not each.faces]
    if not faces or not others:
        return
    if not FEWEST_MAIN <= others[0].count / faces <= MOST_MAIN:
        yield f"main pictures to faces are {others[0].count / faces:.1f} to 1 an epoch; guide 004 asks for about 4 to 1"
    if more := [each.path.name for each in others[1:] if each.count > faces]:
        yield f"{', '.join(more)}: shown more often than the faces; guide 004 keeps every other class below them"


def _amount(samples: int, factor: float) -> Iterator[str]:
    """The guide's sum, with its factor of 2 for mirrored copies and 4 without (see ``guide_factor``)."""
    by_guide = f"guide 004 asks for {FEWEST} to {MOST} by its count, which is {samples} x {factor:g}"
    by_guide = f"{by_guide} = {samples * factor:g}"
    if factor * samples < FEWEST:
        yield f"{samples} samples an epoch are few for a style ({by_guide})"
    if factor * samples > MOST:
        yield f"{samples} samples an epoch are many for a style ({by_guide})"


def _mirrored(dataset: Dataset) -> bool:
    """Whether any picture is also shown mirrored."""
    return any(len(dataset.sides(index)) > 1 for index in range(len(dataset.items)))


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)} images ({', '.join(str(path) for path in paths[:_SHOWN])}{more})"
