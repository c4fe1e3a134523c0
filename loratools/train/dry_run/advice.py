"""Advice on a run before it begins: what the guides say about its data set, and whether the disk has room."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Dataset

_FEWEST, _MOST = 1000, 2000  # guide 004's bounds for images x repeats, counted with a factor of 2 or 4
_STYLES = ("default", "style-004")
_WIDEST = 3.0  # guide 003's ratio of sides
_SHOWN = 5
_MIB = 2**20


def advice(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """One sentence each, with the guide it is from; none of them stops a run."""
    sentences = [*_ratios(dataset), *_duplicates(dataset), *_uncaptioned(dataset)]
    if config.preset in _STYLES:
        sentences += [*_classes(dataset), *_amount(config, dataset)]
    if config.lr_scheduler == "constant" and config.lr_warmup:
        sentences.append("lr_warmup has no effect with lr_scheduler constant; use constant_with_warmup")
    if config.preset.startswith("character") and len(dataset.items) < 15:
        sentences.append(
            f"{len(dataset.items)} images of a character; guide 002 calls 15 to 20 enough, guide 003 asks for 50"
        )
    return tuple(sentences)


def low_disk(out: Path, needed: int) -> Iterator[str]:
    """A sentence if the disk of the folder ``out``, which need not exist yet, has less than ``needed`` bytes left."""
    existing = next((folder for folder in (out.absolute(), *out.absolute().parents) if folder.is_dir()), None)
    free = shutil.disk_usage(existing).free if existing is not None else needed
    if free < needed:
        yield (
            f"{out} has {free / _MIB:.0f} MiB left, and the run takes up to {needed / _MIB:.0f} MiB; free some space, "
            "or set save_last_n"
        )


def _ratios(dataset: Dataset) -> Iterator[str]:
    long = [item.path for item in dataset.items if max(item.size) > _WIDEST * min(item.size)]
    if long:
        yield f"{_listed(long)}: over 3:1; crop them, since much of them is cut off by a bucket (guide 003)"


def _duplicates(dataset: Dataset) -> Iterator[str]:
    same: dict[str, list[Path]] = defaultdict(list)
    for item in dataset.items:
        same[item.digest].append(item.path)
    twice = [paths for paths in same.values() if len(paths) > 1]
    if twice:
        pairs = "; ".join(" = ".join(map(str, paths[:_SHOWN])) for paths in twice[:_SHOWN])
        yield f"{len(twice)} images are there more than once, and count as often: {pairs}; raise repeats instead"


def _uncaptioned(dataset: Dataset) -> Iterator[str]:
    bare = [item.path for item in dataset.items if not item.caption]
    if bare:
        yield f"{_listed(bare)}: no caption, so that everything in them is learnt as what is always there"


def _classes(dataset: Dataset) -> Iterator[str]:
    """Guide 004: main pictures x repeats to faces x repeats as 4 to 1, every other class below the faces; the classes
    are folders, of which one is named for faces."""
    counts = {f.path.name: f.count * f.repeats for f in dataset.folders if not f.regularisation}
    faces = sum(count for name, count in counts.items() if "face" in name.lower())
    others = sorted(((count, name) for name, count in counts.items() if "face" not in name.lower()), reverse=True)
    if not faces or not others:
        return
    if not 3 <= others[0][0] / faces <= 5:
        yield (
            f"main pictures to faces are {others[0][0] / faces:.1f} to 1 an epoch; guide 004 asks for about 4 to 1, "
            "so change the folders' repeats"
        )
    if more := [name for count, name in others[1:] if count > faces]:
        yield f"{', '.join(more)}: shown more often than the faces; guide 004 keeps every other class below them"


def _amount(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """Guide 004's sum, with its factor of 2 for mirrored copies and 4 without (see ``guide_factor``)."""
    count, factor = dataset.samples_per_epoch, config.guide_factor or (2 if _mirrored(dataset) else 4)
    by_guide = (
        f"guide 004 asks for {_FEWEST} to {_MOST} by its count, which is {count} x {factor:g} = {count * factor:g}"
    )
    if factor * count < _FEWEST:
        yield f"{count} samples an epoch are few for a style ({by_guide}); raise repeats"
    if factor * count > _MOST:
        yield f"{count} samples an epoch are many for a style ({by_guide}); lower repeats"
    if config.epochs < 8:
        yield f"{config.epochs} epochs; guide 004 asks for 8 or more to choose from"


def _mirrored(dataset: Dataset) -> bool:
    """Whether any picture is also shown mirrored."""
    return any(len(dataset.sides(index)) > 1 for index in range(len(dataset.items)))


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)} images ({', '.join(str(path) for path in paths[:_SHOWN])}{more})"
