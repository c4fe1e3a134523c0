"""YOLO detectors as ONNX files, in the layout of deepghs' repositories.

The picture as RGB / 255, channels first. A graph of a fixed size gets it squeezed to that size; one that is open gets
it at most 1216 pixels a side, rounded up to 32. The output is either (4 + classes, N), boxes by centre and size with a
score for each class, or (N, 6), corners with score and class after suppression.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from loratools.dataset.detect.boxes import Box, BoxKind, suppress
from loratools.dataset.folder import Size
from loratools.dataset.onnx_model import OnnxModel
from loratools.errors import FormatError

_LARGEST, _STRIDE = 1216, 32
# confidence and intersection over union at which each kind is kept, as deepghs' default models were measured
_CONFIDENCE: Final[dict[BoxKind, float]] = {"face": 0.25, "head": 0.4, "halfbody": 0.5, "person": 0.3, "text": 0.3}
_SHARED: Final[dict[BoxKind, float]] = {"face": 0.7, "head": 0.7, "halfbody": 0.7, "person": 0.5, "text": 0.5}


class YoloDetector:
    """One detector of one kind of box."""

    def __init__(self, path: str | Path, kind: BoxKind, device: str = "auto", confidence: float | None = None) -> None:
        """Open its file.

        Args:
            confidence: least score of a box; None: what ``threshold.json`` beside the file says, else its kind's.
        Raises:
            UnavailableError, FormatError: see :class:`OnnxModel`; FormatError also if it takes no pictures.
        """
        self.kind: BoxKind = kind
        self.model = OnnxModel(path, device, extra="face")
        shape = self.model.input_shape
        if len(shape) != 4 or shape[1] not in (3, None):
            raise FormatError(f"{path} takes no picture of three channels (its input is {shape}); name a YOLO detector")
        self.confidence = confidence if confidence is not None else _threshold(Path(path), kind)

    @property
    def name(self) -> str:
        """Its file's name."""
        return self.model.path.name

    @property
    def identity(self) -> str:
        """Its file's name and digest, and the least score of a box."""
        return f"{self.model.identity} {self.confidence:g}"

    def boxes(self, image: Image.Image) -> tuple[Box, ...]:
        """The boxes in an RGB picture, from the surest on."""
        size = self._input_size(image.size)
        values = np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=np.float32) / 255
        output = self.model.run(values.transpose(2, 0, 1)[None])[0]
        across, down = image.width / size[0], image.height / size[1]
        found = (box.scaled(across, down).within(image.size) for box in self._read(output))
        return suppress(found, _SHARED[self.kind])

    def _input_size(self, size: Size) -> Size:
        height, width = self.model.input_shape[2:]
        if height is not None and width is not None:
            return width, height
        factor = min(_LARGEST / max(size), 1)
        rounded = [max(_STRIDE, -(-round(side * factor) // _STRIDE) * _STRIDE) for side in size]
        return rounded[0], rounded[1]

    def _read(self, output: npt.NDArray[Any]) -> list[Box]:
        rows = output[0] if output.ndim == 3 else output
        if rows.ndim != 2:
            raise FormatError(f"{self.model.path} gives {output.shape}, which are no boxes; name a YOLO detector")
        if rows.shape[1] == 6:  # (N, 6): corners, score, class, of however many boxes; the other way N is of thousands
            return [Box(*map(float, row[:5])) for row in rows if row[4] >= self.confidence]
        if rows.shape[0] < 5:
            raise FormatError(f"{self.model.path} gives {output.shape}, which are no boxes; name a YOLO detector")
        scores = rows[4:].max(axis=0)
        kept = rows[:4, scores >= self.confidence].T
        pairs = zip(kept, scores[scores >= self.confidence], strict=True)
        return [Box(x - w / 2, y - h / 2, x + w / 2, y + h / 2, float(score)) for (x, y, w, h), score in pairs]


def _threshold(path: Path, kind: BoxKind) -> float:
    """What the model's own ``threshold.json`` says, else the default of its kind."""
    beside = path.with_name("threshold.json")
    try:
        return float(json.loads(beside.read_text(encoding="utf-8"))["threshold"])
    except FileNotFoundError:
        return _CONFIDENCE[kind]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{beside} names no 'threshold' ({error}); mend it, or take it away") from error
