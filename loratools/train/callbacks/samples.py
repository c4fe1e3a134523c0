"""Pictures that a run draws of itself: the same prompts and noise each time, so that only the weights differ."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from loratools.adapter.files.file import open_adapter
from loratools.base.generate import PictureRequest, generate
from loratools.base.infotext import LoraUse, PictureInfo, infotext, write_png
from loratools.base.model import Base
from loratools.base.to_device import release_cache
from loratools.errors import TrainingError
from loratools.train.callbacks.callback import Callback, RunView, due
from loratools.train.callbacks.progress import Progress
from loratools.train.callbacks.sample_prompts import SampleRequest
from loratools.train.callbacks.sample_sheet import draw_sheet
from loratools.train.callbacks.tensorboard import NoTensorBoard, TensorBoard
from loratools.train.callbacks.validation import eagerly
from loratools.train.output.state import Position


class SampleCallback(Callback):
    """Draws with the weights that a file of this moment holds, after that file is written: a kill loses pictures only,
    and resuming draws those again.

    Args:
        samples: the pictures, in the order of their numbers.
    """

    name = "samples"

    def __init__(
        self, run: RunView, samples: Sequence[SampleRequest], board: TensorBoard | NoTensorBoard, bar: Progress
    ) -> None:
        self._run, self._samples, self._board, self._bar = run, samples, board, bar

    def due(self, step: int) -> bool:
        return due(self._run.config.sample_every_steps, step)

    def on_train_begin(self, position: Position) -> None:
        if self._is_due(position):
            self._draw(position, missing=True)

    def on_saved(self, position: Position) -> None:
        if self._is_due(position):
            self._draw(position, missing=False)

    def _is_due(self, position: Position) -> bool:
        """Whether the config asks for pictures at this moment."""
        config = self._run.config
        if position.step == 0:
            return config.sample_at_first
        ended = position.into == 0 and due(config.samples_every_epochs, position.epoch)
        return ended or self.due(position.step)

    def _draw(self, position: Position, *, missing: bool) -> None:
        """The pictures of this moment, or those of them that are missing, and the sheet of all moments."""
        run, ranks = self._run, self._run.ranks
        if ranks.main:
            paths = [
                run.folder.sample(position.epoch, position.step, number, ended=position.into == 0)
                for number in range(1, len(self._samples) + 1)
            ]
            todo = [(number, path) for number, path in enumerate(paths, start=1) if not (missing and path.is_file())]
            lora = self._lora(position) if todo else None
            with run.saved_weights(), eagerly(run.config), _decoding(run.base) if todo else contextlib.nullcontext():
                for number, path in todo:
                    self._draw_one(number, path, position, lora)
            draw_sheet(run.folder.samples, [own.request.prompt for own in self._samples])
            self._board.flush()
        ranks.wait()

    def _draw_one(self, number: int, path: Path, position: Position, lora: LoraUse | None) -> None:
        sample = self._samples[number - 1]
        self._bar.doing(f"sample {number}/{len(self._samples)}")
        with self._run.scaled_weights(sample.strength.te, sample.strength.unet):
            pixels = self._picture(sample.request)
        from PIL import Image

        made = {"run": self._run.config.name, "epoch": position.epoch, "step": position.step, "number": number}
        write_png(Image.fromarray(pixels), path, infotext(self._info(sample, position, lora)), {"sample": made})
        self._board.picture(f"samples/{number:02d}", pixels, position.step)

    def _picture(self, request: PictureRequest) -> np.ndarray:
        """uint8 (height, width, 3); decoded in tiles if the whole does not fit the memory beside a training SDXL."""
        base = self._run.base
        with contextlib.suppress(torch.OutOfMemoryError):
            return _draw(base, request)
        release_cache(base.device)
        try:
            with _in_tiles(base.vae):
                return _draw(base, request)
        except torch.OutOfMemoryError as error:
            height, width = request.size
            raise TrainingError(
                f"the GPU's memory does not suffice to draw a sample of {width}x{height} beside the "
                "training; give smaller --w and --h, or leave sample_prompts out, and go on with "
                "`resume=True`"
            ) from error

    def _lora(self, position: Position) -> LoraUse | None:
        """The file of these weights, if they have one."""
        folder = self._run.folder
        path = folder.epoch(position.epoch) if position.into == 0 else folder.step(position.step)
        return LoraUse(path.stem, open_adapter(path).digest) if position.step and path.is_file() else None

    def _info(self, sample: SampleRequest, position: Position, lora: LoraUse | None) -> PictureInfo:
        base, request, strength = self._run.base, sample.request, sample.strength
        seen = [lora] if lora is not None and (strength.te or strength.unet) else []
        return PictureInfo(
            prompt=request.prompt,
            negative=request.negative,
            steps=request.steps,
            sampler=request.sampler,
            cfg=request.cfg,
            seed=request.seed,
            size=request.size,
            model=Path(base.name).stem,
            model_digest=base.digest,
            clip_skip=request.clip_skip,
            loras=[replace(lora, te=strength.te, unet=strength.unet) for lora in seen],
            extra={"Training step": str(position.step)},
        )


def _draw(base: Base, request: PictureRequest) -> np.ndarray:
    """uint8 (height, width, 3), with what is in the base's modules now; a grid's picture is the same."""
    (picture,) = generate(base, [request])
    pixels: np.ndarray = picture
    return pixels


@contextlib.contextmanager
def _decoding(base: Base) -> Iterator[None]:
    """Inside the block the VAE is on the base's device; afterwards where it was, for the sake of small cards."""
    before = next(base.vae.parameters()).device
    try:
        base.vae.to(base.device)
        yield
    finally:
        base.vae.to(before)


@contextlib.contextmanager
def _in_tiles(vae: Any) -> Iterator[None]:
    """Inside the block pictures are decoded in overlapping tiles of half the VAE's own size."""
    before = vae.tile_sample_min_size, vae.tile_latent_min_size
    try:
        vae.tile_sample_min_size, vae.tile_latent_min_size = (size // 2 for size in before)
        vae.enable_tiling()
        yield
    finally:
        vae.disable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = before
