"""The pictures of ``prior``: drawn by the base itself, from the run's own captions without the trigger.

DreamBooth (Ruiz et al. 2022) keeps a base from forgetting its class by training on its own pictures of it beside the
new ones. Its prompt is "a [class noun]"; where pictures have captions, the same captions without the trigger ask for
pictures that differ from the trained ones in nothing but what is to be learnt.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from loratools.dataset.captions import written_tags
from loratools.errors import TrainingError
from loratools.files import locked
from loratools.train.config.config import TrainConfig
from loratools.train.config.data import Prior, Subset
from loratools.train.data.dataset import Dataset
from loratools.train.data.read import read_dataset
from loratools.train.distributed import Ranks
from loratools.train.drawing.generate import Generation, PictureFolder, StylePicture, draw_missing, drawn_by
from loratools.train.output.run_folder import RunFolder
from loratools.train.seeds import derived

CAPTIONS = "captions"
_STEM = "prior"


def prior_folder(config: TrainConfig) -> Path:
    """Where a run's prior pictures lie."""
    return config.out / f"{config.name}-prior"


def with_prior(
    config: TrainConfig, ranks: Ranks, device: str, *, before: Callable[[], None] | None = None, bar: bool = False
) -> TrainConfig:
    """``config`` with the pictures of its ``prior`` among its folders, drawn as far as they are not there yet.

    A folder of the same base, prompts and settings is completed; another one's pictures are replaced.

    Args:
        ranks: of several processes each draws a part.
        before: called before anything is drawn or replaced, if anything has to be.
        bar: show a progress bar on stderr, if that is a terminal.
    Raises:
        FileError: if the folder holds files of someone else.
        HeldError: if another process draws into it.
        TrainingError: if no caption is left without the trigger, or a run that is gone on with had other pictures.
    """
    prior = config.prior
    if prior is None:
        return config
    dataset = read_dataset(config, config.resolution or (512, 512))
    pictures = prior_pictures(config, prior, dataset)
    generation = Generation(
        picture_seed=config.seed, steps=prior.steps, cfg=prior.cfg, negative=prior.negative, pictures_at_once=4
    )
    made_by = [*drawn_by(config), asdict(generation), [asdict(picture) for picture in pictures]]
    key = hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()
    folder = PictureFolder(prior_folder(config), key, owner=_STEM, stems=(_STEM,))
    if not folder.claimed or folder.missing(pictures):
        _refuse_other_pictures(config, folder)
        if before is not None:
            before()
    with contextlib.ExitStack() as stack:
        if ranks.main:
            stack.enter_context(locked(folder.path))
            folder.claim(generation, force=config.force)
        ranks.wait()
        draw_missing(config, folder, pictures, generation, device, ranks, bar=bar)
        ranks.wait()
    return _with_folder(config, folder.path)


def _refuse_other_pictures(config: TrainConfig, folder: PictureFolder) -> None:
    """Raise TrainingError where a run that is to be gone on with had other pictures, which are still there."""
    begun = config.resume and RunFolder(config.out, config.name).state.is_file()
    if begun and folder.path.exists() and not folder.claimed:
        raise TrainingError(
            f"cannot resume: {folder.path} was drawn by another base, seed, caption or setting of prior than now; "
            "change it back, or start anew with `force=True` in place of `resume=True`"
        )


def prior_pictures(config: TrainConfig, prior: Prior, dataset: Dataset) -> list[StylePicture]:
    """What is asked of the base: the captions in turn, or one text, each time with another seed.

    Raises:
        TrainingError: if no caption is left without the trigger.
    """
    prompts = [prior.prompts] if prior.prompts != CAPTIONS else _captions(prior, dataset)
    seeds = [derived(config.seed, _STEM, number) % 2**32 for number in range(prior.count)]
    return [
        StylePicture(f"{_STEM}_{number:04d}", prompts[number % len(prompts)], seed) for number, seed in enumerate(seeds)
    ]


def _captions(prior: Prior, dataset: Dataset) -> list[str]:
    tags = [
        written_tags(item.caption, dataset.folders[item.folder].rules)
        for item in dataset.items
        if not (item.held_out or dataset.folders[item.folder].regularisation)
    ]
    trigger = common_beginning(tags) if prior.trigger is None else [tag.strip() for tag in prior.trigger.split(",")]
    left = [", ".join(tag for tag in own if tag not in trigger) for own in tags]
    if not any(left):
        raise TrainingError(
            f"prior: nothing is left of the captions without the trigger ({', '.join(trigger)}); give prior.trigger, "
            "or one text as prior.prompts"
        )
    return [text for text in left if text]


def common_beginning(tags: Sequence[Sequence[str]]) -> list[str]:
    """The tags that all captions begin with: what a trigger is; nothing of a single caption."""
    common: list[str] = []
    for together in zip(*tags, strict=False):
        if len(tags) < 2 or len(set(together)) > 1:
            break
        common.append(together[0])
    return common


def _with_folder(config: TrainConfig, folder: Path) -> TrainConfig:
    subset = Subset(folder=folder, regularisation=True, plain_name=True)
    if not config.datasets:
        return config.model_copy(update={"images": (*config.images, subset)})
    first = config.datasets[0].model_copy(update={"images": (*config.datasets[0].images, subset)})
    return config.model_copy(update={"datasets": (first, *config.datasets[1:])})
