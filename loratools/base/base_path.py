"""Where a base model lies: ``pocket``, a Diffusers folder, a single file, or a hub id. Nothing is loaded here."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from loratools import pocket
from loratools.base.quiet import quiet
from loratools.digests import file_digest
from loratools.errors import BaseModelError, did_you_mean

POCKET = "pocket"  # the name of the base inside this package
SINGLE_FILES = (".safetensors", ".ckpt")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
# the parts of Stable Diffusion's Diffusers folders that loading reads
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


class BaseKind(Enum):
    """What the name of a base stands for."""

    POCKET = auto()
    FOLDER = auto()
    FILE = auto()
    HUB = auto()


@dataclass(frozen=True)
class BaseLocation:
    """A base that is there: ``path`` is its folder or file on this machine, a hub model's in the hub's cache."""

    name: str
    kind: BaseKind
    path: Path

    @property
    def label(self) -> str:
        """What the base is called in pictures' texts and on sheets."""
        return self.name if self.kind in (BaseKind.POCKET, BaseKind.HUB) else self.path.stem

    def digest(self) -> str:
        """sha256 of a single file (the WebUI's model hash is its first ten digits); of a folder sha256 over the sorted
        relative paths and sha256 of every file that loading reads.

        Raises:
            FileError: if one cannot be read.
        """
        if self.path.is_file():
            return file_digest(self.path)
        total = hashlib.sha256()
        files = [self.path / "model_index.json"]
        for part in self._parts():
            files += [f for f in (self.path / part).glob("*") if f.is_file() and not f.name.startswith(".")]
        for file in sorted(files, key=lambda f: f.relative_to(self.path).as_posix()):
            total.update(f"{file.relative_to(self.path).as_posix()}\0{file_digest(file)}\n".encode())
        return total.hexdigest()

    def _parts(self) -> tuple[str, ...]:
        """The folders that loading reads: Stable Diffusion's, or for other families those that the index names."""
        if (self.path / "unet").is_dir():
            return _PARTS
        try:
            index = json.loads((self.path / "model_index.json").read_text(encoding="utf-8"))
        except ValueError:
            return _PARTS  # loading says what is wrong with it
        return tuple(name for name, own in index.items() if isinstance(own, list) and (self.path / name).is_dir())


def base_path(name: str | Path) -> Path:
    """The path that ``name`` stands for, whether anything is there or not: the packaged folder for ``pocket``."""
    return pocket.weights_folder() if str(name) == POCKET else Path(name)


def base_digest(name: str | Path, *, offline: bool = False) -> str:
    """What determines a base's weights; see :meth:`BaseLocation.digest`.

    Args:
        offline: as for :func:`locate_base`.
    Raises:
        BaseModelError: if there is no such base.
    """
    return locate_base(name, offline=offline).digest()


def is_hub_id(name: str) -> bool:
    """Whether ``name``, which is no path of this machine, may be a model's on the hub, and is no mistyped path."""
    path = Path(name).expanduser()
    beside = path.parent.is_dir() and path.parent != Path()
    return path.suffix.lower() not in SINGLE_FILES and not beside and _HUB_ID.fullmatch(name) is not None


def locate_base(name: str | Path, *, offline: bool = False) -> BaseLocation:
    """Find the base ``name``; a hub model is downloaded if it is not in the cache.

    Args:
        offline: never ask the hub: a hub model has to be in its cache already.
    Raises:
        BaseModelError: if there is no such base, or what is there is no base model.
    """
    text = str(name)
    if text == POCKET:
        return BaseLocation(text, BaseKind.POCKET, _pocket_folder())
    path = Path(text).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise BaseModelError(
                f"{path} has no model_index.json, so it is not a Diffusers folder; give one, "
                "a .safetensors or .ckpt checkpoint, a hub id, or 'pocket'"
            )
        return BaseLocation(text, BaseKind.FOLDER, path)
    if path.is_file():
        if path.suffix.lower() not in SINGLE_FILES:
            raise BaseModelError(
                f"{path} is not a base model; give a .safetensors or .ckpt checkpoint, "
                "a Diffusers folder, a hub id, or 'pocket'"
            )
        return BaseLocation(text, BaseKind.FILE, path)
    if not is_hub_id(text):
        raise BaseModelError(missing_base(text))
    return BaseLocation(text, BaseKind.HUB, _download(text, offline))


def missing_base(name: str, beside: str = "") -> str:
    """The message for a base that is nowhere, with where it was looked for.

    Args:
        beside: the places besides the current folder, in words.
    """
    path = Path(name).expanduser()
    where = "" if path.is_absolute() else f" (looked for in {Path.cwd()}{beside})"
    near = did_you_mean(name, [POCKET]) or _nearest(path)
    return (
        f"there is no base model '{name}'{where}{near}; give a Diffusers folder, a .safetensors or .ckpt checkpoint, "
        "a hub id such as owner/model, or 'pocket'"
    )


def _nearest(path: Path) -> str:
    """The model file with the nearest name in the folder where ``path`` is not."""
    try:
        names = [file.name for file in path.parent.iterdir() if file.suffix.lower() in SINGLE_FILES]
    except OSError:
        return ""
    return did_you_mean(path.name, names)


def _pocket_folder() -> Path:
    folder = pocket.weights_folder()
    if not (folder / "model_index.json").is_file():
        raise BaseModelError(f"the pocket base's weights are not in this install ({folder}); reinstall loratools")
    return folder


def _download(name: str, offline: bool) -> Path:
    """The local snapshot of a hub model, fetched by diffusers if it is not in the cache and may be."""
    from diffusers import DiffusionPipeline

    with quiet():
        try:
            return Path(
                DiffusionPipeline.download(name, safety_checker=None, feature_extractor=None, local_files_only=offline)
            )
        except (OSError, ValueError, RuntimeError) as error:
            if offline:
                raise BaseModelError(
                    f"the base '{name}' is no folder in {Path.cwd()}, and is not whole in the Hugging Face cache; run "
                    "once without `offline=True`, or give a local folder or file"
                ) from error
            raise BaseModelError(
                f"cannot get the base '{name}' from the Hugging Face hub ({type(error).__name__}), and it is no folder "
                f"in {Path.cwd()}; check its name and the connection, or give a local folder or file"
            ) from error
