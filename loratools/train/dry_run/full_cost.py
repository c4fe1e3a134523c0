"""What a full training takes of memory and disk, part by part; all but the activations follows from the settings.

Bytes a trained weight: 4 in fp32, and 2 more for the copy that is computed with where that is another type; 2 in bf16.
Gradients are float32, and there is only one at a time where the optimiser steps within the backward pass. States: two
moments for AdamW, one byte each in 8 bits, one moment for Lion. transformers' Adafactor has a row and a column of each
matrix, which is next to nothing, but of a convolution those of each kernel, which is two thirds of a 3x3 one: two bytes
a weight of SD1.5's UNet, less of SDXL's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from loratools.base.model import Base
from loratools.dtypes import item_size
from loratools.errors import FileError, TrainingError
from loratools.train.config.config import TrainConfig
from loratools.train.config.full import file_kind
from loratools.train.dry_run import estimate

_STATES = {"lion": 4.0, "lion8bit": 1.0, "pagedlion8bit": 1.0, "sgd": 0.0, "sgdnesterov": 4.0}
_GIB = 2**30
_LARGEST = 16 << 20  # weights in a base's largest matrix, roughly: its gradient, and what its step needs
_LORA_SHARE = 0.0011  # of a base's weights a LoRA of everything has, a rank


@dataclass(frozen=True)
class FullCost:
    """Bytes of a step by part, and of the files.

    Attributes:
        frozen: of what is not trained of the UNet and the text encoders.
        file: one epoch's; ``end`` is the further file of the last epoch.
        state: what resuming needs; twice that while it is replaced.
        disk: the most of all files and states together.
    """

    frozen: int
    weights: int
    gradients: int
    states: int
    activations: int
    file: int
    end: int
    state: int
    disk: int

    @property
    def memory(self) -> int:
        """All parts."""
        return self.certain + self.activations

    @property
    def certain(self) -> int:
        """What is there whatever the pictures are."""
        return self.frozen + self.weights + self.gradients + self.states


def full_cost(config: TrainConfig, base: Base, trained: int, positions: int, computed: int, steps: int) -> FullCost:
    """The cost of a full training.

    Args:
        trained: weights that are trained.
        positions: latent positions of the largest batch.
        computed: bytes of the numbers that are computed with.
        steps: of the whole run.
    """
    every = _count(base.unet, *base.text_encoders)
    held = 2 if config.weights == "bf16" else 4 + (computed if computed < 4 else 0)
    states = trained * _state_bytes(config.optimizer, base)
    average = 4 * trained if config.ema else 0
    gradients = 4 * (_LARGEST * 3 if config.steps_in_backward() else trained)
    fixed = (every - trained) * computed
    activations = estimate.activations(base, positions, computed, checkpoints=config.gradient_checkpointing)
    file = _file_bytes(config, config.save, base, trained)
    end = _file_bytes(config, config.save_end, base, trained) if config.save_end else 0
    state = (2 if config.weights == "bf16" else 4) * trained + states + average
    disk = (estimate.files(config, steps) + 1) * file + end + 2 * state
    return FullCost(
        frozen=fixed,
        weights=held * trained,
        gradients=min(gradients, 4 * trained),
        states=round(states + average),
        activations=activations,
        file=file,
        end=end,
        state=round(state),
        disk=round(disk),
    )


def cost_lines(cost: FullCost) -> tuple[str, ...]:
    """For a person: memory by part, and disk."""
    parts = {
        "what is not trained": cost.frozen,
        "weights": cost.weights,
        "gradients": cost.gradients,
        "optimizer states": cost.states,
        "activations": cost.activations,
    }
    listed = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items())
    more = f", the last one {_gib(cost.end)} more" if cost.end else ""
    return (
        f"memory: about {_gib(cost.memory)} GiB: {listed} (the last within a factor of two)",
        f"disk: up to {_gib(cost.disk)} GiB: {_gib(cost.file)} an epoch's file{more}, {_gib(cost.state)} the state to "
        "resume from, twice while it is replaced",
    )


def cheaper(config: TrainConfig, base: Base, trained: int, positions: int, steps: int) -> Iterator[str]:
    """What each setting that saves memory would bring the whole to, one after the other, as far as they are not set and
    the ones before them allow it."""
    text = sum(_count(encoder) for encoder in base.text_encoders) if config.learned_rates()[1] > 0 else 0
    before = full_cost(config, base, trained, positions, _computed(config), steps).memory
    for title, values in _savings(config):
        changed = config.model_copy(update=values)
        if _refused(changed):
            continue
        if title == "te_lr: 0":
            trained = trained - text if text and config.unet_lr != 0 else trained
        config = changed
        after = full_cost(config, base, trained, positions, _computed(config), steps).memory
        if after < 0.97 * before:
            yield f"{title} ({_gib(after)} GiB)"
            before = after


def _savings(config: TrainConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """Settings that save memory, the ones that cost least first, with what has to be set beside them."""
    eight = ("optimizer: AdamW8bit", {"optimizer": "AdamW8bit", "optimizer_args": {}})
    yield "gradient_checkpointing: true", {"gradient_checkpointing": True}
    if not config.steps_each_weight:  # an optimiser that needs all gradients at once stands in the way of the next two
        yield eight
    fused: dict[str, Any] = {"max_grad_norm": 0.0, "fused_backward_pass": "on"}
    if config.mixed_precision == "fp16":
        yield (
            "max_grad_norm: 0 with fused_backward_pass: on and mixed_precision: bf16",
            {**fused, "mixed_precision": "bf16"},
        )
    else:
        yield "max_grad_norm: 0 with fused_backward_pass: on", fused
    alone = "" if config.mixed_precision in (None, "bf16") else f", without mixed_precision: {config.mixed_precision}"
    yield f"weights: bf16{alone}", {"weights": "bf16", "mixed_precision": None}
    yield eight
    yield "optimizer: Adafactor", {"optimizer": "Adafactor", "optimizer_args": {}}
    yield "te_lr: 0", {"te_lr": 0.0, "te2_lr": None}


def _refused(config: TrainConfig) -> bool:
    """Whether a full training refuses these settings."""
    without = config.fused_backward_pass == "on" and bool(config.why_not_fused())
    return without or (config.weights == "bf16" and not config.steps_each_weight)


def _computed(config: TrainConfig) -> int:
    """Bytes of the numbers that are computed with."""
    return 4 if config.mixed_precision == "no" else 2


def check_room(config: TrainConfig, cost: FullCost, device: torch.device, remedies: Iterator[str]) -> None:
    """Raise, before anything is loaded onto it, if a device cannot hold what is there whatever the pictures are.

    Raises:
        TrainingError: with what would make it fit.
    """
    room = _memory_of(device)
    if room is None or cost.certain <= room:
        return
    listed = ", then ".join(remedies) or "a smaller base"
    raise TrainingError(
        f"{config.name} takes {_gib(cost.certain)} GiB for weights, gradients and optimizer states, and {device} has "
        f"{_gib(room)}; what helps, one after the other: {listed}"
    )


def check_disk(config: TrainConfig, cost: FullCost, free: int) -> None:
    """Raise FileError if the disk cannot hold the epochs that are asked for."""
    if free >= cost.disk:
        return
    raise FileError(
        f"{config.out} has {_gib(free)} GiB left, and the files of {config.epochs} epochs and the state take up to "
        f"{_gib(cost.disk)} GiB; set save: lora:64, save_every_epochs or save_last_n, or free some space"
    )


def _memory_of(device: torch.device) -> int | None:
    """All of a GPU's memory; None for other devices, whose memory the system may extend."""
    return torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else None


def _state_bytes(optimizer: str, base: Base) -> float:
    """Bytes of an optimiser's state, on the average of a base's weights."""
    name = optimizer.lower().rpartition(".")[2]
    if name == "adafactor":
        parameters = [parameter for part in (base.unet, *base.text_encoders) for parameter in part.parameters()]
        every: int = sum(parameter.numel() for parameter in parameters)
        return 4 * sum(map(_rows_and_columns, parameters)) / every
    return _STATES.get(name, 2.0 if "8bit" in name else 8.0)


def _rows_and_columns(weight: torch.Tensor) -> int:
    """How many second moments Adafactor keeps of a weight: of its last two dimensions, and all of a vector's."""
    if weight.dim() < 2:
        return weight.numel()
    return weight.numel() // weight.shape[-1] + weight.numel() // weight.shape[-2]


def _file_bytes(config: TrainConfig, save: str, base: Base, trained: int) -> int:
    kind, width = file_kind(save), item_size(config.dtype)
    if kind.kind == "delta":
        return trained * width
    if kind.kind == "lora":
        rank = int(kind.rank) if kind.rank.isdigit() else 64
        return round(min(trained, trained * _LORA_SHARE * rank) * width)
    return _count(base.unet, base.vae, *base.text_encoders) * width


def _count(*models: Any) -> int:
    return sum(parameter.numel() for model in models for parameter in model.parameters())


def _gib(size: float) -> str:
    return f"{size / _GIB:.1f}"
