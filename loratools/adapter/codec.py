"""Tensor names to modules: which keys belong together, what kind of adapter they are, and which module they change.

The format is decided along independent dimensions: the namespace (kohya's flat stems or dotted paths), the suffix
spelling, and where alpha stands. Names come from the generated tables of :mod:`loratools.adapter.names`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from loratools.adapter.header import TensorInfo
from loratools.adapter.names import FAMILIES, canonical_name, family_of, known_canonical
from loratools.errors import FormatError, UnknownKeysError

_ROLES = {
    "lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "alpha": "alpha",
    "lora_A.weight": "down", "lora_B.weight": "up", "lora_A.default.weight": "down", "lora_B.default.weight": "up",
    "lora.down.weight": "down", "lora.up.weight": "up",
    "hada_w1_a": "w1_a", "hada_w1_b": "w1_b", "hada_w2_a": "w2_a", "hada_w2_b": "w2_b", "hada_t1": "t1",
    "hada_t2": "t2", "lokr_w1": "w1", "lokr_w1_a": "w1_a", "lokr_w1_b": "w1_b", "lokr_w2": "w2", "lokr_w2_a": "w2_a",
    "lokr_w2_b": "w2_b", "lokr_t2": "t2", "diff": "diff",
}  # fmt: skip

# Kinds that cannot be lowered to an additive difference here, by a suffix that only they have.
_REFUSED = {
    "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA", "lora_magnitude_vector.weight": "DoRA",
    "magnitude": "DoRA", "oft_blocks": "OFT", "oft_diag": "OFT", "oft_R.weight": "OFT", "on_input": "IA3",
    "a1.weight": "GLoRA", "a2.weight": "GLoRA", "b1.weight": "GLoRA", "b2.weight": "GLoRA",
    "w_norm": "normalisation difference", "b_norm": "normalisation difference", "diff_b": "bias difference",
    "lora_B.bias": "LoRA with a bias",
}  # fmt: skip

_OTHER_FAMILIES = {
    "lora_unet_double_blocks_": "Flux", "lora_unet_single_blocks_": "Flux", "lora_unet_joint_blocks_": "SD3",
    "transformer.": "Flux or SD3", "diffusion_model.": "a ComfyUI-style diffusion model", "lycoris_": "LyCORIS",
    "lora_prior_unet_": "Stable Cascade", "base_model.model.": "a PEFT folder's",
}  # fmt: skip

_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.", "conv_in.",
               "down_blocks.", "text_model.", "encoder.", "decoder.")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """The tensors of one module: ``keys`` maps a role (``up``, ``down``, ``alpha``, ...) to the tensor's name."""

    name: str
    stem: str
    kind: str
    keys: Mapping[str, str]


def decode(path: Path, tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> tuple[str, dict[str, Group]]:
    """The family of a LoRA file and its modules by canonical name, sorted.

    Raises:
        FormatError: if it is no LoRA file, or a module lacks a factor or is given twice.
        UnknownKeysError: if any key is of a kind or a module that no table knows.
    """
    stems, unknown = _gather(path, tensors)
    if not any(_kind(roles) for roles in stems.values()):
        raise _no_lora(path, tensors, unknown)
    if unknown:
        raise UnknownKeysError(_unknown_message(path, unknown))
    family = _family(path, stems, tensors, metadata)
    groups: dict[str, Group] = {}
    for stem, roles in stems.items():
        name, kind = _canonical(stem, family), _kind(roles)
        assert name is not None  # _family has checked every stem
        if kind is None:
            raise FormatError(f"{path}: '{stem}' has only {_listed(roles.values())}; its other factors are missing")
        if name in groups:
            raise FormatError(f"{path} gives {name} twice, as '{groups[name].stem}' and as '{stem}'; export it again")
        groups[name] = Group(name, stem, kind, roles)
    return family, dict(sorted(groups.items()))


def _gather(path: Path, tensors: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    stems: dict[str, dict[str, str]] = {}
    unknown = []
    for key in tensors:
        stem, suffix = _split(key)
        if suffix not in _ROLES:
            unknown.append(key)
            continue
        roles = stems.setdefault(stem, {})
        role = f"lokr_{_ROLES[suffix]}" if suffix.startswith("lokr_") else _ROLES[suffix]
        if role in roles:
            raise FormatError(f"{path} gives the same factor twice, as '{roles[role]}' and as '{key}'; export it again")
        roles[role] = key
    return stems, unknown


def _split(key: str) -> tuple[str, str]:
    """``(stem, suffix)``: at the first dot for flat kohya names, else by the longest known suffix."""
    if not key.startswith(("unet.", "text_encoder")):
        stem, _, suffix = key.partition(".")
        return stem, suffix
    parts = key.split(".")
    for length in (3, 2, 1):
        suffix = ".".join(parts[-length:])
        if suffix in _ROLES or suffix in _REFUSED:
            return ".".join(parts[:-length]), suffix
    return key, ""


def _kind(roles: Mapping[str, str]) -> str | None:
    have = set(roles)
    if {"up", "down"} <= have:
        return "tucker" if "mid" in have else "lora"
    if {"w1_a", "w1_b", "w2_a", "w2_b"} <= have:
        return "loha"
    if have & {"lokr_w1", "lokr_w1_a"} and have & {"lokr_w2", "lokr_w2_a"}:
        return "lokr"
    return "diff" if "diff" in have else None


def _family(path: Path, stems: Mapping[str, Mapping[str, str]], tensors: Mapping[str, TensorInfo],
            metadata: Mapping[str, str]) -> str:  # fmt: skip
    lost = {family: [stem for stem in stems if _canonical(stem, family) is None] for family in FAMILIES}
    fewest = min(len(stems) for stems in lost.values())
    best = [family for family in FAMILIES if len(lost[family]) == fewest]
    if fewest:
        raise UnknownKeysError(_unknown_message(path, [key for stem in lost[best[0]] for key in stems[stem].values()]))
    if len(best) == 1:
        return best[0]
    claimed = metadata.get("ss_base_model_version", "")
    for family in best:
        if claimed.startswith(family_of(family).base_model_version):
            return family
    return _family_by_width(best, stems, tensors)


def _family_by_width(families: list[str], stems: Mapping[str, Mapping[str, str]],
                     tensors: Mapping[str, TensorInfo]) -> str:  # fmt: skip
    """SD2's prompt is 1024 wide and SDXL's 2048; every other width (768, or a small model's) is taken for SD1."""
    for stem, roles in stems.items():
        down = tensors[roles["down"]].shape if "down" in roles else ()
        cross = stem.endswith(("attn2_to_k", "attn2_to_v", "attn2.to_k", "attn2.to_v"))
        text = stem.startswith(("lora_te_", "text_encoder.")) and stem.endswith("q_proj")
        if len(down) > 1 and (cross or text):
            width = {1024: "sd2", 2048: "sdxl"}.get(down[1], "sd1")
            return width if width in families else families[0]
    return families[0]


def _canonical(stem: str, family: str) -> str | None:
    if not stem.startswith(("unet.", "text_encoder")):
        return canonical_name(stem, family)
    component, _, path = stem.partition(".")
    if component != "unet" and not path.startswith("text_model."):
        stem = f"{component}.text_model.{path}"
    return stem if known_canonical(stem, family) else None


def _no_lora(path: Path, tensors: Mapping[str, TensorInfo], unknown: list[str]) -> FormatError:
    if not tensors:
        return FormatError(f"{path} holds no tensors; export it again")
    refused = _kind_of_unknown(unknown)
    if refused:
        return UnknownKeysError(_unknown_message(path, unknown))
    if any(key.startswith(_CHECKPOINT) for key in tensors):
        return FormatError(f"{path} is a base model's checkpoint, not a LoRA; give it as --base instead")
    return FormatError(f"{path} is not a LoRA: no lora_up/lora_down pair among its {len(tensors)} tensors, such as "
                       f"{_listed(tensors)}")  # fmt: skip


def _unknown_message(path: Path, keys: list[str]) -> str:
    kind = _kind_of_unknown(keys)
    why = f"{kind}, which is not supported yet" if kind else "modules that no SD1, SD2 or SDXL table knows"
    return f"{path} has {len(keys)} keys of {why}: {_listed(keys)}; nothing is dropped in silence"


def _kind_of_unknown(keys: Iterable[str]) -> str:
    for key in keys:
        suffix = _split(key)[1]
        if suffix in _REFUSED:
            return _REFUSED[suffix]
        for prefix, family in _OTHER_FAMILIES.items():
            if key.startswith(prefix):
                return f"{family} layout"
    return ""


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    shown = ", ".join(f"'{key[:100]}'" for key in keys[:4])
    return f"{shown} and {len(keys) - 4} more" if len(keys) > 4 else shown
