"""Images to judge a run by, which no epoch shows: a share of each folder, or whole folders."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from loratools.train.config.config import TrainConfig
from loratools.train.data.dataset import Folder, Item


def hold_out(
    items: Sequence[Item], folders: Sequence[Folder], config: TrainConfig, notes: list[str]
) -> tuple[list[Item], list[Folder]]:
    """The items with those marked that are held out, and the folders with the number of those that are left.

    Which ones is a function of ``validation_seed`` (or the run's) and each image's bytes, so that adding an image does
    not change the choice among the others by more than one. One image of a folder is always left to train on.
    """
    seed = config.seed if config.validation_seed is None else config.validation_seed
    marked, left = list(items), list(folders)
    for index, folder in enumerate(folders):
        own = [place for place, item in enumerate(items) if item.folder == index]
        own.sort(key=lambda place: hashlib.sha256(f"held out/{seed}/{items[place].digest}".encode()).digest())
        count = len(own) if folder.split == 1 else min(round(len(own) * folder.split), len(own) - 1)
        if folder.split and not count:
            notes.append(f"{folder.split:.0%} of the {len(own)} images in {folder.path} is none: nothing is held out")
        for place in own[:count]:
            marked[place] = replace(items[place], held_out=True)
        left[index] = replace(folder, count=len(own) - count)
    return marked, left
