"""Single-file checkpoints with CompVis' key names: reading them, and building their models without a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from loratools.adapter.architectures.compvis import TEXT, UNET, open_clip_views
from loratools.adapter.files.base_facts import stated_prediction, stated_zero_snr
from loratools.adapter.files.checkpoint import read_pickle
from loratools.adapter.header import read_header
from loratools.base.picture_size import LATENT_CHANNELS
from loratools.base.text_model import build_text_encoder, empty_text_encoder, read_json
from loratools.errors import BaseModelError, FormatError

CONFIGS = Path(__file__).parent / "configs"
VAE = "first_stage_model."
_CROSS = UNET + "input_blocks.{}.1.transformer_blocks.0.attn2.to_k.weight"
_BLOCK = re.compile(
    r"(?:^|\.)(?:\w*_blocks|blocks|layers)\.\d+\."
)  # of a transformer, as trainers and Diffusers name it
_FAMILY_OF_CONTEXT = {768: "sd1", 1024: "sd2", 2048: "sdxl"}


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Tensor names and shapes of a ``.safetensors`` file from its header alone.

    Raises:
        FileError: if the file is missing or unreadable.
        BaseModelError: if the file is cut off or is not safetensors.
    """
    try:
        tensors = read_header(path).tensors
    except FormatError as error:
        raise BaseModelError(
            f"{path} is not a complete .safetensors file (cut off or damaged); download it again"
        ) from error
    return {name: info.shape for name, info in tensors.items()}


def read_state(path: Path, *, weights: bool = True) -> dict[str, torch.Tensor]:
    """All tensors of a single-file base by the names in the file, memory-mapped where the format allows it.

    Args:
        weights: without them the tensors are on torch's ``meta`` device, and have shapes alone.
    Raises:
        BaseModelError: if the file is damaged, holds pickled code, or is a LoRA.
    """
    if path.suffix.lower() == ".safetensors":
        from safetensors.torch import load_file

        shapes = read_shapes(path)
        check_base(path, shapes)
        return dict(load_file(path)) if weights else _empty(shapes)
    state = read_pickle(path)
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    check_base(path, shapes)
    return state if weights else _empty(shapes)


def _empty(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def check_base(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise BaseModelError unless ``shapes`` has a UNet, a VAE and a text encoder under CompVis' key names."""
    parts: dict[str, str | tuple[str, ...]] = {
        "a UNet": UNET,
        "a VAE": VAE,
        "a text encoder": ("cond_stage_model.", "conditioner.embedders."),
    }
    missing = [part for part, prefix in parts.items() if not any(name.startswith(prefix) for name in shapes)]
    if not missing:
        return
    if any(_is_lora_key(name) for name in shapes):
        raise BaseModelError(f"{path} is a LoRA, not a base model; give the checkpoint that it was trained on")
    if "a UNet" in missing and any(name.startswith("model_ema.") for name in shapes):
        raise BaseModelError(
            f"{path} holds only an average (EMA) of its UNet under other names; give the checkpoint's pruned "
            "edition, or the one that has the UNet itself"
        )
    if not any(name.startswith(f"{UNET}input_blocks.") for name in shapes) and any(map(_BLOCK.search, shapes)):
        raise BaseModelError(
            f"{path} is a diffusion transformer in a single file, which SD 1.x, 2.x and SDXL alone are read from; give "
            "that model's Diffusers folder, the one with model_index.json"
        )
    if len(missing) == len(parts):
        raise BaseModelError(
            f"{path} is not a Stable Diffusion checkpoint (SD 1.x, 2.x or SDXL); give one, or a Diffusers folder"
        )
    raise BaseModelError(f"{path} lacks {' and '.join(missing)}; give a full checkpoint, or a Diffusers folder")


def _is_lora_key(name: str) -> bool:
    marks = ("lora_", ".lora", "lycoris_", "hada_w", "lokr_w")
    return any(mark in name for mark in marks)


def family_of(path: Path, state: Mapping[str, torch.Tensor]) -> str:
    """``sd1``, ``sd2`` or ``sdxl``, from the width of the cross-attention's context and the input channels.

    Raises:
        BaseModelError: for inpainting models, SDXL's refiner, and widths of no known family.
    """
    check_channels(path, state)
    for block in (1, 4):
        weight = state.get(_CROSS.format(block))
        if weight is not None and (family := _FAMILY_OF_CONTEXT.get(weight.shape[1])):
            return family
    raise BaseModelError(
        f"{path} is of a family that is not known here (SD 1.x, 2.x and SDXL are); "
        "if it is one of them with other widths, give its Diffusers configs as well"
    )


def check_channels(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Raise BaseModelError if the UNet takes other inputs than four latent channels (inpainting, depth)."""
    first = state.get(UNET + "input_blocks.0.0.weight")
    if first is not None and first.shape[1] != LATENT_CHANNELS:
        raise BaseModelError(
            f"{path} takes {first.shape[1]} input channels (an inpainting or depth model); "
            "give the plain text-to-image model"
        )


def build_parts(
    path: Path, state: dict[str, torch.Tensor], family: str, config: Path, dtype: torch.dtype
) -> tuple[Any, Any, tuple[Any, ...]]:
    """``(unet, vae, text encoders)`` of a single-file checkpoint, by the configs of the Diffusers folder ``config``.

    Raises:
        BaseModelError: if tensors are missing or do not fit the configs.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel

    try:
        unet = UNet2DConditionModel.from_single_file(
            _part(state, UNET), config=str(config), subfolder="unet", torch_dtype=dtype, local_files_only=True
        )
        vae = AutoencoderKL.from_single_file(
            _part(state, VAE), config=str(config), subfolder="vae", torch_dtype=dtype, local_files_only=True
        )
    except (ValueError, RuntimeError, KeyError, IndexError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseModelError(
            f"{path} does not fit the {family} layout ({reason}); is it another kind of model, or damaged?"
        ) from error
    encoders = []
    for prefix, name in zip(TEXT[family], ("text_encoder", "text_encoder_2"), strict=False):
        weights = _part(state, prefix, strip=True)
        if prefix.endswith(".model."):
            weights = from_open_clip(weights)
        encoders.append(build_text_encoder(config / name, weights, dtype, str(path)))
    return unet, vae, tuple(encoders)


def empty_parts(
    path: Path, state: Mapping[str, torch.Tensor], family: str, config: Path, dtype: torch.dtype
) -> tuple[Any, Any, tuple[Any, ...]]:
    """What :func:`build_parts` returns, by the configs alone: on torch's ``meta`` device, without weights."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet = empty_model(UNet2DConditionModel, config / "unet", dtype)
    vae = empty_model(AutoencoderKL, config / "vae", dtype)
    names = ("text_encoder", "text_encoder_2")[: len(TEXT[family])]
    return unet, vae, tuple(empty_text_encoder(config / name, dtype) for name in names)


def empty_model(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    """A model of diffusers by its folder's config, on torch's ``meta`` device.

    Raises:
        BaseModelError: for a config that is missing, or no such model's.
    """
    settings = read_json(folder / "config.json")
    try:
        with torch.device("meta"):
            model = kind.from_config(settings)
    except Exception as error:  # diffusers and torch raise several types for values that make no model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BaseModelError(f"cannot load {folder} ({reason}); is the download complete?") from error
    return model.to(dtype)


def _part(state: Mapping[str, torch.Tensor], prefix: str, *, strip: bool = False) -> dict[str, torch.Tensor]:
    cut = len(prefix) if strip else 0
    return {name[cut:]: value for name, value in state.items() if name.startswith(prefix)}


def prediction_of(path: Path, state: Mapping[str, torch.Tensor]) -> str | None:
    """What the UNet predicts, ``epsilon`` or ``v_prediction``: by SDXL's ``v_pred`` key, by the config that the WebUI
    reads beside the file, ``NAME.yaml``, or by the header; None where nothing says so.

    Raises:
        BaseModelError: if that config cannot be read.
    """
    if "v_pred" in state:
        return "v_prediction"
    sidecar = path.with_suffix(".yaml")
    if sidecar.is_file():
        import yaml

        try:
            params = yaml.safe_load(sidecar.read_text(encoding="utf-8"))["model"]["params"]
            parameterization = params.get("parameterization", "eps")
        except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
            raise BaseModelError(
                f"{sidecar} (the config beside {path.name}) cannot be read; repair or remove it"
            ) from error
        return "v_prediction" if parameterization == "v" else "epsilon"
    # the word epsilon stands in headers of merges that know nothing of it, and is usual where nothing is said
    return "v_prediction" if stated_prediction(_metadata(path)) == "v" else None


def scheduler_facts(path: Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """The base's scheduler config as the file itself says it should be: what is predicted (:func:`prediction_of`), and
    whether the noise ends at zero SNR, by SDXL's ``ztsnr`` key or by the header.

    As in ComfyUI, the latter holds for a model that predicts v alone: a noise prediction says nothing of the picture
    where there is only noise.

    Args:
        config: of the folder by whose configs the file is read.
    Raises:
        BaseModelError: as :func:`prediction_of`.
    """
    said = dict(config)
    if prediction := prediction_of(path, state):
        said["prediction_type"] = prediction
    if said.get("prediction_type") == "v_prediction" and (
        "ztsnr" in state or stated_zero_snr(_metadata(path)) == "True"
    ):
        said["rescale_betas_zero_snr"] = True
    return said


def _metadata(path: Path) -> Mapping[str, str]:
    return read_header(path).metadata if path.suffix.lower() == ".safetensors" else {}


def from_open_clip(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """OpenCLIP's text tower under transformers' names: q, k and v are split, the projection is transposed."""
    renamed = {}
    for key, value in state.items():
        for view in open_clip_views(key):
            piece = value if view.third is None else value.chunk(3)[view.third]
            renamed[view.name] = (piece.T if view.transposed else piece).contiguous()
    return renamed
