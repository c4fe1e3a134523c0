"""A tagger: an ONNX file with its list of tags, found on this machine or on the hub, and run on batches of pictures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from loratools.dataset.onnx_model import OnnxModel
from loratools.dataset.tagging.labels import FAMILIES, Family, Labels, read_labels
from loratools.dataset.tagging.preprocess import model_input
from loratools.dataset.tagging.probabilities import TaggerFacts
from loratools.digests import file_digest
from loratools.errors import FileError, FormatError

_MODELS: Final = ("model.onnx", "model_optimized.onnx", "deepdanbooru.onnx")
_LABELS: Final = ("selected_tags.csv", "tag_mapping.json", "deepdanbooru_tags.csv", "tags.csv", "tags.txt")
_PLAIN_NAMES: Final = frozenset({"model", "model_optimized"})  # of files that are named after nothing
_SIDE: Final[dict[Family, int]] = {"wd": 448, "cl": 448, "deepdanbooru": 512}  # where the graph leaves it open
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+(?:/[\w.-]+)*")


@dataclass(frozen=True)
class TaggerFiles:
    """A tagger that is there: its graph, its list of tags, and what it is called."""

    model: Path
    labels: Path
    name: str

    def facts(self) -> TaggerFacts:
        """Which tagger it is.

        Raises:
            FormatError: if its tags cannot be read.
        """
        family = read_labels(self.labels).family
        return TaggerFacts(self.name, family, file_digest(self.model), file_digest(self.labels))


def find_tagger(name: str, labels: str | None = None, *, offline: bool = False) -> TaggerFiles:
    """The tagger that a path or a hub id names.

    Args:
        name: an ``.onnx`` file, a folder that holds one, or ``owner/model`` or ``owner/model/folder`` on the hub.
        labels: its list of tags, where that does not lie beside it.
        offline: never ask the hub: what it names has to be in the cache.
    Raises:
        FileError: if there is none.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        model = _first(path, _MODELS) or _only(path.glob("*.onnx"))
        if model is None:
            raise FileError(f"{path} has no model.onnx; name the tagger's .onnx file")
    elif path.is_file():
        model = path
    elif path.suffix.lower() != ".onnx" and _HUB_ID.fullmatch(name):
        return _from_hub(name, labels, offline)
    else:
        raise FileError(
            f"there is no tagger {path}; name an .onnx file, its folder, or a hub id such as "
            "SmilingWolf/wd-swinv2-tagger-v3"
        )
    beside = Path(labels).expanduser() if labels else _labels_beside(model)
    if beside is None or not beside.is_file():
        raise FileError(
            f"the tags of {model} are not beside it ({', '.join(_LABELS[:3])}); put the model's own list there, or "
            "name it by `labels=`"
        )
    return TaggerFiles(model, beside, _name(model))


class Tagger:
    """A tagger that is loaded.

    Attributes:
        batch: the only number of pictures that the graph takes at once; None where it takes any.
        side: of its input, in pixels.
    """

    def __init__(self, files: TaggerFiles, device: str = "auto") -> None:
        """Load it.

        Raises:
            UnavailableError: without onnxruntime, or without the device.
            FormatError: if the graph and the list of tags do not fit each other, or the graph takes no pictures.
        """
        self.files = files
        self.labels: Labels = read_labels(files.labels)
        self._model = OnnxModel(files.model, device)
        self.batch, self.side, self._channels_first = self._input()

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return self._model.on_gpu

    def prepared(self, image: Image.Image) -> npt.NDArray[np.float32]:
        """A picture (RGB) as the tagger's input, (side, side, 3) or (3, side, side)."""
        pixels = model_input(image, self.labels.family, self.side)
        return pixels.transpose(2, 0, 1) if self._channels_first else pixels

    def probabilities(self, inputs: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[Any]:
        """The probability of every tag for prepared pictures, (n, tags).

        Raises:
            FormatError: if the graph fails, or has no output that fits its list of tags.
        """
        batch = np.stack(inputs)
        if self.batch is not None and len(inputs) < self.batch:
            fill = np.zeros((self.batch - len(inputs), *batch.shape[1:]), dtype=np.float32)
            batch = np.concatenate([batch, fill])
        outputs = self._model.run(batch)
        count = len(self.labels.names)
        values = next((each for each in outputs if each.ndim == 2 and each.shape[1] == count), None)
        if values is None:
            widths = " and ".join(str(each.shape[-1]) for each in outputs if each.ndim)
            raise FormatError(
                f"{self.files.model} gives {widths} values a picture, and {self.labels.path} names {count} tags; take "
                "both files from the same model"
            )
        values = values[: len(inputs)].astype(np.float64)
        if self.labels.family == "cl":  # its graph ends before the sigmoid
            values = 1 / (1 + np.exp(-np.clip(values, -60, 60)))
        return values

    def _input(self) -> tuple[int | None, int, bool]:
        """(batch, side, whether channels come first), from the graph's input."""
        shape = self._model.input_shape
        if len(shape) != 4 or not (shape[3] == 3 or shape[1] == 3):
            sides = " x ".join("any" if side is None else str(side) for side in shape)
            raise FormatError(
                f"{self.files.model} takes {sides} values, and a tagger takes pictures of three colours; name another"
            )
        first = shape[3] != 3
        height, width = shape[2:4] if first else shape[1:3]
        if height != width:
            raise FormatError(
                f"{self.files.model} takes pictures of {width} x {height} pixels, and a {FAMILIES[self.labels.family]} "
                "tagger takes square ones; name another"
            )
        return shape[0], height or _SIDE[self.labels.family], first


def _labels_beside(model: Path) -> Path | None:
    own = (f"{model.stem}_tags.csv", f"{model.stem}_tag_mapping.json", f"{model.stem}.csv", f"{model.stem}.json")
    return _first(model.parent, (*own, *_LABELS))


def _first(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _only(files: Any) -> Path | None:
    paths = list(files)
    return paths[0] if len(paths) == 1 else None


def _name(model: Path) -> str:
    """What a file's tagger is called: the file, or its folder where the file is called like all others."""
    return model.stem if model.stem.lower() not in _PLAIN_NAMES else model.resolve().parent.name


def _from_hub(name: str, labels: str | None, offline: bool) -> TaggerFiles:
    owner, repository, *inside = name.split("/")
    repo = f"{owner}/{repository}"
    model = _fetched(repo, inside, _MODELS, offline)
    tags = Path(labels).expanduser() if labels else _fetched(repo, inside, _LABELS, offline)
    return TaggerFiles(model, tags, "/".join([repository, *inside]))


def _fetched(repo: str, inside: Sequence[str], names: Sequence[str], offline: bool) -> Path:
    """The first of some files that a hub repository has, in the cache."""
    from huggingface_hub import hf_hub_download

    failure: Exception | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repo, "/".join([*inside, name]), local_files_only=offline))
        except (OSError, ValueError, RuntimeError) as error:
            failure = error
            if not offline and not _is_missing(error):
                break
    where = "the Hugging Face cache" if offline else "the Hugging Face hub"
    raise FileError(
        f"the tagger '{repo}' with {' or '.join(names[:2])} cannot be had from {where} "
        f"({type(failure).__name__}); check its name and the connection, or name a file"
    ) from failure


def _is_missing(error: Exception) -> bool:
    """Whether the hub answered, and has no such file, so that another name may be there."""
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error, EntryNotFoundError)
