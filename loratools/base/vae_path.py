"""Where a VAE of its own lies: a Diffusers folder or a single file on this machine, or in the hub's cache."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from loratools.base.base_path import is_hub_id
from loratools.base.quiet import quiet
from loratools.errors import BaseModelError
from loratools.files import sha256

FILES = (".safetensors", ".ckpt", ".pt")
_CONFIG = "config.json"
_WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def find_vae(name: str | Path, *, offline: bool = False) -> Path:
    """The VAE's own folder or file; a hub id is fetched if it is not in the cache. Nothing is loaded.

    Args:
        name: a Diffusers folder of a VAE or of a whole base, or a single file of a VAE or of a whole checkpoint, or the
            hub id of a VAE or of a whole base.
        offline: never ask the hub: a hub id has to be in its cache already.
    Raises:
        BaseModelError: if there is none.
    """
    path, asked = Path(name).expanduser(), name.as_posix() if isinstance(name, Path) else name
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
    if is_hub_id(asked):
        return _fetched(asked, offline)
    raise BaseModelError(
        f"there is no VAE '{name}'; give a Diffusers folder, a {', '.join(FILES)} file, or a hub id such as owner/model"
    )


def vae_digest(place: Path) -> str:
    """sha256 of the VAE that :func:`find_vae` found: of the file, or over the names and sha256 of its folder's files
    that loading reads.

    Raises:
        FileError: if one cannot be read.
    """
    if place.is_file():
        return sha256(place)
    weights = sorted(place.glob("*.safetensors")) or sorted(place.glob("*.bin"))
    lines = [f"{path.name} {sha256(path)}" for path in (place / _CONFIG, *weights)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _fetched(name: str, offline: bool) -> Path:
    """The cached folder of the hub's VAE of that name, or of that of the base of that name."""
    failed: Exception | None = None
    for part in (None, "vae"):
        try:
            with quiet():
                return _fetched_part(name, part, offline)
        except (OSError, ValueError, RuntimeError) as error:
            failed = failed or error
    if offline:
        raise BaseModelError(
            f"the VAE '{name}' is not whole in the Hugging Face cache; run once without --offline, or "
            "give a local folder or file"
        ) from failed
    raise BaseModelError(
        f"cannot get the VAE '{name}' from the Hugging Face hub ({type(failed).__name__}); check its "
        "name and the connection, or give a local folder or file"
    ) from failed


def _fetched_part(name: str, part: str | None, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    config = Path(hf_hub_download(name, _CONFIG, subfolder=part, local_files_only=offline))
    if json.loads(config.read_text(encoding="utf-8")).get("_class_name") != "AutoencoderKL":
        raise ValueError(f"{name} is no AutoencoderKL")
    try:
        hf_hub_download(name, _WEIGHTS[0], subfolder=part, local_files_only=offline)
    except OSError:  # older ones are pickled
        hf_hub_download(name, _WEIGHTS[1], subfolder=part, local_files_only=offline)
    return config.parent
