"""Training on from a LoRA with pictures that it drew, by the toolbox's own trainer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.architectures.names import is_text
from loratools.adapter.files.file import read
from loratools.errors import TuneError
from loratools.files import replacing, write_text
from loratools.measures.measure import Shown
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.distributed import join
from loratools.train.interrupt import Interrupted
from loratools.train.output.run_folder import RunFolder
from loratools.train.trainer import train
from loratools.tune.epochs.evaluation_set import CaptionedPicture
from loratools.tune.problem.then import ThenEffort
from loratools.tune.progress import Stopped
from loratools.tune.then.workplace import Workplace

_PRESETS = {"pocket": "pocket-style"}  # whose rates are right for a LoRA at the scale 1, as every merge is written
_PRESET = "style-004"


@dataclass(frozen=True)
class WayFolder:
    """The folder of one way: its pictures, its start and its run; made anew when ``key`` is another one."""

    path: Path
    key: str

    def begin(self, *, writes: bool) -> None:
        """Clear what another key left; only files that this wrote are in such a folder."""
        place = self.path / "key.json"
        if not writes:
            return
        if place.is_file() and json.loads(place.read_text(encoding="utf-8")).get("key") == self.key:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        write_text(place, json.dumps({"key": self.key}) + "\n")


def save_pictures(folder: Path, shown: Sequence[Shown]) -> None:
    """Pictures as a training folder: ``0001.png`` beside its prompt as ``0001.txt``."""
    for number, picture in enumerate(shown, start=1):
        with replacing(folder / f"{number:04d}.png") as part:
            picture.image.save(part, format="PNG")
        write_text(folder / f"{number:04d}.txt", picture.prompt + "\n")


def copy_pictures(folder: Path, pictures: Sequence[CaptionedPicture]) -> None:
    """Training pictures with their captions, as another training folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures, start=1):
        with replacing(folder / f"{number:04d}{picture.path.suffix.lower()}") as part:
            shutil.copyfile(picture.path, part)
        write_text(folder / f"{number:04d}.txt", picture.caption + "\n")


@dataclass(frozen=True, eq=False)
class Training:
    """A short training.

    Attributes:
        name: of its run, in the folder ``out``.
        images: folders of pictures and how many each holds.
        start: the LoRA to go on from; its modules, ranks and alphas stay.
    """

    name: str
    out: Path
    images: Mapping[Path, int]
    effort: ThenEffort
    start: Path

    @property
    def steps(self) -> int:
        """An estimate for the progress bar, in search pictures."""
        return self.effort.epochs * self.effort.samples

    def run(self, workplace: Workplace) -> list[Path]:
        """The epoch files, first to last; what is there is not made again, and a stopped training goes on.

        Raises:
            Stopped: if a stop is wanted meanwhile; the state is saved.
            LoratoolsError: as :func:`loratools.train.trainer.train`.
        """
        folder = RunFolder(self.out, self.name)
        paths = [folder.epoch(number) for number in range(1, self.effort.epochs + 1)]
        finished = paths[-1].is_file()
        workplace.ranks.wait()  # until every process has looked
        if finished:
            workplace.clock.skip(self.steps)
            return paths
        counted = 0

        def hear(step: int, steps: int) -> None:
            nonlocal counted
            done = self.steps * step // steps
            workplace.clock.picture(done - counted)
            counted = done

        workplace.clock.begin("training")
        try:
            with workplace.training():
                train(self._config(workplace), progress=False, on_progress=hear)
        except Interrupted as stop:
            raise Stopped from stop
        finally:
            join(workplace.base.device.type)  # training left the group of processes
        return paths

    def _config(self, workplace: Workplace) -> TrainConfig:
        base = workplace.base
        height, width = workplace.fine.size
        source = base.source or base.name
        settings: dict[str, Any] = {
            "base": source,
            "images": [
                {"folder": str(folder), "repeats": self._repeats(), "plain_name": True} for folder in self.images
            ],
            "out": str(self.out),
            "name": self.name,
            "preset": _PRESETS.get(base.name, _PRESET),
            "epochs": self.effort.epochs,
            "seed": workplace.request.seed,
            "resolution": [width, height],
            "device": str(base.device) if workplace.ranks.world == 1 else base.device.type,
            "resume": True,
            "gradient_checkpointing": base.family == "sdxl",
            "network_weights": str(self.start),
            "dim_from_weights": True,
            **self._still(),
        }
        return make_config(settings, f"the training of {self.name}")

    def _repeats(self) -> int:
        """So that an epoch shows about as many samples as it should, whatever the number of pictures."""
        return max(1, round(self.effort.samples / max(1, sum(self.images.values()))))

    def _still(self) -> dict[str, float]:
        """No rate for a part of the model that the LoRA does not change."""
        texts = [is_text(name) for name in read(self.start).names]
        return {**({} if any(texts) else {"te_lr": 0.0}), **({"unet_lr": 0.0} if all(texts) else {})}


def check_trainable(terms: Sequence[Term]) -> None:
    """Raise before anything is drawn if no training can go on from ``terms``.

    Raises:
        TuneError: for full differences, a DoRA or the like, which are no product of two factors.
    """
    for term in terms:
        whole = sorted(term.adapter.dense)
        if whole:
            raise TuneError(
                f"{term.adapter.path} holds {whole[0]} as '{term.adapter.kinds[whole[0]]}', from which no training "
                "goes on; leave the ways that train out, or make a plain LoRA of it first: "
                "`loratools resize IN -o OUT --rank 16`"
            )


def write_start(workplace: Workplace, terms: Sequence[Term], path: Path, owner: str) -> Path:
    """``terms`` as one file that a training can go on from."""
    if workplace.ranks.main and not path.is_file():
        merge_files(terms, path, owner=owner, force=True)
    workplace.ranks.wait()
    return path
