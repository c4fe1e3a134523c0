"""Tensor names to modules: which keys belong together, what kind of adapter they are, and which modules they change.

The format is decided along independent dimensions: the namespace and spelling of the path (:mod:`.names`), the suffix,
where alpha stands, and whether a DoRA magnitude goes with it. Nothing here imports torch: describing a header is quick.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from loratools.adapter.algebra.fused_rows import FusedWeight, Rows, count_rows, rows_of
from loratools.adapter.algebra.shapes import layout, limit
from loratools.adapter.architectures.identify import Identity, identify
from loratools.adapter.architectures.names import UNKNOWN, family_of, module_tree, resolve
from loratools.adapter.header import TensorInfo
from loratools.errors import FormatError, UnknownKeysError
from loratools.module_path import normal_path

_ROLES = {
    "lora_down.weight": "down", "lora_up.weight": "up", "lora_mid.weight": "mid", "alpha": "alpha",
    "lora_A.weight": "down", "lora_B.weight": "up", "lora.down.weight": "down", "lora.up.weight": "up",
    "lora_A": "down", "lora_B": "up", "lora_linear_layer.down.weight": "down", "lora_linear_layer.up.weight": "up",
    "hada_w1_a": "w1_a", "hada_w1_b": "w1_b", "hada_w2_a": "w2_a", "hada_w2_b": "w2_b", "hada_t1": "t1",
    "hada_t2": "t2", "lokr_w1": "lokr_w1", "lokr_w1_a": "lokr_w1_a", "lokr_w1_b": "lokr_w1_b", "lokr_w2": "lokr_w2",
    "lokr_w2_a": "lokr_w2_a", "lokr_w2_b": "lokr_w2_b", "lokr_t2": "lokr_t2", "diff": "diff", "w_norm": "w_norm",
    "b_norm": "bias", "diff_b": "bias", "lora_B.bias": "up_bias", "lora_up.bias": "up_bias", "lora.up.bias": "up_bias",
    "dora_scale": "dora", "lora_magnitude_vector": "magnitude", "lora_magnitude_vector.weight": "magnitude",
    "magnitude": "magnitude", "set_weight": "set", "reshape_weight": "reshape",
}  # fmt: skip

# PEFT writes the adapter's own name between these and the rest: lora_A.default.weight
_ROLES_AROUND_ADAPTER_NAME = {
    ("lora_A", "weight"): "down",
    ("lora_B", "weight"): "up",
    ("lora_B", "bias"): "up_bias",
    ("lora_magnitude_vector", "weight"): "magnitude",
}

# early Diffusers and XLabs end the path itself in _lora, then say down or up
_AFTER_LORA = {"down.weight": "down", "up.weight": "up"}
_LORA_ENDS = ("_lora", "_lora1", "_lora2")

_ROTATES = "it multiplies the base weight instead of adding to it, so it has no strength to scale or sum"
# Kinds that are no sum, by a suffix that only they have, with the reason.
_REFUSED = {
    "oft_blocks": "OFT",
    "oft_diag": "OFT",
    "oft_R.weight": "OFT",
    "oft_R": "OFT",
    "oft_r": "OFT",
    "boft_R": "BOFT",
    "boft_s": "BOFT",
    "on_input": "IA3",
    "ia3_l": "IA3",
    "a1.weight": "GLoRA",
    "a2.weight": "GLoRA",
    "b1.weight": "GLoRA",
    "b2.weight": "GLoRA",
}

NEED_BASE = ("dora", "set")  # kinds whose difference depends on the base
_FP8_SCALES = ("scale_weight", "weight_scale", "scale_input", "input_scale")

_CHECKPOINT = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner.", "conv_in.",
               "down_blocks.", "text_model.", "encoder.", "decoder.", "transformer_blocks.", "double_blocks.",
               "joint_blocks.", "blocks.", "layers.", "model.")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """The tensors of one stem: ``keys`` maps a role (``up``, ``down``, ``alpha``, ...) to the tensor's name.

    ``kind`` is ``lora``, ``tucker``, ``loha``, ``lokr``, ``diff``, ``norm``, ``set`` (a weight that takes the place of
    the base's) or, for a bias alone, empty. ``shape`` and
    ``rank`` are those of the whole stored difference, which ``fused`` may cut into several modules' rows.
    """

    stem: str
    kind: str
    keys: Mapping[str, str]
    fused: FusedWeight
    shape: tuple[int, ...]
    rank: int

    @property
    def dora(self) -> bool:
        """Whether the weight is decomposed: its difference then depends on the base."""
        return "dora" in self.keys or "magnitude" in self.keys


@dataclass(frozen=True)
class Piece:
    """One canonical name's part of a group: some rows of its difference, or of its bias."""

    group: Group
    rows: Rows
    shape: tuple[int, ...]
    bias: bool

    @property
    def kind(self) -> str:
        """What it is stored as: the group's kind, ``dora``, or ``bias``."""
        if self.bias:
            return "bias"
        return "dora" if self.group.dora else self.group.kind

    @property
    def rank(self) -> int:
        """Columns of its ``up``; the highest possible where it is no product."""
        return self.group.rank if self.kind in ("lora", "tucker", "loha", "lokr") else limit(self.shape)


@dataclass(frozen=True)
class Decoded:
    """A LoRA file's model, its pieces by canonical name (sorted), and the keys that nothing is known of.

    ``family`` is the one whose table named the pieces: the identity's own, or the one that was asked for.
    """

    identity: Identity
    family: str
    pieces: Mapping[str, Piece]
    leftover: tuple[str, ...]


def decode(
    path: Path,
    tensors: Mapping[str, TensorInfo],
    metadata: Mapping[str, str],
    *,
    component: str = "",
    allow_unknown: bool = False,
    family: str | None = None,
) -> Decoded:
    """What the tensors of a LoRA file are.

    Args:
        component: which one a PEFT folder's bare paths belong to, where that is known.
        allow_unknown: leave the keys that no table knows to the caller instead of refusing the file.
        family: the family whose table names the modules; by default the one that the file is identified as.
    Raises:
        FormatError: if it is no LoRA file, a module lacks a factor, is given twice, or its factors do not fit.
        UnknownKeysError: if any key is of a kind that is no sum; or is unknown, without ``allow_unknown``.
    """
    stems, leftover = _gather(path, tensors)
    if refused := [key for key in leftover if _split(key)[1] in _REFUSED]:
        raise UnknownKeysError(_refusal(path, refused))
    _refuse_what_says_no_sum(path, stems, leftover)
    kinds = {stem: _kind(roles) for stem, roles in stems.items()}
    if not any(kinds.values()) and not any(_has_bias(roles) for roles in stems.values()):
        raise _no_lora(path, tensors)
    known = {_located(stem, component): stem for stem in stems}
    shapes = {spelled: _shape(kinds[stem], stems[stem], tensors) for spelled, stem in known.items()}
    identity = identify(shapes, metadata)
    family = family or identity.family
    pieces: dict[str, Piece] = {}
    for spelled, stem in known.items():
        fused = resolve(spelled, family)
        if fused is None:
            leftover += stems[stem].values()
            continue
        group = _group(path, stem, kinds[stem], stems[stem], fused, tensors, family)
        _add_pieces(path, pieces, group, tensors)
    if family == UNKNOWN.name:
        _refuse_two_spellings(path, pieces)
    if leftover and not allow_unknown:
        raise UnknownKeysError(_unknown_message(path, leftover, family), allowable=True)
    return Decoded(identity, family, dict(sorted(pieces.items())), tuple(sorted(leftover)))


def peft_path(stem: str) -> str:
    """A stem's path as PEFT's own patterns see it."""
    return stem.removeprefix("base_model.model.")


def _gather(path: Path, tensors: Iterable[str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    stems: dict[str, dict[str, str]] = {}
    unknown = []
    for key in tensors:
        stem, suffix = _split(key)
        role = _role(suffix)
        if role is None:
            unknown.append(key)
            continue
        roles = stems.setdefault(stem, {})
        if role in roles:
            raise FormatError(f"{path} gives the same factor twice, as '{roles[role]}' and as '{key}'; export it again")
        roles[role] = key
    return stems, unknown


def _split(key: str) -> tuple[str, str]:
    """``(stem, suffix)`` by the longest suffix that is known; a key without one is all stem."""
    parts = key.split(".")
    for length in range(min(3, len(parts) - 1), 0, -1):
        stem, suffix = ".".join(parts[:-length]), ".".join(parts[-length:])
        if suffix in _AFTER_LORA and not stem.endswith(_LORA_ENDS):
            continue
        if _role(suffix) is not None or suffix in _REFUSED:
            return stem, suffix
    return key, ""


def _role(suffix: str) -> str | None:
    role = _ROLES.get(suffix) or _AFTER_LORA.get(suffix)
    if role is None and suffix.count(".") == 2:
        first, _, last = suffix.split(".")
        return _ROLES_AROUND_ADAPTER_NAME.get((first, last))
    return role


def _kind(roles: Mapping[str, str]) -> str:
    have = set(roles)
    if {"up", "down"} <= have:
        return "tucker" if "mid" in have else "lora"
    if {"w1_a", "w1_b", "w2_a", "w2_b"} <= have:
        return "loha"
    if have & {"lokr_w1", "lokr_w1_a"} and have & {"lokr_w2", "lokr_w2_a"}:
        return "lokr"
    return "diff" if "diff" in have else "norm" if "w_norm" in have else "set" if "set" in have else ""


_DORA = {"dora", "magnitude"}
_USED = {
    "lora": {"up", "down", "up_bias"},
    "tucker": {"up", "down", "mid"},
    "loha": {"w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"},
    "lokr": {"lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2"},
    "diff": {"diff"},
    "norm": {"w_norm"},
    "set": {"set"},
    "": set(),
}


def _shape(kind: str, roles: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> tuple[int, ...]:
    """The shape of a stem's difference before its family is known; empty where its factors do not tell."""
    try:
        return layout(kind, {role: tensors[key].shape for role, key in roles.items()}, 1)[0] if kind else ()
    except FormatError:
        return ()  # reading the module says what is wrong with it


def _has_bias(roles: Mapping[str, str]) -> bool:
    return "bias" in roles or "up_bias" in roles


def _located(stem: str, component: str) -> str:
    return f"{component}.{peft_path(stem)}" if component and stem.startswith("base_model.model.") else stem


def _group(
    path: Path,
    stem: str,
    kind: str,
    roles: Mapping[str, str],
    fused: FusedWeight,
    tensors: Mapping[str, TensorInfo],
    family: str,
) -> Group:
    extra = set(roles) - _USED[kind] - {"alpha", "bias"} - (set() if kind in ("", "norm") else _DORA)
    if extra or not (kind or "bias" in roles):
        only = _listed(roles[role] for role in (extra or roles))
        if kind:
            raise FormatError(f"{path}: '{stem}' has {only} beside what makes it a {kind}; export it again")
        raise FormatError(f"{path}: '{stem}' has only {only}; its other factors are missing; export it again")
    if not kind:
        return Group(stem, kind, roles, fused, (), 0)
    shapes = {role: tensors[key].shape for role, key in roles.items()}
    try:
        shape, rank = layout(kind, shapes, _kernels(family).get(fused.names[0], 1))
    except FormatError as error:
        raise _broken(path, stem, error) from None
    named = "norm" if len(shape) == 1 and kind != "set" else kind
    return Group(stem, named, _norm_roles(roles, shape), fused, shape, rank)


def _norm_roles(roles: Mapping[str, str], shape: tuple[int, ...]) -> Mapping[str, str]:
    """A full difference of one dimension is a normalisation's, however it is called."""
    if len(shape) > 1 or "diff" not in roles:
        return roles
    return {"w_norm" if role == "diff" else role: key for role, key in roles.items()}


def _add_pieces(path: Path, pieces: dict[str, Piece], group: Group, tensors: Mapping[str, TensorInfo]) -> None:
    columns = group.shape[1] if len(group.shape) > 1 else None
    bias = next((tensors[group.keys[role]].shape for role in ("bias", "up_bias") if role in group.keys), None)
    if {"bias", "up_bias"} <= set(group.keys):
        raise FormatError(f"{path}: '{group.stem}' gives its bias twice; export it again")
    try:
        rows = rows_of(group.fused, group.shape[0], columns) if group.shape else ()
        if bias is not None and (len(bias) != 1 or 0 in bias or (group.shape and bias != group.shape[:1])):
            raise FormatError(f"its bias of shape {bias} does not fit its weight of shape {group.shape}")
        bias_rows = rows_of(group.fused, bias[0], columns) if bias is not None else ()
    except FormatError as error:
        raise _broken(path, group.stem, error) from None
    if group.shape:
        end = ".weight" if len(group.shape) == 1 else ""
        _add(path, pieces, group, rows, end, group.shape[1:], bias=False)
    if bias is not None:
        _add(path, pieces, group, bias_rows, ".bias", (), bias=True)


def _add(
    path: Path,
    pieces: dict[str, Piece],
    group: Group,
    rows_of_modules: Iterable[Rows],
    end: str,
    rest: tuple[int, ...],
    *,
    bias: bool,
) -> None:
    for module, rows in zip(group.fused.names, rows_of_modules, strict=True):
        name = f"{module}{end}"
        if name in pieces:
            first = pieces[name].group.stem
            raise FormatError(f"{path} gives {name} twice, as '{first}' and as '{group.stem}'; export it again")
        pieces[name] = Piece(group, rows, (count_rows(rows), *rest), bias)


def _refuse_what_says_no_sum(path: Path, stems: Mapping[str, Mapping[str, str]], unknown: Iterable[str]) -> None:
    """Raise FormatError for a file that widens a layer of the base, or whose numbers have scales of their own."""
    if wider := [roles["reshape"] for roles in stems.values() if "reshape" in roles]:
        raise FormatError(
            f"{path} makes a layer of the base wider before it adds to it ('{wider[0]}', as control LoRAs do), which "
            f"no sum can say; use the file as it is, or leave that out with `drop={wider[0].rpartition('.')[0]}.*`"
        )
    if scales := [key for key in unknown if key.rpartition(".")[2] in _FP8_SCALES]:
        raise FormatError(
            f"{path} stores its factors as fp8 numbers with scales beside them ({_listed(scales)}), which no loader of "
            "LoRAs multiplies; export it again in bf16 or fp16"
        )


def _refuse_two_spellings(path: Path, pieces: Mapping[str, Piece]) -> None:
    """Raise FormatError if a file of a model that no table knows names one module in two spellings."""
    stems: dict[str, str] = {}
    for name, piece in pieces.items():
        first = stems.setdefault(normal_path(name), piece.group.stem)
        if first != piece.group.stem:
            raise FormatError(
                f"{path} gives one module twice, as '{first}' and as '{piece.group.stem}'; export it again"
            )


def _broken(path: Path, stem: str, error: FormatError) -> FormatError:
    return FormatError(f"{path}: module '{stem}' is broken: {error}; export the file again")


@lru_cache(maxsize=8)
def _kernels(family: str) -> dict[str, int]:
    return {module.name: module.kernel for module in module_tree(family) if module.kernel != 1}


def _no_lora(path: Path, tensors: Mapping[str, TensorInfo]) -> FormatError:
    if not tensors:
        return FormatError(f"{path} holds no tensors; export it again")
    if any(key.startswith(_CHECKPOINT) for key in tensors):
        return FormatError(f"{path} is a base model's checkpoint, not a LoRA; give it where a base is asked for")
    return FormatError(
        f"{path} is not a LoRA: no lora_up/lora_down pair among its {len(tensors)} tensors, such as {_listed(tensors)}"
    )


def _refusal(path: Path, keys: list[str]) -> str:
    kind = _REFUSED[_split(keys[0])[1]]
    return (
        f"{path} is of the kind {kind}, which is refused: {_ROTATES}. {len(keys)} keys: {_listed(keys)}; "
        "bake it into a model with the tool that made it, and extract a LoRA from that"
    )


def _unknown_message(path: Path, keys: list[str], family: str) -> str:
    embeddings = sum(key.startswith("bundle_emb.") for key in keys)
    what = f" ({embeddings} of them bundled textual-inversion embeddings)" if embeddings else ""
    return (
        f"{path} has {len(keys)} keys{what} that mean nothing in {family_of(family).title}: {_listed(keys)}; "
        "nothing is dropped in silence"
    )


def _listed(keys: Iterable[str]) -> str:
    keys = list(keys)
    shown = ", ".join(f"'{key[:100]}'" for key in keys[:4])
    return f"{shown} and {len(keys) - 4} more" if len(keys) > 4 else shown
