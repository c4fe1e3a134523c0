"""``loratools grid``: from the command's flags to the request that the renderer reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from loratools.errors import GridError

if TYPE_CHECKING:
    from loratools.preview.request.options import ScoreRequest, SheetOptions
    from loratools.preview.request.read_rows import NameLookup
    from loratools.preview.request.request import GridRequest


@dataclass(frozen=True)
class GridFlags:
    """What ``grid`` is asked for, by the names of its options."""

    rows: tuple[str, ...]
    base: str | None
    weights: str | None
    x: str | None
    y: str | None
    z: str | None
    no_base: bool
    most: int | None
    prompts: tuple[str, ...]
    negative: str | None
    seeds: str | None
    steps: int | None
    cfg: float | None
    sampler: str | None
    size: str | None
    clip_skip: int | None
    frames: int | None
    noise: str
    embeddings: str | None
    allow_unknown: bool
    drop: tuple[str, ...]
    batch_size: int
    compiled: bool | None
    mixed: bool | None
    offload: bool
    sliced: bool
    tiled: bool
    out: str
    title: str
    labels: tuple[str, ...]
    captions: tuple[str, ...]
    formats: tuple[str, ...]
    full_size: bool
    embed: bool | None
    score: bool
    score_images: str | None
    held_out: str | None
    score_models: tuple[str, ...]
    redraw: bool
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    processes: str | None
    launch: str | None
    device: str
    dtype: str | None
    as_json: bool
    force: bool

    @property
    def axes(self) -> dict[str, str]:
        """``x``, ``y``, ``z`` -> ``KIND: VALUES``, as far as they are given."""
        slots = {"x": self.x, "y": self.y, "z": self.z}
        return {slot: text for slot, text in slots.items() if text is not None}


def grid_request(flags: GridFlags, sheet: SheetOptions, scores: ScoreRequest | None) -> GridRequest:
    """What the renderer is asked for, as a recipe's ``grid`` step asks it.

    Raises:
        GridError: for an axis, seeds or a size that cannot be read.
    """
    from loratools.preview.request.axes import parse_axis
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.request import GridRequest, ModelRequest, SamplingRequest
    from loratools.preview.request.row_text import RowText

    _check_required(flags)
    size = parse_size(flags.size) if flags.size else None
    return GridRequest(
        rows=[RowText.typed(row) for row in flags.rows],
        axes=tuple(parse_axis(text, slot) for slot, text in flags.axes.items()),
        weights=flags.weights,
        prompts=flags.prompts,
        seeds=parse_seeds(flags.seeds) if flags.seeds else None,
        sampling=SamplingRequest(
            negative=flags.negative,
            steps=flags.steps,
            cfg=flags.cfg,
            sampler=flags.sampler,
            size=size,
            clip_skip=flags.clip_skip,
            noise=flags.noise,
            frames=flags.frames,
        ),
        model=ModelRequest(
            flags.base,
            device=flags.device,
            dtype=flags.dtype,
            embeddings=Path(flags.embeddings) if flags.embeddings else None,
        ),
        base_alone=not flags.no_base,
        most=flags.most,
        engine=EngineOptions(
            flags.batch_size,
            compiled=flags.compiled,
            mixed=flags.mixed,
            offload=flags.offload,
            sliced=flags.sliced,
            tiled=flags.tiled,
        ),
        title=flags.title,
        sheet=sheet,
        score=scores,
    )


def _check_required(flags: GridFlags) -> None:
    """Raise a usage error unless prompts and a base are named, by an option or by an axis."""
    kinds = [text.partition(":")[0].strip().lower() for text in flags.axes.values()]
    if not flags.prompts and not any(kind.startswith("prompt") for kind in kinds):
        raise click.UsageError("Missing option '--prompt': give one or more, or an axis of them.")
    if flags.base is None and not {"base", "model", "checkpoint", "checkpoint name"} & set(kinds):
        raise click.UsageError("Missing option '--base': name a base model, or an axis of them.")


def name_lookup(flags: GridFlags) -> NameLookup:
    """Names are looked for in the current folder, those of LoRAs in ``--lora-dir`` too."""
    from loratools.library.pictures import name_lookup as lookup
    from loratools.library.terms import TermReading

    missing = None if flags.missing is None else float(flags.missing)
    return lookup(
        TermReading(flags.lora_dirs, flags.presets, missing, allow_unknown=flags.allow_unknown, drop=flags.drop)
    )


def sheet_options(flags: GridFlags) -> SheetOptions:
    """The files of the sheet and the words on it.

    Raises:
        GridError: for a label that is not VALUE=TEXT.
    """
    from loratools.preview.request.options import SheetOptions

    words = {}
    for label in flags.labels:
        value, equals, text = label.rpartition("=")
        if not equals or not value:
            raise GridError(f"--label '{label}' should be VALUE=TEXT, such as \"style@8=epoch 8\"")
        words[value] = text
    if flags.full_size and not flags.formats:
        raise GridError("--full-size goes with --sheet; say which format, such as --sheet webp")
    return SheetOptions(flags.formats, flags.full_size, flags.embed, words, flags.captions)


def score_request(flags: GridFlags) -> ScoreRequest | None:
    """What ``--score`` compares with; None without it."""
    from loratools.preview.request.options import ScoreRequest

    training, held_out = (Path(folder) if folder else None for folder in (flags.score_images, flags.held_out))
    scores = ScoreRequest(training, held_out, tuple(Path(name) for name in flags.score_models))
    if flags.score:
        return scores
    if scores != ScoreRequest():
        raise click.UsageError("--score-images, --held-out and --score-model say what --score compares with; add it.")
    return None
