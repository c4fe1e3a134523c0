"""What a run will do, before it does it: images, repeats, steps, buckets, modules, and the size of its files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from loratools.base.model import Base
from loratools.train import estimate
from loratools.train.config import TrainConfig
from loratools.train.dataset import Dataset
from loratools.train.warnings import warnings


@dataclass(frozen=True)
class FolderPlan:
    """One folder's share of an epoch."""

    path: str
    images: int
    repeats: int


@dataclass(frozen=True)
class TrainPlan:
    """Counts of a run. ``samples`` are images shown in all; ``steps`` are optimiser steps in all."""

    name: str
    base: str
    preset: str
    folders: tuple[FolderPlan, ...]
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
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def text(self) -> str:
        """For a person: one line a fact."""
        folders = [f"  {f.path}: {f.images} images x {f.repeats}" for f in self.folders]
        buckets = ", ".join(f"{width}x{height} ({count})" for width, height, count in self.buckets)
        tags = ", ".join(f"{tag} ({count})" for tag, count in self.frequent_tags)
        return "\n".join([
            f"{self.name} on {self.base}, preset {self.preset}",
            *folders,
            f"images x repeats = {self.samples_per_epoch} samples an epoch, in {self.batches_per_epoch} batches of "
            f"{self.batch_size}",
            f"{self.epochs} epochs: {self.samples} samples, {self.steps} optimiser steps",
            f"buckets: {buckets}",
            f"network: {self.modules} modules, {self.parameters:,} parameters, "
            f"{self.file_bytes / 2**20:.1f} MiB a file, {self.epochs * self.file_bytes / 2**20:.1f} MiB in all",
            f"memory: about {self.memory_bytes / 2**30:.1f} GiB (within a factor of two)",
            f"most frequent tags: {tags or 'none'}",
            *(f"warning: {warning}" for warning in self.warnings),
            *(f"note: {note}" for note in self.notes),
        ])  # fmt: skip


def make_plan(config: TrainConfig, base: Base, dataset: Dataset, sizes: Mapping[str, int]) -> TrainPlan:
    """The plan of a run over ``dataset`` that trains modules of these ``sizes`` in parameters (by canonical name)."""
    batches = dataset.batches_per_epoch(config.batch_size)
    steps = -(-batches // config.gradient_accumulation)
    parameters = sum(sizes.values())
    samples = dataset.samples_per_epoch
    from loratools.train.captions import written_tags

    tags = Counter(
        tag for item in dataset.items for tag in written_tags(item.caption, dataset.folders[item.folder].rules)
    )
    largest = max(size[0] * size[1] // 64 for size in dataset.bucket_counts())
    positions = sum(size[0] * size[1] // 64 * count for size, count in dataset.bucket_counts().items())
    computed = 2 if config.mixed_precision in ("fp16", "bf16") else 4
    width = {"fp16": 2, "bf16": 2, "fp32": 4}[config.dtype]
    return TrainPlan(
        name=config.name,
        base=config.base,
        preset=config.preset,
        folders=tuple(FolderPlan(str(f.path), f.count, f.repeats) for f in dataset.folders),
        images=len(dataset.items),
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
        file_bytes=parameters * width + len(sizes) * (width + 500) + 8000,  # about 500 bytes of header a module
        frequent_tags=tuple(tags.most_common(10)),
        notes=dataset.notes,
        memory_bytes=estimate.memory(base, parameters, config.batch_size, largest, computed),
        operations=estimate.operations(base, positions * config.epochs),
        warnings=warnings(config, dataset),
    )
