"""What the guides would say about a data set before it is trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from loratools.train.config import TrainConfig
from loratools.train.dataset import Dataset

_FEWEST, _MOST = 1000, 2000  # guide 004's bounds for images x repeats, counted with a factor of 2 or 4
_WIDEST = 3.0  # guide 003's ratio of sides
_SHOWN = 5


def warnings(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """One sentence each, with the guide it is from; none of them stops a run."""
    found = [*_ratios(dataset), *_duplicates(dataset), *_uncaptioned(dataset)]
    if config.preset == "style-004":
        found += [*_faces(dataset), *_amount(config, dataset)]
    if config.preset.startswith("character") and len(dataset.items) < 15:
        found.append(
            f"{len(dataset.items)} images of a character; guide 002 calls 15 to 20 enough, guide 003 asks for 50"
        )
    return tuple(found)


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


def _faces(dataset: Dataset) -> Iterator[str]:
    """Guide 004: main pictures x repeats to faces x repeats as 4 to 1, where a folder is named for faces."""
    faces = sum(f.count * f.repeats for f in dataset.folders if "face" in f.path.name.lower())
    others = [f.count * f.repeats for f in dataset.folders if "face" not in f.path.name.lower()]
    if faces and others and not 3 <= max(others) / faces <= 5:
        yield (f"main pictures to faces are {max(others) / faces:.1f} to 1 an epoch; guide 004 asks for about 4 to 1, "
               "so change the folders' repeats")  # fmt: skip


def _amount(config: TrainConfig, dataset: Dataset) -> Iterator[str]:
    """Guide 004's sum; its factor reads 2 with mirrored copies and 4 without, and may be meant the other way round."""
    count, bounds = dataset.samples_per_epoch, f"guide 004: {_FEWEST // 4} to {_MOST // 2}"
    if 4 * count < _FEWEST:
        yield f"{count} samples an epoch are few for a style ({bounds}); raise repeats"
    if 2 * count > _MOST:
        yield f"{count} samples an epoch are many for a style ({bounds}); lower repeats"
    if config.epochs < 8:
        yield f"{config.epochs} epochs; guide 004 asks for 8 or more to choose from"


def _listed(paths: list[Path]) -> str:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{len(paths)} images ({', '.join(str(path) for path in paths[:_SHOWN])}{more})"
