"""Training runs: started, and looked at epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.library.options import OneOrMore, StrPath, key_rules, several
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.train.callbacks.records import OnEpoch, OnNote
    from loratools.train.config.config import TrainConfig
    from loratools.train.output.epoch_report import RunReport
    from loratools.train.trainer import RunResult


def train(
    config: StrPath | None = None,
    *,
    base: StrPath | None = None,
    images: OneOrMore = (),
    out: StrPath | None = None,
    name: str | None = None,
    preset: str | None = None,
    epochs: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str | None = None,
    resume: bool = False,
    force: bool = False,
    on_progress: OnProgress | None = None,
    on_epoch: OnEpoch | None = None,
    on_note: OnNote | None = None,
) -> RunResult:
    """Train a LoRA: one file for every epoch, ``OUT/NAME-000001.safetensors`` and so on.

    Args:
        config: our YAML, or another trainer's file; optional where ``base`` and ``images`` are given. What is given
            here comes before what it says.
        base: a Diffusers folder, a ``.safetensors`` or ``.ckpt`` file, a hub id, or ``pocket``.
        images: a folder of pictures with a ``.txt`` beside each, or several.
        out, name: the run's folder and its files' name; ``runs`` and the images' folder's name by default.
        preset: one guide's numbers, such as ``style-004``.
        settings: any other key of a config: ``{"dim": 16, "unet_lr": 1e-4}``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        resume: go on with a run that was cut short.
        force: overwrite files that this run did not write, and begin anew over a run that was cut short.
        on_progress: called as ``on_progress(steps done, all steps)`` after each optimiser step.
        on_epoch: called with an ``EpochRecord`` (epoch, loss, path, ...) when an epoch's file is written.
        on_note: called with a sentence for each thing that one should know before it starts.
    Returns:
        The files in ``epochs``, their ``losses``, and the ``log``.
    Raises:
        RecipeError, TrainingError: for settings that cannot be read, or cannot train.
        DatasetError, BaseModelError, FileError: for pictures, a base or a folder that cannot be used.
        KeyboardInterrupt: after Ctrl-C, when the step is done and the state saved; ``resume`` then goes on.
    """
    from loratools.train.config.read import read_config

    given: dict[str, Any] = {
        "base": None if base is None else str(base),
        "images": list(several(images)) or None,
        "out": None if out is None else str(out),
        "name": name,
        "preset": preset,
        "epochs": epochs,
        "device": device,
        "resume": resume or None,
        "force": force or None,
    }
    chosen = {**(settings or {}), **{key: value for key, value in given.items() if value is not None}}
    made, notes = read_config(config, chosen, must_exist=True)
    return start(made, notes, on_epoch=on_epoch, on_note=on_note, on_progress=on_progress)


def start(
    config: TrainConfig,
    notes: Sequence[str] = (),
    *,
    progress: bool = False,
    on_epoch: OnEpoch | None = None,
    on_note: OnNote | None = None,
    on_progress: OnProgress | None = None,
) -> RunResult:
    """Train by a config that was read, unless a run that was cut short lies in its place.

    Args:
        notes: what ``read_config`` said of it.
        progress: bars on stderr, if that is a terminal.
    Raises:
        TrainingError: if there is such a run, and the config says neither ``resume`` nor ``force``.
        LoratoolsError: as :func:`train`.
    """
    from loratools.train import trainer
    from loratools.train.output.run_folder import RunFolder
    from loratools.train.output.state import check_nothing_unfinished

    if not config.resume and not config.force:
        check_nothing_unfinished(RunFolder(config.out, config.name).state, config.settings())
    return trainer.train(
        config, notes=notes, progress=progress, on_epoch=on_epoch, on_note=on_note, on_progress=on_progress
    )


def basestyle(
    base: StrPath,
    out: StrPath,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    force: bool = False,
    on_progress: OnProgress | None = None,
    on_epoch: OnEpoch | None = None,
) -> RunResult:
    """Make the LoRA of a base's own style, to be subtracted: the base draws pictures, and is trained on them.

    The same base and settings are never made twice; a run that was cut short goes on.

    Args:
        out: folder of the pictures and the epoch files.
        settings: of the pictures and the training: ``{"images_per_framing": 8, "epochs": 6, "dim": 16}``.
        name, device, force, on_epoch: as for :func:`train`.
        on_progress: as for :func:`train`, of the training alone; drawing the pictures comes before.
    Raises:
        LoratoolsError: of the kinds that :func:`train` names.
    """
    from loratools.train.basestyle.basestyle import basestyle as make

    return make(
        str(base),
        Path(out),
        name=name,
        settings=settings,
        device=device,
        force=force,
        progress=False,
        on_epoch=on_epoch,
        on_progress=on_progress,
    )


def epochs(run: StrPath, *, allow_unknown: bool = False, drop: OneOrMore = ()) -> RunReport:
    """A training run epoch by epoch: losses, norm and drift, and in ``shortlist`` which to look at, with the reason.

    Args:
        run: its folder, or ``FOLDER/NAME`` where a folder holds several.
        allow_unknown, drop: as for ``read``.
    Raises:
        FileError, FormatError: if there is no such run, or a file of it cannot be read.
    """
    from loratools.train.output.epoch_report import report

    return report(run, key_rules(allow_unknown, drop))
