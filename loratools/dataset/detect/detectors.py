"""The detectors that a command names, put together; boxes that a person gave count before theirs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from loratools.dataset.detect.boxes import BOX_KINDS, Box, Boxes, BoxKind
from loratools.dataset.detect.packages import AnimeFaceDetector, TextDetector
from loratools.dataset.detect.yolo import YoloDetector
from loratools.errors import DatasetError, FileError, OptionError


class Detector(Protocol):
    """Finds boxes of one kind."""

    @property
    def kind(self) -> BoxKind:
        """What its boxes are around."""

    @property
    def name(self) -> str:
        """What it is called."""

    def boxes(self, image: Image.Image) -> tuple[Box, ...]:
        """The boxes in an RGB picture, from the surest on."""


_BY_PACKAGE: Mapping[str, Callable[[], Detector]] = {"animeface": AnimeFaceDetector, "rapidocr": TextDetector}


class Detectors:
    """Several detectors as one.

    Attributes:
        names: ``kind=name`` of each, which says by what boxes were found.
        given: a digest of the boxes that a person gave; empty if there are none.
    """

    def __init__(self, detectors: Sequence[Detector] = (), given: Mapping[str, Boxes] | None = None) -> None:
        self._detectors = tuple(detectors)
        self._given = given or {}
        self._lock = threading.Lock()  # detectors share no state, but use all cores themselves
        self.given = sha256(repr(sorted(self._given.items())).encode()).hexdigest() if self._given else ""
        self.names = tuple(f"{detector.kind}={detector.name}" for detector in self._detectors)

    def __bool__(self) -> bool:
        return bool(self._detectors or self._given)

    @property
    def finds_text(self) -> bool:
        """Whether one of them finds text, or boxes of text were given."""
        return any(detector.kind == "text" for detector in self._detectors) or any(
            boxes.text for boxes in self._given.values()
        )

    def boxes(self, file: str, image: Image.Image) -> Boxes:
        """All boxes in a picture (RGB) of the dataset folder; ``file`` is its path there."""
        given = self._given.get(file, self._given.get(Path(file).name, Boxes()))
        found: dict[BoxKind, tuple[Box, ...]] = {
            kind: tuple(box.within(image.size) for box in getattr(given, kind)) for kind in BOX_KINDS
        }
        for detector in self._detectors:
            if not getattr(given, detector.kind):
                with self._lock:
                    found[detector.kind] = (*found[detector.kind], *detector.boxes(image))
        return replace(Boxes(), **found)


def open_detectors(names: Sequence[str], boxes: Path | None = None, device: str = "auto") -> Detectors:
    """The detectors that options name.

    Args:
        names: ``animeface``, ``rapidocr``, or ``KIND=FILE`` where KIND is face, head, halfbody, person or text and FILE
            an ONNX file, or a folder on the hub such as ``deepghs/anime_head_detection/head_detect_v2.0_s``.
        boxes: a JSON file of boxes by hand, see :func:`given_boxes`.
    Raises:
        OptionError: for a name that is none of these.
        FileError, FormatError, UnavailableError, DatasetError: if a file or a package is missing or unusable.
    """
    return Detectors([_open(name, device) for name in names], given_boxes(boxes) if boxes is not None else None)


def _open(name: str, device: str) -> Detector:
    if name in _BY_PACKAGE:
        return _BY_PACKAGE[name]()
    kind, equals, file = name.partition("=")
    if not equals or kind not in BOX_KINDS:
        raise OptionError(
            f"'{name}' is no detector; write animeface, rapidocr, or KIND=FILE.onnx with KIND one of "
            f"{', '.join(BOX_KINDS)}"
        )
    if file in _BY_PACKAGE:
        return _BY_PACKAGE[file]()
    return YoloDetector(_file(file), kind, device)  # type: ignore[arg-type]  # it is one of BOX_KINDS


def _file(name: str) -> Path:
    """A detector's file: as named, ``model.onnx`` in a folder, or from the hub."""
    path = Path(name).expanduser()
    if path.is_dir() and (path / "model.onnx").is_file():
        return path / "model.onnx"
    if path.is_file() or path.suffix.lower() == ".onnx" or name.count("/") < 2:
        return path  # opening it says what is wrong with it
    from huggingface_hub import hf_hub_download

    owner, repository, *inside = name.split("/")
    try:
        return Path(hf_hub_download(f"{owner}/{repository}", "/".join([*inside, "model.onnx"])))
    except (OSError, ValueError, RuntimeError) as error:
        raise FileError(
            f"the detector '{name}' cannot be had from the Hugging Face hub ({type(error).__name__}); check its name "
            "and the connection, or name a file"
        ) from error


def given_boxes(path: Path) -> dict[str, Boxes]:
    """Boxes by hand: ``{"a.png": {"face": [[left, top, right, bottom]], "person": [...], "text": [...]}}``.

    Raises:
        DatasetError: naming the file and the picture whose boxes cannot be read.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"the boxes {path} cannot be read ({error}); write JSON, names to boxes") from error
    if not isinstance(data, dict):
        raise DatasetError(f"the boxes {path} are no JSON object; write {{'a.png': {{'face': [[0, 0, 9, 9]]}}}}")
    return {name: _boxes(value, f"{path}: '{name}'") for name, value in data.items()}


def _boxes(value: Any, place: str) -> Boxes:
    if not isinstance(value, dict) or not set(value) <= set(BOX_KINDS):
        raise DatasetError(f"{place} has kinds of boxes that are unknown; there are {', '.join(BOX_KINDS)}")
    found: dict[str, tuple[Box, ...]] = {}
    for kind, boxes in value.items():
        corners = [box for box in boxes if _is_box(box)] if isinstance(boxes, list) else []
        if not isinstance(boxes, list) or len(corners) < len(boxes):
            raise DatasetError(f"{place}: {kind} is no list of [left, top, right, bottom] in pixels, right > left")
        found[kind] = tuple(Box(*map(float, box)) for box in corners)
    return Boxes(**found)


def _is_box(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 4 and all(isinstance(side, int | float) for side in value)
    return numbers and value[2] > value[0] and value[3] > value[1]
