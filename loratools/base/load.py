"""Load a base model from wherever it lies: ``pocket``, a Diffusers folder, a single file, or a hub id."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import torch

from loratools.base import single_file
from loratools.base.model import FAMILY_DEFAULTS, Base, Defaults
from loratools.base.quiet import quiet
from loratools.base.text_model import load_text_encoder, load_tokenizer, read_json
from loratools.dtypes import DTYPE_NAMES, torch_dtype
from loratools.errors import BaseModelError, did_you_mean
from loratools.files import sha256
from loratools.launch import Rank

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_FILES = (".safetensors", ".ckpt")
_PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def load_base(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = "fp32",
    config: str | Path | None = None,
    offline: bool = False,
    parked: bool = False,
) -> Base:
    """Load the base model ``name`` for inference (eval mode, no gradients, the terminal kept clean).

    Args:
        name: ``pocket``, a Diffusers folder, a single ``.safetensors`` or ``.ckpt`` file, or a hub id such as
            ``owner/model``. Folders and files are read without a network.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``fp32``, ``fp16``, ``bf16``; None takes fp32 on a CPU and fp16 elsewhere.
        offline: never ask the hub: a hub id has to be in its cache already.
        parked: leave the weights in main memory, for :class:`~loratools.preview.render.memory.Offloader` to move
            to ``device``.
        config: for a single file of unusual widths, a Diffusers folder whose configs (and tokenizer) describe it.
    Raises:
        BaseModelError: if it cannot be found, is something else (a LoRA, a video model), or is damaged.
    """
    where = pick_device(device)
    kind = _dtype(dtype, where)
    path, remote = _locate(str(name), offline=offline)
    digest = _digest(path)
    home = torch.device("cpu") if parked else where
    with quiet():
        if path.is_dir():
            base = _load_folder(path, kind, home, str(name))
        else:
            base = _load_single(path, kind, home, None if config is None else Path(config))
    base.device = where
    base.digest, base.name = digest, str(name) if remote or str(name) == "pocket" else path.stem
    return base


def base_digest(name: str | Path) -> str:
    """What determines a base: sha256 of the single file (WebUI's model hash is its first ten digits), or, for a
    folder, sha256 over the sorted relative paths and sha256 of every file that loading reads.

    Raises:
        BaseModelError: if there is no such base.
    """
    return _digest(_locate(str(name))[0])


def find_base(name: str | Path) -> Path:
    """Where a base lies; nothing is loaded.

    Raises:
        BaseModelError: if there is no such base.
    """
    return _locate(str(name))[0]


def pick_device(text: str = "auto") -> torch.device:
    """``auto`` is accelerate's choice: the best accelerator there is. Of several processes that a launcher started each
    gets a GPU of its machine, for ``auto`` and ``cuda``.

    Raises:
        BaseModelError: if the device is not on this machine or is no device's name.
    """
    here = Rank.here()
    if text in ("auto", "cuda") and here.world > 1:  # accelerate would wait for all of them to ask
        text = _own(here) or ("cpu" if text == "auto" else text)
    if text == "auto":
        from accelerate import PartialState

        return torch.device(PartialState().device)
    if text not in ("cpu", "cuda", "mps") and not re.fullmatch(r"cuda:\d+", text):
        hint = did_you_mean(text, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        raise BaseModelError(f"'{text}' is not a device{hint}; use auto, cpu, cuda, cuda:N or mps")
    found = torch.device(text)
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise BaseModelError(f"this machine has no device '{text}' that torch can use; use --device cpu or auto")
    if found.type == "mps" and not torch.backends.mps.is_available():
        raise BaseModelError("this machine has no device 'mps' that torch can use; use --device cpu or auto")
    return found


def _own(here: Rank) -> str | None:
    """The GPU of one of several processes."""
    count = torch.cuda.device_count()
    return f"cuda:{here.local % count}" if count else None


def is_hub_id(name: str) -> bool:
    """Whether ``name``, which is no path of this machine, may be a model's on the hub, and is no mistyped path."""
    path = Path(name).expanduser()
    beside = path.parent.is_dir() and path.parent != Path()
    return path.suffix.lower() not in _FILES and not beside and _HUB_ID.fullmatch(name) is not None


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.float16
    if name not in DTYPE_NAMES:
        raise BaseModelError(f"'{name}' is not a dtype{did_you_mean(name, DTYPE_NAMES)}; use fp32, fp16 or bf16")
    return torch_dtype(name)


def _locate(name: str, *, offline: bool = False) -> tuple[Path, bool]:
    """The local folder or file of a base, and whether it came from the hub."""
    if name == "pocket":
        from loratools.pocket import weights_folder

        folder = weights_folder()
        if not (folder / "model_index.json").is_file():
            raise BaseModelError(f"the pocket base's weights are not in this install ({folder}); reinstall loratools")
        return folder, False
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "model_index.json").is_file():
            raise BaseModelError(
                f"{path} has no model_index.json, so it is not a Diffusers folder; give one, "
                "a .safetensors or .ckpt checkpoint, a hub id, or 'pocket'"
            )
        return path, False
    if path.is_file():
        if path.suffix.lower() not in _FILES:
            raise BaseModelError(
                f"{path} is not a base model; give a .safetensors or .ckpt checkpoint, "
                "a Diffusers folder, a hub id, or 'pocket'"
            )
        return path, False
    if not is_hub_id(name):
        raise BaseModelError(
            f"there is no base model '{name}'{did_you_mean(name, ['pocket'])}; give a Diffusers "
            "folder, a .safetensors or .ckpt checkpoint, a hub id such as owner/model, or 'pocket'"
        )
    return _download(name, offline), True


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
                    f"the base '{name}' is not whole in the Hugging Face cache; run once without --offline, or give a "
                    "local folder or file"
                ) from error
            raise BaseModelError(
                f"cannot get the base '{name}' from the Hugging Face hub ({type(error).__name__}); "
                "check its name and the connection, or give a local folder or file"
            ) from error


def _digest(path: Path) -> str:
    if path.is_file():
        return sha256(path)
    total = hashlib.sha256()
    files = [path / "model_index.json"]
    for part in _PARTS:
        files += [f for f in (path / part).glob("*") if f.is_file() and not f.name.startswith(".")]
    for file in sorted(files, key=lambda f: f.relative_to(path).as_posix()):
        total.update(f"{file.relative_to(path).as_posix()}\0{sha256(file)}\n".encode())
    return total.hexdigest()


def _load_folder(path: Path, dtype: torch.dtype, device: torch.device, source: str) -> Base:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    _check_index(path)
    unet = _part(UNet2DConditionModel, path, "unet", dtype)
    vae = _part(AutoencoderKL, path, "vae", _vae_dtype(path, dtype))
    if unet.config.in_channels != 4:
        raise BaseModelError(
            f"{path} takes {unet.config.in_channels} input channels (an inpainting or depth model); "
            "give the plain text-to-image model"
        )
    parts = [part for part in ("text_encoder", "text_encoder_2") if (path / part).is_dir()]
    encoders = tuple(load_text_encoder(path / part, dtype, source) for part in parts)
    return _assemble(unet, vae, encoders, path, device, dtype)


def _load_single(path: Path, dtype: torch.dtype, device: torch.device, config: Path | None) -> Base:
    state = single_file.read_state(path)
    if config is None:
        family = single_file.family_of(path, state)
        config = single_file.CONFIGS / family
    else:
        single_file.check_channels(path, state)
        _check_index(config)
        family = _family(read_json(config / "unet" / "config.json"), (config / "text_encoder_2").is_dir())
    unet, vae, encoders = single_file.build_parts(path, state, family, config, dtype)
    vae.to(_vae_dtype(config, dtype))
    base = _assemble(unet, vae, encoders, config, device, dtype)
    if prediction := single_file.prediction_of(path, state):
        base.scheduler_config["prediction_type"] = prediction
    return base


def _assemble(
    unet: Any, vae: Any, encoders: tuple[Any, ...], folder: Path, device: torch.device, dtype: torch.dtype
) -> Base:
    for part in (unet, vae, *encoders):
        part.to(device).eval().requires_grad_(False)
    names = ("tokenizer", "tokenizer_2")[: len(encoders)]
    family = _family(unet.config, len(encoders) > 1)
    size = unet.config.sample_size
    height, width = (size, size) if isinstance(size, int) else size
    scale = 2 ** (len(vae.config.block_out_channels) - 1)
    return Base(
        unet,
        vae,
        encoders,
        tuple(load_tokenizer(folder / name) for name in names),
        read_json(folder / "scheduler" / "scheduler_config.json"),
        family,
        "",
        "",
        (height * scale, width * scale),
        device,
        dtype,
        _defaults(folder, family),
    )


def _defaults(folder: Path, family: str) -> Defaults:
    """The folder's own ``loratools.json`` (``{"steps", "cfg", "sampler"}``) over the family's defaults."""
    usual = FAMILY_DEFAULTS[family]
    if not (folder / "loratools.json").is_file():
        return usual
    told = read_json(folder / "loratools.json")
    return Defaults(
        int(told.get("steps", usual.steps)), float(told.get("cfg", usual.cfg)), str(told.get("sampler", usual.sampler))
    )


def _family(unet_config: Any, second_encoder: bool) -> str:
    if second_encoder:
        return "sdxl"
    return "sd2" if unet_config.get("use_linear_projection") else "sd1"


def _vae_dtype(folder: Path, dtype: torch.dtype) -> torch.dtype:
    """SDXL's VAE overflows in fp16 and says so in its config."""
    upcast = dtype == torch.float16 and read_json(folder / "vae" / "config.json").get("force_upcast", False)
    return torch.float32 if upcast and (folder / "text_encoder_2").is_dir() else dtype


def _check_index(path: Path) -> None:
    index = read_json(path / "model_index.json")
    kinds = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
    for part, kind in kinds.items():
        entry = index.get(part)
        if not isinstance(entry, list) or len(entry) != 2 or entry[1] != kind:
            raise BaseModelError(
                f"{path} is a {index.get('_class_name', 'pipeline')} without a {kind} as its {part}; "
                "bases are SD 1.x, SD 2.x and SDXL"
            )
        if not (path / part).is_dir():
            raise BaseModelError(f"{path} lacks its folder {part}/, which model_index.json names; download it again")


def _part(kind: Any, path: Path, part: str, dtype: torch.dtype) -> Any:
    """One diffusers model of a folder; ``.fp16`` weights are taken where they are the only ones."""
    weights = [f.name for f in (path / part).glob("diffusion_pytorch_model*") if f.suffix in (".safetensors", ".bin")]
    if not weights:
        raise BaseModelError(f"{path / part} holds no weights; download the folder again")
    variant = "fp16" if all(".fp16." in name for name in weights) else None
    try:
        return kind.from_pretrained(path, subfolder=part, torch_dtype=dtype, variant=variant, local_files_only=True)
    except Exception as error:  # diffusers, safetensors and torch raise a dozen types for damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(f"cannot load {path / part} ({reason}); is the download complete?") from error
