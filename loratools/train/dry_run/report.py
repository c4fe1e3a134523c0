"""What a run will do, before it does it: images, repeats, steps, buckets, modules, and the size of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from loratools.base.model import Base
from loratools.dtypes import item_size
from loratools.train.callbacks.validation import validation_notes
from loratools.train.config.config import TrainConfig
from loratools.train.config.network import MOST_RANK
from loratools.train.data.dataset import Dataset
from loratools.train.dry_run import estimate
from loratools.train.dry_run.advice import advice, low_disk, outlasting
from loratools.train.dry_run.full_cost import FullCost, cheaper, cost_lines, full_cost
from loratools.train.dry_run.preset_numbers import preset_line, preset_source
from loratools.train.output.header_data import tags_by_folder
from loratools.train.step.text_states import cut_captions


@dataclass(frozen=True)
class FolderShare:
    """One folder's share of an epoch."""

    path: str
    images: int
    repeats: int
    regularisation: bool = False


@dataclass(frozen=True)
class PartShare:
    """One data set's share of an epoch: ``resolution`` (width, height), and (width, height, samples) of each bucket."""

    resolution: tuple[int, int]
    batch_size: int
    buckets: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class DryRun:
    """Counts of a run. ``samples`` are images shown in all; ``steps`` are optimiser steps in all.

    ``images`` are those that are trained on, ``held_out`` those that it is judged by.
    """

    name: str
    base: str
    preset: str
    folders: tuple[FolderShare, ...]
    images: int
    samples_per_epoch: int
    batches_per_epoch: int
    steps_per_epoch: int
    epochs: int
    samples: int
    steps: int
    batch_size: int
    buckets: tuple[tuple[int, int, int], ...]  # width, height, samples an epoch
    modules: int
    parameters: int
    file_bytes: int
    frequent_tags: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]
    memory_bytes: int  # of a step; rough, see estimate
    operations: float  # of all steps; rough
    parts: tuple[PartShare, ...] = ()
    tags: int = 0  # different ones
    source: str = ""  # whose numbers these are: the preset's guide
    numbers: str = ""  # the preset and what differs from it, in words
    learning: str = ""  # dim, alpha, rates, optimiser and schedule, in words
    held_out: int = 0
    warnings: tuple[str, ...] = ()
    files: int = 0  # that stay, of epochs and of steps
    full: FullCost | None = None  # of a full training
    cheaper: tuple[str, ...] = ()  # of a full training, what would take less memory

    def text(self) -> str:
        """For a person: one line a fact."""
        tags = ", ".join(f"{tag} ({count})" for tag, count in self.frequent_tags)
        return "\n".join(
            [
                f"{self.name} on {self.base}, {self.numbers or f'preset {self.preset}'}",
                *(f"  after {line}" for line in [self.source] if line),
                *(f"  {f.path}: {f.images} images x {_times(f)}" for f in self.folders),
                f"images x repeats: {self.images} images, {self.samples_per_epoch} samples an epoch",
                *(f"held out to judge by: {count} images" for count in [self.held_out] if count),
                f"steps: {self.samples_per_epoch} samples x {self.epochs} epochs / {self._per_step()} "
                f"= {self.steps} steps",
                *self._bucket_lines(),
                *(line for line in [self.learning] if line),
                f"{'network' if self.full is None else 'all weights of'}: {self.modules} modules, "
                f"{self.parameters:,} parameters, "
                f"{self.file_bytes / 2**20:.1f} MiB a file, {self.files * self.file_bytes / 2**20:.1f} MiB in all",
                *self._memory_lines(),
                f"tags: {self.tags} different ones; most frequent: {tags or 'none'}",
                *(f"warning: {warning}" for warning in self.warnings),
                *(f"note: {note}" for note in self.notes),
            ]
        )

    def _memory_lines(self) -> tuple[str, ...]:
        if self.full is None:
            return (f"memory: about {self.memory_bytes / 2**30:.1f} GiB (within a factor of two)",)
        less = f"less memory, one after the other: {', '.join(self.cheaper)}"
        return (*cost_lines(self.full), *([less] if self.cheaper else []))

    def _per_step(self) -> str:
        """What a step takes, and why it is more steps than the division says: the last batch of a bucket is smaller."""
        sizes = " or ".join(str(size) for size in dict.fromkeys(part.batch_size for part in self.parts))
        accumulated = -(-self.batches_per_epoch // self.steps_per_epoch)
        several = f" x {accumulated} batches a step" if accumulated > 1 else ""
        return f"batch {sizes}{several} ({self.batches_per_epoch} batches an epoch)"

    def _bucket_lines(self) -> list[str]:
        lines = []
        for number, part in enumerate(self.parts, 1):
            buckets = ", ".join(f"{width}x{height} ({count})" for width, height, count in part.buckets)
            width, height = part.resolution
            several = f" of data set {number} ({width}x{height}, batches of {part.batch_size})"
            lines.append(f"buckets{several if len(self.parts) > 1 else ''}: {buckets}")
        return lines


def with_whole_epochs(config: TrainConfig, dataset: Dataset) -> tuple[TrainConfig, Dataset]:
    """Both with the number of epochs that ``max_steps`` comes to over this data set, the last one whole."""
    if config.max_steps is None:
        return config, dataset
    epochs = -(-config.max_steps // steps_per_epoch(config, dataset))
    return config.model_copy(update={"epochs": epochs}), replace(dataset, epochs=epochs)


def steps_per_epoch(config: TrainConfig, dataset: Dataset) -> int:
    """Optimiser steps: batches, by as many as are accumulated."""
    return -(-dataset.batches_per_epoch(config.batch_size) // config.gradient_accumulation)


def make_dry_run(
    config: TrainConfig,
    base: Base,
    dataset: Dataset,
    sizes: Mapping[str, int],
    computed: int = 4,
    notes: Sequence[str] = (),
) -> DryRun:
    """What a run over ``dataset`` will do.

    Args:
        sizes: parameters of each module that is trained, by its canonical name.
        computed: bytes of the numbers that are computed with.
        notes: what a person should know of the config.
    """
    batches = dataset.batches_per_epoch(config.batch_size)
    steps = steps_per_epoch(config, dataset)
    parameters = sum(sizes.values())
    samples = dataset.samples_per_epoch
    tags: Counter[str] = Counter()
    for counts in tags_by_folder(dataset).values():
        tags.update(counts)
    parts = tuple(_part(config, dataset, number) for number in range(len(dataset.parts)))
    largest = max((_positions(*bucket[:2]) * part.batch_size for part in parts for bucket in part.buckets), default=0)
    positions = sum(_positions(*size) * count for size, count in dataset.bucket_counts().items())
    width = item_size(config.dtype)
    file_bytes = parameters * width + len(sizes) * (width + 500) + 8000  # about 500 bytes of header a module
    room = estimate.disk(config, steps * config.epochs, file_bytes, parameters)
    memory_bytes = estimate.memory(
        base, parameters, largest, computed, optimizer=config.optimizer, checkpoints=config.gradient_checkpointing
    )
    full = None
    if config.is_full:
        full = full_cost(config, base, parameters, largest, computed, steps * config.epochs)
        file_bytes, room, memory_bytes = full.file, full.disk, full.memory
    return DryRun(
        name=config.name,
        base=config.base,
        preset=config.preset,
        folders=tuple(FolderShare(str(f.path), f.count, f.repeats, f.regularisation) for f in dataset.folders),
        images=len(dataset.items) - len(dataset.held_out),
        samples_per_epoch=samples,
        batches_per_epoch=batches,
        steps_per_epoch=steps,
        epochs=config.epochs,
        samples=samples * config.epochs,
        steps=steps * config.epochs,
        batch_size=config.batch_size,
        buckets=tuple((*size, count) for size, count in dataset.bucket_counts().items()),
        modules=len(sizes),
        parameters=parameters,
        file_bytes=file_bytes,
        frequent_tags=tuple(tags.most_common(10)),
        notes=(
            *(*notes, *dataset.notes, *validation_notes(config, dataset)),
            *outlasting(config, dataset, steps * config.epochs, batches * config.epochs),
        ),
        memory_bytes=memory_bytes,
        operations=estimate.operations(base, positions * config.epochs),
        parts=parts,
        tags=len(tags),
        source=preset_source(config),
        numbers=preset_line(config),
        learning=_learning(config),
        held_out=len(dataset.held_out),
        warnings=(*advice(config, dataset), *cut_captions(base, config, dataset), *low_disk(config, room)),
        files=estimate.files(config, steps * config.epochs),
        full=full,
        cheaper=tuple(cheaper(config, base, parameters, largest, steps * config.epochs)) if full else (),
    )


def _part(config: TrainConfig, dataset: Dataset, number: int) -> PartShare:
    part, counts = dataset.parts[number], dataset.bucket_counts(number)
    buckets = tuple((*size, count) for size, count in counts.items())
    return PartShare(part.rules.resolution, part.batch_size or config.batch_size, buckets)


def _learning(config: TrainConfig) -> str:
    unet, text = config.learned_rates()
    rates = f"rates {unet:g} (UNet) and {text:g} (text encoder)" if text else f"rate {unet:g} (UNet alone)"
    warm = f" after a warm-up of {config.lr_warmup:g}" if config.lr_warmup else ""
    kind = {"loha": "LoHa of ", "lokr": "LoKr of "}.get(config.network_type, "")
    if config.is_full:
        held = "bf16 weights, rounded stochastically" if config.weights == "bf16" else "fp32 weights"
        within = ", stepped within the backward pass" if config.steps_in_backward() else ""
        twice = " (clipping takes a second pass)" if within and config.max_grad_norm else ""
        return f"learning: all weights, {rates}, {config.optimizer}, {config.lr_scheduler}{warm}; {held}{within}{twice}"
    size = f"dim {config.dim}, alpha {config.network_alpha:g}"
    if config.dim > MOST_RANK:  # of a LoKr
        size = f"whole matrices (dim {config.dim})"
    return f"learning: {kind}{size}, {rates}, {config.optimizer}, {config.lr_scheduler}{warm}"


def _positions(width: int, height: int) -> int:
    return width * height // 64


def _times(folder: FolderShare) -> str:
    return "as often as the others need (regularisation)" if folder.regularisation else str(folder.repeats)
