"""How a grid is rendered and drawn: plain settings, read by the engine, the sheet and the page."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from loratools.errors import GridError

FORMATS = ("png", "jpg", "webp")  # of a sheet's file


@dataclass(frozen=True)
class EngineOptions:
    """How an engine works; none of it changes what a picture shows beyond rounding.

    Args:
        batch: pictures a UNet call, at most.
        graphs: replay the UNet as a CUDA graph (on CUDA, and not with ``offload``).
        compiled: compile the UNet's blocks: up to a minute at first, some seconds later on, for an eighth less time a
            picture; ``None`` where so many pictures are asked for that it surely pays.
        fused: weights laid out channels last and norms fused by Triton: ``None`` where that is faster (on CUDA, in half
            precision), ``True`` everywhere, by torch's own operations where Triton does not run, ``False`` never.
        offload: keep only the model that works on the device.
        sliced: decode pictures one by one.
        tiled: decode each picture in tiles, for sizes whose decoding does not fit otherwise.
        mixed: pictures of several stacks in one batch: ``None`` where that is faster (on CUDA, if stacks have few
            pictures), ``True`` wherever it can be, ``False`` never.
        prompts: encoded prompts that are kept, each for one state of the text encoders.
    """

    batch: int = 8
    graphs: bool = True
    compiled: bool | None = None
    fused: bool | None = None
    offload: bool = False
    sliced: bool = False
    tiled: bool = False
    mixed: bool | None = None
    prompts: int = 4096


@dataclass(frozen=True)
class SheetOptions:
    """What is drawn beside ``grid.png`` and ``grid.html``, and with which words.

    Args:
        formats: further files of the sheet: ``webp``, ``jpg``, or ``png`` (of use with ``full``).
        full: these show pictures unreduced; a sheet of more than 200 megapixels is cut into several files.
        embed: the page carries its pictures; where it is None, as long as they are no more than 64 MiB together.
        labels: value -> what it is called.
        captions: lines under the sheet.
    Raises:
        GridError: for an unknown format.
    """

    formats: tuple[str, ...] = ()
    full: bool = False
    embed: bool | None = None
    labels: dict[str, str] = field(default_factory=dict)
    captions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in self.formats:
            if name not in FORMATS:
                raise GridError(f"'{name}' is no format for a sheet; use {', '.join(FORMATS)}")


@dataclass(frozen=True)
class ScoreRequest:
    """What pictures are scored by; see :mod:`loratools.preview.judge.scores`.

    Args:
        training: a folder of training images, the nearest of which is looked for.
        held_out: a folder of images that were not trained on.
        models: folders of a CLIP or DINO, to compare by.
    """

    training: Path | None = None
    held_out: Path | None = None
    models: tuple[Path, ...] = ()
