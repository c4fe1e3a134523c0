"""The state of a run: everything that resuming needs to give the bytes of a run that was never stopped, in one file."""

from __future__ import annotations

import math
import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from loratools import files
from loratools.errors import FileError, TrainingError
from loratools.train.optim.trainable import Trainable

_STATE_VERSION = 2


@dataclass
class Position:
    """Where a run is. ``total`` and ``seconds`` are sums over the epoch that is going on.

    Attributes:
        epoch: epochs that are finished.
        step: optimiser steps of the whole run that are done; ``into`` of them in the epoch that is going on.
        total: loss x samples; ``count`` are the samples.
        average: moving average of the loss, NaN before the first step.
        losses: mean loss of every finished epoch.
    """

    epoch: int = 0
    step: int = 0
    into: int = 0
    total: float = 0.0
    count: int = 0
    seconds: float = 0.0
    average: float = math.nan
    losses: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class State(Position):
    """Everything that the next step depends on.

    The order of the data and every random draw are functions of the seed and of ``step``, so they need no more.

    Attributes:
        network, ema: the factors by name, and their averages in the optimiser's order, if there are any.
        watched: each callback's own state, by its name.
    """

    network: dict[str, torch.Tensor]
    ema: list[torch.Tensor] | None
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    watched: dict[str, dict[str, Any]]
    settings: dict[str, Any]
    base_digest: str
    dataset_digest: str
    started_at: float
    session: int

    def position(self) -> Position:
        """The fields of :class:`Position`."""
        return Position(**{part.name: getattr(self, part.name) for part in fields(Position)})

    def restore(self, trained: Trainable) -> None:
        """Put the factors, the optimiser, the loss scale and the average back as they were saved."""
        trained.network.load(self.network)
        trained.optimizer.load_state_dict(self.optimizer)
        trained.scaler.load_state_dict(self.scaler)
        if trained.ema is not None and self.ema is not None:
            trained.ema.load(self.ema)


def save_state(path: Path, state: State) -> None:
    """Replace the file at ``path`` by ``state``, whole or not at all.

    Raises:
        FileError: if it cannot be written; the file is then as it was.
    """
    try:
        with files.replacing(path) as part:
            torch.save({"version": _STATE_VERSION, **vars(state)}, part)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as the latter
        raise FileError(
            f"cannot write {path}: {error_text(error)}; free some space and go on with "
            f"`resume=True`, the state before is "
            "whole"
        ) from error


_MOST_SHOWN = 8  # settings that a message names


def error_text(error: BaseException) -> str:
    """Why a read or write failed, on one line: the system's message, else the first line of the error's."""
    return str(getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0])


def load_state(path: Path) -> State | None:
    """The state at ``path``, or None where there is none yet.

    Raises:
        TrainingError: if it cannot be read.
    """
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = State(**content) if content.pop("version") == _STATE_VERSION else None
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"the state {path} cannot be read ({error_text(error)}); start anew without `resume=True`"
        ) from error
    if state is None:
        raise TrainingError(f"the state {path} is of another version of loratools; start anew without `resume=True`")
    return state


def check_nothing_unfinished(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise if a new run would replace the state at ``path`` of an unfinished run, or of one with other settings.

    A finished run of the same settings may be made again.

    A state that cannot be read cannot be resumed either, so it is no reason to refuse.

    Raises:
        TrainingError: with the remedies.
    """
    try:
        state = load_state(path)
    except TrainingError:
        return
    if state is None:
        return
    if state.epoch < int(state.settings["epochs"]):
        raise TrainingError(
            f"{path.parent.parent} holds a run of this name that was cut short after step {state.step} "
            f"(epoch {state.epoch + 1}); go on with `resume=True`, choose another `name=`, or begin anew "
            "with `force=True`"
        )
    # with max_steps, the epochs follow from the steps and the data
    free = ["epochs"] if settings.get("max_steps") is not None else []
    if changed := _changed(state.settings, settings, free):
        raise TrainingError(
            f"{path.parent.parent} holds a finished run of this name with other settings "
            f"({_shown(changed, state.settings, settings)}); choose another `name=`, or replace it with "
            "`force=True`"
        )


def check_resumable(state: State, settings: Mapping[str, Any], base_digest: str, dataset_digest: str) -> None:
    """Refuse to resume with other settings, another base or other data: the result would be neither run's.

    More epochs are allowed where nothing depends on how many there are, and other kinds of files, which change nothing
    that is learnt: smaller ones where the disk is full.

    Raises:
        TrainingError: naming what differs.
    """
    # the digests of the first three are compared; a moved folder is the same data
    free = {"base", "images", "datasets", "save", "save_end"}
    if not _depends_on_length(settings):
        free.add("epochs")
    changed = _changed(state.settings, settings, free)
    changed += ["the base"] * (base_digest != state.base_digest)
    changed += ["the images or captions"] * (dataset_digest != state.dataset_digest)
    if changed:
        shown = _shown(changed, state.settings, settings)
        raise TrainingError(
            f"cannot resume: {shown} changed since the run was started; change it back, or start anew "
            "with `force=True` in place of `resume=True`"
        )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], free: Iterable[str] = ()) -> list[str]:
    return [key for key in sorted({*now, *before} - set(free)) if now.get(key) != before.get(key)]


def _shown(changed: Sequence[str], before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    parts = [
        f"{key} ({_spelled(before.get(key))} -> {_spelled(now.get(key))})" if key in now else key for key in changed
    ]
    if len(parts) > _MOST_SHOWN:
        parts[_MOST_SHOWN - 1 :] = [f"{len(parts) - _MOST_SHOWN + 1} more"]
    return ", ".join(parts)


def _spelled(setting: Any) -> str:
    """A setting as a person reads it: a folder of pictures by its path and what it says itself, not all its keys."""
    if isinstance(setting, Mapping):
        said = {key: value for key, value in setting.items() if value is not None and value is not False}
        folder = said.pop("folder", "")
        return " ".join([str(folder), *(f"{key}={_spelled(value)}" for key, value in said.items())]).strip()
    if isinstance(setting, (list, tuple)):
        return " and ".join(map(_spelled, setting)) or "none"
    return str(setting)


def _depends_on_length(settings: Mapping[str, Any]) -> bool:
    """Whether a step depends on the run's length: by its learning rate, or a setting that is a share of the run."""
    name = str(settings.get("lr_scheduler"))
    shares = ["stop_text_encoder_training", "token_warmup", *(["lr_warmup"] if name != "constant" else [])]
    return not name.startswith("constant") or any(0 < value < 1 for value in _values(settings, shares))


def _values(settings: Any, names: Sequence[str]) -> Iterator[float]:
    """Every number under one of ``names``, in the settings of folders and data sets too."""
    if isinstance(settings, Mapping):
        yield from (float(settings[name]) for name in names if settings.get(name) is not None)
        settings = list(settings.values())
    if isinstance(settings, (list, tuple)):
        for value in settings:
            yield from _values(value, names)
