"""What the epochs of a run are judged on: prompts that training did not see where that can be, and the pictures that it
saw and did not see.

Prompts are those of a file that is given; else the captions of pictures that were held out of training, and where these
are few, of some training pictures as well, chosen by a fixed rule. Which pictures a run was trained on stands in its
files' headers; of other trainers' runs, and where pictures have moved, folders are given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.adapter.files.metadata import Provenance
from loratools.adapter.header import read_header
from loratools.errors import DatasetError, LoratoolsError, PromptError

if TYPE_CHECKING:
    from loratools.adapter.files.epoch_files import Epoch
    from loratools.train.data.dataset import Dataset

MOST_PROMPTS = 8  # captions that are drawn; a file of prompts may hold more
_SPECIAL = re.compile(r"(?<!\\)[()\[\]]")


@dataclass(frozen=True)
class CaptionedPicture:
    """A picture, its whole caption, and the digest of its file."""

    path: Path
    caption: str
    digest: str

    @property
    def prompt(self) -> str:
        """The caption as a prompt that means its very words: brackets, which would be emphasis, are escaped."""
        words = ", ".join(line.strip() for line in self.caption.splitlines() if line.strip())
        return _SPECIAL.sub(lambda match: f"\\{match[0]}", words)


@dataclass(frozen=True)
class EvaluationSet:
    """Prompts and pictures that a run's epochs are judged by.

    Attributes:
        prompts: in the WebUI's syntax, each once.
        source: in words, where they come from.
        training: the pictures that were trained on; empty where they are not known.
        held_out: those that were not; empty where there are none.
        notes: sentences: what could not be found, and what follows from it.
    """

    prompts: tuple[str, ...]
    source: str
    training: tuple[CaptionedPicture, ...] = ()
    held_out: tuple[CaptionedPicture, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EvaluationRequest:
    """What a person names for it; each is found by itself where it is left out.

    Args:
        prompts: prompts as they stand.
        prompts_from: what the prompts are called, such as their file.
        images: folders of the training pictures.
        held_out: folders of pictures that were not trained on.
    """

    prompts: tuple[str, ...] = ()
    prompts_from: str = "the prompts that were given"
    images: tuple[Path, ...] = ()
    held_out: tuple[Path, ...] = ()


def evaluation_set(run: Sequence[Epoch], request: EvaluationRequest) -> EvaluationSet:
    """The prompts and pictures to judge the epochs ``run`` by.

    Raises:
        DatasetError: for a folder that is named and holds no picture.
        PromptError: where there is neither a prompt nor a caption to draw.
    """
    notes: list[str] = []
    if request.images or request.held_out:
        training = pictures_of_folders(request.images, "training_images")
        held_out = pictures_of_folders(request.held_out, "held_out")
        if not request.images:
            training = pictures_of_run(run[-1], notes)[0]
    else:
        training, held_out = pictures_of_run(run[-1], notes)
    prompts, source = _prompts(request, training, held_out)
    if not prompts:
        known = notes[0] if notes else "the training pictures have no captions"
        raise PromptError(f"{known}, so there is nothing to draw the epochs with; give `prompts=FILE`, a prompt a line")
    if not request.prompts and not held_out:
        notes.append(
            "no picture is held out, so prompts are captions that were trained on: closeness and obedience are those "
            "of what the LoRA knows; validation_split: 0.1 in training, or `prompts=FILE`, shows more"
        )
    return EvaluationSet(prompts, source, tuple(training), tuple(held_out), tuple(notes))


def _prompts(
    request: EvaluationRequest, training: Sequence[CaptionedPicture], held_out: Sequence[CaptionedPicture]
) -> tuple[tuple[str, ...], str]:
    if request.prompts:
        return tuple(dict.fromkeys(request.prompts)), request.prompts_from
    unseen = _captions(held_out)[:MOST_PROMPTS]
    seen = [caption for caption in _captions(training) if caption not in unseen][: MOST_PROMPTS - len(unseen)]
    counts = [f"{len(own)} {kind}" for own, kind in ((unseen, "held-out"), (seen, "training")) if own]
    return (*unseen, *seen), f"captions of {' and '.join(counts)} pictures"


def _captions(pictures: Sequence[CaptionedPicture]) -> list[str]:
    """Their different captions, in an order that depends on the pictures' bytes alone and not on where they lie."""
    ranked = sorted(pictures, key=lambda own: hashlib.sha256(f"verdict/{own.digest}".encode()).digest())
    return [caption for caption in dict.fromkeys(own.prompt for own in ranked) if caption]


def pictures_of_folders(folders: Sequence[Path], option: str) -> list[CaptionedPicture]:
    """The pictures of folders that a person names by ``option``."""
    if not folders:
        return []
    from loratools.dataset.folder import FolderOptions
    from loratools.dataset.scan import scan

    for folder in folders:
        if not folder.is_dir():
            raise DatasetError(
                f"there is no folder {folder}; `{option}=` names one of pictures, with a .txt beside each"
            )
    scanned = scan([FolderOptions(path=folder) for folder in folders], seed=0)
    return [CaptionedPicture(item.path, item.caption, item.digest) for item in scanned.items]


def pictures_of_run(epoch: Epoch, notes: list[str]) -> tuple[list[CaptionedPicture], list[CaptionedPicture]]:
    """The pictures that a run was trained on and those that it held out, by what its file's header says."""
    made = Provenance.from_metadata(read_header(epoch.path).metadata)
    settings = made.step.get("train") if made else None
    if made is None or not isinstance(settings, dict):
        notes.append(
            f"{epoch.path.name} does not say which pictures it was trained on (another trainer wrote it); copy risk "
            "and closeness to them need `training_images=DIR`"
        )
        return [], []
    try:
        dataset = _dataset(settings, epoch.path.parent)
    except LoratoolsError as error:
        notes.append(
            f"its training pictures cannot be read ({error}); copy risk and closeness need `training_images=DIR`"
        )
        return [], []
    stated = {own.get("digest") for own in made.inputs if own.get("kind") == "images"}
    if stated and dataset.digest not in stated:
        notes.append(
            "its training pictures or captions have changed since the run: figures are of those that are there now"
        )
    pictures = [
        CaptionedPicture(dataset.items[sample.item].path, sample.caption, dataset.items[sample.item].digest)
        for batch in dataset.plain_batches(_own(dataset), 1)
        for sample in batch
    ]
    apart = {dataset.items[index].path for index in dataset.held_out}
    return [own for own in pictures if own.path not in apart], [own for own in pictures if own.path in apart]


def _own(dataset: Dataset) -> list[int]:
    """Indices of the pictures that a run learns, and of those held out; regularisation pictures are neither."""
    return [n for n, item in enumerate(dataset.items) if not dataset.folders[item.folder].regularisation]


def _dataset(settings: Mapping[str, Any], beside: Path) -> Dataset:
    """A run's pictures as its settings have them.

    Args:
        beside: its folder, from which relative paths are tried too: the run may have been moved with its pictures.
    Raises:
        LoratoolsError: if they are not there, or the settings are none of this version's.
    """
    from loratools.train.config.config import TrainConfig
    from loratools.train.config.paths import locate
    from loratools.train.config.read import make_config
    from loratools.train.data.read import read_dataset

    skipped = ("preset", "dim", "alpha")  # a full training refuses a rank, and none matters to what the pictures are
    given = {key: value for key, value in settings.items() if key in TrainConfig.model_fields and key not in skipped}
    config = make_config({**given, "base": "pocket"}, "the run's header")
    config = locate(config, (Path(), beside, *beside.parents[:2]), ("images", "datasets"))
    if not config.images and not config.datasets:
        raise DatasetError("its header names no folder of pictures")
    return read_dataset(config, (512, 512))
