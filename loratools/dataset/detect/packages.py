"""Detectors whose models come in a package: faces by animeface, text by rapidocr. Both work without a network."""

from __future__ import annotations

import logging
from typing import Any, Final

import numpy as np
from PIL import Image

from loratools.dataset.detect.boxes import Box, BoxKind, suppress
from loratools.errors import UnavailableError

_LARGEST_FACE_SIDE = 640  # animeface looks at every place and size; larger pictures are shrunk for it
_LEAST_LIKELY = 0.0
_TEXT_SCORE: Final = 0.5
_TEXT_MARGIN: Final = 0.12  # of a line's height, around it, so that no edge of a letter is left


class AnimeFaceDetector:
    """Frontal faces of drawn people, by animeface."""

    kind: BoxKind = "face"
    name = identity = "animeface"

    def __init__(self) -> None:
        """Load it.

        Raises:
            UnavailableError: if animeface is not installed.
        """
        try:
            import animeface
        except ImportError as error:
            raise UnavailableError(
                "animeface is not installed; pip install 'loratools[face]' (there is none for Windows: name an ONNX "
                "file of a face or head detector there)"
            ) from error
        self._detect: Any = animeface.detect

    def boxes(self, image: Image.Image) -> tuple[Box, ...]:
        """The faces in an RGB picture, from the surest on."""
        factor = min(1.0, _LARGEST_FACE_SIDE / max(image.size))
        small = image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))
        found = []
        for face in self._faces(small):
            place = face.face.pos
            box = Box(place.x, place.y, place.x + place.width, place.y + place.height, float(face.likelihood))
            found.append(box.scaled(image.width / small.width, image.height / small.height).within(image.size))
        return suppress((box for box in found if box.score >= _LEAST_LIKELY), 0.3)

    def _faces(self, image: Image.Image) -> list[Any]:
        try:
            return list(self._detect(image))
        except AttributeError as error:  # animeface 2.0.3 asks for Image.getdata, which Pillow 14 has no more
            raise UnavailableError(
                f"animeface does not work with this Pillow ({error}); pip install 'pillow<14', or name an ONNX file of "
                "a face or head detector"
            ) from error


class TextDetector:
    """Lines of text in any script, by rapidocr's detector."""

    kind: BoxKind = "text"
    name = identity = "rapidocr"

    def __init__(self) -> None:
        """Load it.

        Raises:
            UnavailableError: if rapidocr is not installed.
        """
        try:
            from rapidocr import RapidOCR
        except ImportError as error:
            raise UnavailableError(
                f"rapidocr cannot be imported ({error}); pip install 'loratools[text]', or give boxes by a JSON"
            ) from error
        quiet = {"Global.log_level": "critical", "Global.use_cls": False, "Global.use_rec": False}
        self._engine: Any = RapidOCR(params=quiet)
        logging.getLogger("RapidOCR").setLevel(logging.CRITICAL)

    def boxes(self, image: Image.Image) -> tuple[Box, ...]:
        """The lines of text in an RGB picture, from the surest on, each with a small margin."""
        values = np.ascontiguousarray(np.asarray(image)[..., ::-1])
        result = self._engine(values, use_det=True, use_cls=False, use_rec=False)
        corners = getattr(result, "boxes", None)
        if corners is None:
            return ()
        found = []
        for points, score in zip(corners, getattr(result, "scores", None) or [1.0] * len(corners), strict=False):
            across, down = [float(point[0]) for point in points], [float(point[1]) for point in points]
            margin = _TEXT_MARGIN * min(max(across) - min(across), max(down) - min(down))
            box = Box(min(across) - margin, min(down) - margin, max(across) + margin, max(down) + margin, float(score))
            found.append(box.within(image.size))
        return suppress((box for box in found if box.score >= _TEXT_SCORE), 0.5)
