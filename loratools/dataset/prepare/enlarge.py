"""Small pictures enlarged: by a super-resolution model where one is named, else by Lanczos."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from loratools.dataset.folder import Size
from loratools.dataset.onnx_model import OnnxModel
from loratools.digests import file_digest
from loratools.errors import FileError, FormatError, UnavailableError

_Values = npt.NDArray[Any]
_TILE: Final = 512  # side of what a model sees at a time, in pixels
_OVERLAP: Final = 32  # of a tile with its neighbour, half of which is thrown away
_MOST_PASSES: Final = 3
BLURRY: Final = 1.5  # times a side from which on Lanczos is to be seen


class Upscaler(Protocol):
    """Makes pictures larger by a whole factor."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def identity(self) -> str:
        """What determines its pictures, in words that change when it does."""

    def enlarge(self, image: Image.Image) -> Image.Image:
        """An RGB picture, larger."""


class OnnxUpscaler:
    """A super-resolution graph: RGB 0 to 1, channels first, any size in and a multiple of it out."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        """Open its file.

        Raises:
            UnavailableError, FormatError: see :class:`OnnxModel`; FormatError also if it takes no pictures.
        """
        self._model = OnnxModel(path, device)
        shape = self._model.input_shape
        if len(shape) != 4 or shape[1] not in (3, None):
            raise FormatError(f"{path} takes no picture of three channels (its input is {shape}); name an upscaler")
        sides = [side for side in shape[2:] if side is not None]
        self._side = min(sides) if sides else None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """Its file's name."""
        return self._model.path.name

    @property
    def identity(self) -> str:
        """Its file's name and digest."""
        return self._model.identity

    def enlarge(self, image: Image.Image) -> Image.Image:
        """An RGB picture, larger.

        Raises:
            FormatError: if the graph fails, or its result is no picture of a multiple of the size.
        """
        with self._lock:
            return _tiled(image, self._run, self._side)

    def _run(self, values: _Values) -> _Values:
        return self._model.run(values)[0]


class SpandrelUpscaler:
    """A super-resolution model in PyTorch's own files (ESRGAN and its kin), read by spandrel."""

    def __init__(self, path: Path, device: str = "auto") -> None:
        """Load it.

        Raises:
            UnavailableError: if spandrel or the torchvision that it needs is missing or does not fit.
            FormatError: if the file is no model that it knows.
        """
        try:
            from spandrel import ModelLoader
        except (ImportError, RuntimeError, AttributeError) as error:  # an unfit torchvision fails in any of these ways
            raise UnavailableError(
                f"{path.name} needs spandrel, which cannot be imported ({error}); pip install spandrel, and a "
                "torchvision that fits your torch: pip install torchvision from the index that torch is from, or name "
                "an .onnx file instead"
            ) from error
        import torch

        gpu = "cuda" if torch.cuda.is_available() else "cpu"
        self._device = torch.device(gpu if device == "auto" else device)
        try:
            self._model: Any = ModelLoader(device=self._device).load_from_file(str(path)).eval()
        except Exception as error:  # spandrel raises its own classes, torch and pickle theirs
            raise FormatError(f"{path} is no upscaler that spandrel knows ({error}); name another") from error
        self._path, self._torch, self._lock = path, torch, threading.Lock()

    @property
    def name(self) -> str:
        """Its file's name."""
        return self._path.name

    @property
    def identity(self) -> str:
        """Its file's name and digest."""
        return f"{self._path.name} {file_digest(self._path)[:12]}"

    def enlarge(self, image: Image.Image) -> Image.Image:
        """An RGB picture, larger."""
        with self._lock, self._torch.inference_mode():
            return _tiled(image, self._run, None)

    def _run(self, values: _Values) -> _Values:
        result: _Values = self._model(self._torch.from_numpy(values).to(self._device)).float().cpu().numpy()
        return result


def open_upscaler(path: str | Path, device: str = "auto") -> Upscaler:
    """The upscaler in a file: ``.onnx``, or one that spandrel reads (``.pth``, ``.pt``, ``.ckpt``, ``.safetensors``).

    Raises:
        FileError: if there is no such file.
        UnavailableError, FormatError: if it cannot be loaded.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise FileError(f"there is no upscaler {file}; name an .onnx, .pth or .safetensors file")
    return OnnxUpscaler(file, device) if file.suffix.lower() == ".onnx" else SpandrelUpscaler(file, device)


def enlarged(image: Image.Image, size: Size, upscaler: Upscaler | None) -> Image.Image:
    """An RGB picture at ``size``: by the model until it is large enough, then by Lanczos."""
    if upscaler is not None:
        for _ in range(_MOST_PASSES):
            if image.width >= size[0] and image.height >= size[1]:
                break
            larger = upscaler.enlarge(image)
            if larger.width <= image.width:
                break
            image = larger
    return image if image.size == size else image.resize(size, Image.Resampling.LANCZOS)


def _tiled(image: Image.Image, run: Callable[[_Values], _Values], fixed: int | None) -> Image.Image:
    """The whole picture by tiles, each with its neighbourhood, of which only the inner part is used.

    Args:
        fixed: side of the only tile that the model takes; None where it takes any.
    """
    values = np.asarray(image, dtype=np.float32).transpose(2, 0, 1) / 255
    margin = _OVERLAP // 2 if fixed is None or fixed > 2 * _OVERLAP else 0
    side = (fixed or _TILE) - 2 * margin
    padded = np.pad(values, ((0, 0), (margin, margin + side), (margin, margin + side)), mode="symmetric")
    result: _Values | None = None
    factor = 0
    for top, left in _starts(values.shape, side):
        high = fixed or min(side, values.shape[1] - top) + 2 * margin
        wide = fixed or min(side, values.shape[2] - left) + 2 * margin
        tile = padded[None, :, top : top + high, left : left + wide]
        output = run(np.ascontiguousarray(tile))[0]
        if result is None:
            factor = output.shape[1] // high
            if factor < 1 or output.shape != (3, high * factor, wide * factor):
                raise FormatError(f"an upscaler made {output.shape} of {tile.shape[1:]}; name another")
            result = np.empty((3, values.shape[1] * factor, values.shape[2] * factor), dtype=np.float32)
        inner = output[:, margin * factor :, margin * factor :]
        down, across = min(side, values.shape[1] - top) * factor, min(side, values.shape[2] - left) * factor
        result[:, top * factor : top * factor + down, left * factor : left * factor + across] = inner[:, :down, :across]
    if result is None:
        raise FormatError("a picture without pixels cannot be enlarged; take it out")
    return Image.fromarray(np.rint(np.clip(result, 0, 1) * 255).astype(np.uint8).transpose(1, 2, 0))


def _starts(shape: tuple[int, ...], side: int) -> Iterator[tuple[int, int]]:
    for top in range(0, shape[1], side):
        for left in range(0, shape[2], side):
            yield top, left
