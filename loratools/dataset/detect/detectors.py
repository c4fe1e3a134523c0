"""The detectors that a command names, put together; boxes that a person gave count before theirs."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
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

    @property
    def identity(self) -> str:
        """What determines its boxes, in words that change when it does."""

    def boxes(self, image: Image.Image) -> tuple[Box, ...]:
        """The boxes in an RGB picture, from the surest on."""


_BY_PACKAGE: Mapping[str, Callable[[], Detector]] = {"animeface": AnimeFaceDetector, "rapidocr": TextDetector}


class Detectors:
    """Several detectors as one.

    Attributes:
        names: ``kind=name`` of each, which says by what boxes were found.
    """

    def __init__(self, detectors: Sequence[Detector] = (), given: Mapping[str, Boxes] | None = None) -> None:
        self._detectors = tuple(detectors)
        self._given = given or {}
        self._lock = threading.Lock()  # detectors share no state, but use all cores themselves
        self.names = tuple(f"{detector.kind}={detector.name}" for detector in self._detectors)

    def __bool__(self) -> bool:
        return bool(self._detectors or self._given)

    @property
    def identities(self) -> tuple[str, ...]:
        """``kind=`` what determines the boxes of each."""
        return tuple(f"{detector.kind}={detector.identity}" for detector in self._detectors)

    @property
    def finds_text(self) -> bool:
        """Whether one of them finds text, or boxes of text were given."""
        return any(detector.kind == "text" for detector in self._detectors) or any(
            boxes.text for boxes in self._given.values()
        )

    def given_digest(self, file: str) -> str:
        """A digest of the boxes that a person gave for a picture; empty if there are none."""
        given = self._given_of(file)
        return sha256(repr(given).encode()).hexdigest()[:16] if given is not None else ""

    def notes(self, files: Collection[str]) -> tuple[str, ...]:
        """Sentences on the boxes by hand that none of the dataset folder's pictures has, and on those that several
        have, since their name alone is given."""
        used = Counter(name for file in files if (name := self._name_of(file)) is not None)
        others, several = [name for name in self._given if not used[name]], [name for name in used if used[name] > 1]
        notes = []
        if others:
            shown = f"{others[0]}{' and so on' if len(others) > 1 else ''}"
            notes.append(f"boxes by hand of {len(others)} pictures that are not there ({shown}) are left out")
        if several:
            shown = f"{several[0]}{' and so on' if len(several) > 1 else ''}"
            notes.append(
                f"boxes by hand have a name that several pictures have ({shown}), and are used for each of these; "
                "give them by their paths in the folder"
            )
        return tuple(notes)

    def _name_of(self, file: str) -> str | None:
        """What a picture is called in the boxes by hand: its path, or its name alone."""
        return next((name for name in (file, Path(file).name) if name in self._given), None)

    def _given_of(self, file: str) -> Boxes | None:
        """The boxes that a person gave for a picture, by its path or by its name alone."""
        name = self._name_of(file)
        return None if name is None else self._given[name]

    def boxes(self, file: str, image: Image.Image) -> Boxes:
        """All boxes in a picture (RGB) of the dataset folder; ``file`` is its path there."""
        by_hand = self._given_of(file)
        given = Boxes() if by_hand is None else by_hand  # boxes of text alone are false
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
    return {name.replace("\\", "/"): _boxes(value, f"{path}: '{name}'") for name, value in data.items()}


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
