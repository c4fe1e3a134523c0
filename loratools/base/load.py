"""Load a base model from wherever it lies: ``pocket``, a Diffusers folder, a single file, or a hub id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.architectures.compvis import UNET
from loratools.base import single_file
from loratools.base.base_path import POCKET, base_path, locate_base
from loratools.base.model import FAMILY_DEFAULTS, Base, Defaults
from loratools.base.picture_size import LATENT_CHANNELS, vae_scale_factor
from loratools.base.quiet import quiet
from loratools.base.text_model import empty_text_encoder, load_text_encoder, load_tokenizer, read_json
from loratools.dtypes import DTYPE_NAMES, torch_dtype
from loratools.errors import BaseModelError, UnavailableError, did_you_mean
from loratools.launch import Rank

_NOWHERE = torch.device("meta")  # of models without weights
_FIRST, _CONTEXT = "0.0.weight", "1.1.transformer_blocks.0.attn2.to_k.weight"  # which tell a UNet's widths


def load_base(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str | None = "fp32",
    config: str | Path | None = None,
    offline: bool = False,
    parked: bool = False,
    weights: bool = True,
) -> Base:
    """Load the base model ``name`` for inference (eval mode, no gradients, the terminal kept clean).

    Args:
        name: ``pocket``, a Diffusers folder, a single ``.safetensors`` or ``.ckpt`` file, or a hub id such as
            ``owner/model``. Folders and files are read without a network.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        dtype: ``fp32``, ``fp16``, ``bf16``; None takes fp32 on a CPU and fp16 elsewhere.
        config: for a single file of unusual widths, a Diffusers folder whose configs (and tokenizer) describe it.
        offline: never ask the hub: a hub model has to be in its cache already.
        parked: leave the weights in main memory; :class:`~loratools.preview.render.memory.Offloader` then moves each
            model to ``device`` while it works.
        weights: without them the models are on torch's ``meta`` device, with shapes and types and no numbers, which is
            enough for a plan. What only reading them shows to be wrong is not seen then.
    Raises:
        BaseModelError: if it cannot be found, is something else (a LoRA, a video model), or is damaged.
    """
    target = pick_device(device)
    torch_dtype = pick_dtype(dtype, target)
    location = locate_base(name, offline=offline)
    home = torch.device("cpu") if parked else target
    home = home if weights else _NOWHERE
    with ThreadPoolExecutor(1) as pool:  # hashing gigabytes takes as long as reading them
        digest = pool.submit(location.digest)
        with quiet():
            if location.path.is_dir():
                base = _load_folder(location.path, torch_dtype, home, location.name)
            else:
                base = _load_single(location.path, torch_dtype, home, None if config is None else Path(config))
        base.device = target
        base.digest, base.name, base.source = digest.result(), location.label, str(name)
    return base


def pick_device(text: str = "auto") -> torch.device:
    """``auto`` is accelerate's choice: the best accelerator there is. Of several processes that a launcher started each
    gets a GPU of its machine, for ``auto`` and ``cuda``.

    A GPU always has its number, since some functions of torch refuse a bare ``cuda``.

    Raises:
        BaseModelError: if it is no device's name.
        UnavailableError: if the device is not on this machine.
    """
    rank = Rank.here()
    if text in ("auto", "cuda") and rank.world > 1:  # accelerate would wait until every process asks
        text = _gpu_of(rank) or ("cpu" if text == "auto" else text)
    if text == "auto":
        from accelerate import PartialState

        return _numbered(torch.device(PartialState().device))
    if text not in ("cpu", "cuda", "mps") and not re.fullmatch(r"cuda:\d+", text):
        hint = did_you_mean(text, ["auto", "cpu", "cuda", "cuda:0", "mps"])
        raise BaseModelError(f"'{text}' is not a device{hint}; use auto, cpu, cuda, cuda:N or mps")
    device = torch.device(text)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UnavailableError(f"this machine has no device '{text}' that torch can use; use `device=cpu` or auto")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UnavailableError("this machine has no device 'mps' that torch can use; use `device=cpu` or auto")
    return _numbered(device)


def _numbered(device: torch.device) -> torch.device:
    """``cuda`` as ``cuda:N`` of the current GPU; other devices as they are."""
    return torch.device("cuda", torch.cuda.current_device()) if device == torch.device("cuda") else device


def _gpu_of(rank: Rank) -> str | None:
    """The GPU of one of several processes on this machine; None without GPUs."""
    count = torch.cuda.device_count()
    return f"cuda:{rank.local % count}" if count else None


def pick_dtype(name: str | None, device: torch.device, *, half: str = "fp16") -> torch.dtype:
    """``fp32``, ``fp16`` or ``bf16`` as torch has them; None is fp32 on a CPU and ``half`` elsewhere.

    Raises:
        BaseModelError: for another name.
    """
    if name is None:
        return torch.float32 if device.type == "cpu" else torch_dtype(half)
    if name not in DTYPE_NAMES:
        raise BaseModelError(f"'{name}' is not a dtype{did_you_mean(name, DTYPE_NAMES)}; use fp32, fp16 or bf16")
    return torch_dtype(name)


def _load_folder(path: Path, dtype: torch.dtype, device: torch.device, source: str) -> Base:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    _check_index(path)
    load = _part if device != _NOWHERE else _empty_part
    unet = load(UNet2DConditionModel, path, "unet", dtype)
    vae = load(AutoencoderKL, path, "vae", _vae_dtype(path, dtype))
    if unet.config.in_channels != LATENT_CHANNELS:
        raise BaseModelError(
            f"{path} takes {unet.config.in_channels} input channels (an inpainting or depth model); "
            "give the plain text-to-image model"
        )
    parts = [part for part in ("text_encoder", "text_encoder_2") if (path / part).is_dir()]
    encoders = tuple(
        load_text_encoder(path / part, dtype, source) if device != _NOWHERE else empty_text_encoder(path / part, dtype)
        for part in parts
    )
    return _assemble(unet, vae, encoders, path, device, dtype)


def _load_single(path: Path, dtype: torch.dtype, device: torch.device, config: Path | None) -> Base:
    state = single_file.read_state(path, weights=device != _NOWHERE)
    if config is None and _is_pocket({name: tuple(value.shape) for name, value in state.items()}):
        config = base_path(POCKET)
    if config is None:
        family = single_file.family_of(path, state)
        config = single_file.CONFIGS / family
    else:
        single_file.check_channels(path, state)
        _check_index(config)
        family = _family(read_json(config / "unet" / "config.json"), (config / "text_encoder_2").is_dir())
    build = single_file.build_parts if device != _NOWHERE else single_file.empty_parts
    unet, vae, encoders = build(path, state, family, config, dtype)
    vae.to(_vae_dtype(config, dtype))
    base = _assemble(unet, vae, encoders, config, device, dtype)
    base.scheduler_config = single_file.scheduler_facts(path, state, base.scheduler_config)
    return base


def _is_pocket(shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether a checkpoint has the pocket base's widths: a full training of it, or a merge into it."""
    pocket = read_json(base_path(POCKET) / "unet" / "config.json")
    first, context = (shapes.get(f"{UNET}input_blocks.{place}") for place in (_FIRST, _CONTEXT))
    return (
        first is not None
        and context is not None
        and (first[0], context[1]) == (pocket["block_out_channels"][0], pocket["cross_attention_dim"])
    )


def _assemble(
    unet: Any, vae: Any, encoders: tuple[Any, ...], folder: Path, device: torch.device, dtype: torch.dtype
) -> Base:
    for part in (unet, vae, *encoders):
        part.to(device).eval().requires_grad_(False)
    names = ("tokenizer", "tokenizer_2")[: len(encoders)]
    family = _family(unet.config, len(encoders) > 1)
    latents = unet.config.sample_size
    height, width = (latents, latents) if isinstance(latents, int) else latents
    factor = vae_scale_factor(vae.config)
    return Base(
        unet=unet,
        vae=vae,
        text_encoders=encoders,
        tokenizers=tuple(load_tokenizer(folder / name) for name in names),
        scheduler_config=read_json(folder / "scheduler" / "scheduler_config.json"),
        family=family,
        digest="",
        name="",
        resolution=(height * factor, width * factor),
        device=device,
        dtype=dtype,
        defaults=_defaults(folder, family),
    )


def _defaults(folder: Path, family: str) -> Defaults:
    """The folder's own ``loratools.json`` (``{"steps", "cfg", "sampler"}``) over the family's defaults."""
    usual = FAMILY_DEFAULTS[family]
    if not (folder / "loratools.json").is_file():
        return usual
    own = read_json(folder / "loratools.json")
    return Defaults(
        int(own.get("steps", usual.steps)), float(own.get("cfg", usual.cfg)), str(own.get("sampler", usual.sampler))
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
    if "unet" not in index and isinstance(index.get("transformer"), list):
        raise BaseModelError(
            f"{path} is a {index.get('_class_name', 'pipeline')}: grids, block effects and `blocks tune` draw with it; "
            "all else, such as training, needs SD 1.x, SD 2.x or SDXL"
        )
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
    variant = "fp16" if all(".fp16." in name for name in _weights_of(path / part)) else None
    try:
        return kind.from_pretrained(path, subfolder=part, torch_dtype=dtype, variant=variant, local_files_only=True)
    except Exception as error:  # diffusers, safetensors and torch raise a dozen types for damaged files
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(f"cannot load {path / part} ({reason}); is the download complete?") from error


def _empty_part(kind: Any, path: Path, part: str, dtype: torch.dtype) -> Any:
    """The same model without its weights, by its config alone."""
    _weights_of(path / part)
    return single_file.empty_model(kind, path / part, dtype)


def _weights_of(folder: Path) -> list[str]:
    """The names of a diffusers model's weight files.

    Raises:
        BaseModelError: if there is none.
    """
    weights = [f.name for f in folder.glob("diffusion_pytorch_model*") if f.suffix in (".safetensors", ".bin")]
    if not weights:
        raise BaseModelError(f"{folder} holds no weights; download the folder again")
    return weights
