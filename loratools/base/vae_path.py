"""Where a VAE that replaces a base's own lies: a Diffusers folder or a file on this machine, or in the hub's cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from loratools.base.base_path import is_hub_id
from loratools.base.quiet import quiet
from loratools.digests import file_digest
from loratools.errors import BaseModelError

FILES = (".safetensors", ".ckpt", ".pt")
_CONFIG = "config.json"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def find_vae(name: str | Path, *, offline: bool = False) -> Path:
    """The folder or file of the VAE ``name``. Nothing is loaded; a hub model is downloaded if it is not in the cache.

    Args:
        name: a Diffusers folder of a VAE or of a whole base, a single file of a VAE or of a whole checkpoint, or the
            hub id of a VAE or of a whole base.
        offline: never ask the hub: a hub model has to be in its cache already.
    Raises:
        BaseModelError: if there is none.
    """
    path, hub_id = Path(name).expanduser(), name.as_posix() if isinstance(name, Path) else name
    if path.is_dir():
        own = path / "vae" if (path / "vae").is_dir() else path
        if not (own / _CONFIG).is_file():
            raise BaseModelError(
                f"{path} has no {_CONFIG}, so it is no Diffusers folder of a VAE; give one, a "
                f"{', '.join(FILES)} file, or a hub id such as owner/model"
            )
        return own
    if path.is_file() and path.suffix.lower() in FILES:
        return path
    if is_hub_id(hub_id):
        return _download(hub_id, offline)
    raise BaseModelError(
        f"there is no VAE '{name}'; give a Diffusers folder, a {', '.join(FILES)} file, or a hub id such as owner/model"
    )


def vae_digest(path: Path) -> str:
    """sha256 of a VAE's file; of a folder, sha256 over the names and sha256 of the files that loading reads.

    Args:
        path: what :func:`find_vae` returns.
    Raises:
        FileError: if a file cannot be read.
    """
    if path.is_file():
        return file_digest(path)
    lines = [f"{file.name} {file_digest(file)}" for file in vae_files(path)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def vae_files(folder: Path) -> list[Path]:
    """The files of a VAE's Diffusers folder: its config, and its weights."""
    return [folder / _CONFIG, *(sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin")))]


def _download(name: str, offline: bool) -> Path:
    """The cached folder of a hub model that is a VAE, or of the VAE in a hub model that is a whole base."""
    first_error: Exception | None = None
    for subfolder in (None, "vae"):
        try:
            with quiet():
                return _download_folder(name, subfolder, offline)
        except (OSError, ValueError, RuntimeError) as error:
            first_error = first_error or error
    if offline:
        raise BaseModelError(
            f"the VAE '{name}' is not whole in the Hugging Face cache; run once without `offline=True`, or "
            "give a local folder or file"
        ) from first_error
    raise BaseModelError(
        f"cannot get the VAE '{name}' from the Hugging Face hub ({type(first_error).__name__}); check its "
        "name and the connection, or give a local folder or file"
    ) from first_error


def _download_folder(name: str, subfolder: str | None, offline: bool) -> Path:
    """Raises ValueError for a model that is no AutoencoderKL, and whatever the hub's client raises."""
    from huggingface_hub import hf_hub_download

    config = Path(hf_hub_download(name, _CONFIG, subfolder=subfolder, local_files_only=offline))
    if json.loads(config.read_text(encoding="utf-8")).get("_class_name") != "AutoencoderKL":
        raise ValueError(f"{name} is no AutoencoderKL")
    try:
        hf_hub_download(name, _WEIGHTS[0], subfolder=subfolder, local_files_only=offline)
    except OSError:  # older ones are pickled
        hf_hub_download(name, _WEIGHTS[1], subfolder=subfolder, local_files_only=offline)
    return config.parent
