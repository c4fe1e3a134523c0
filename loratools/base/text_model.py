"""CLIP text encoders and tokenizers, for every supported version of transformers.

transformers 5.6 dropped the ``text_model.`` level of ``CLIPTextModel`` from its module names; files exist in both
layouts, so weights are matched by their names without it and loaded under the names of the installed version.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from loratools.errors import BaseModelError

MERGES = Path(__file__).parent / "configs" / "clip_merges.txt"
_LEVEL = "text_model."
_WRAPPED = re.compile(r"^(?:model\.)?(?:language_model\.)?(?:model\.)?(?=(?:layers|embed_tokens|norm)(?:\.|$))")


def flat(name: str) -> str:
    """``name`` without a leading ``text_model.``, which is the same in every version of transformers."""
    return name.removeprefix(_LEVEL)


def canonical(name: str) -> str:
    """The name with ``text_model.`` in front, as LoRA files and older tools have it; the projection stays outside."""
    return name if name.startswith((_LEVEL, "text_projection")) else _LEVEL + name


def canonical_in(model: Any, name: str) -> str:
    """The canonical name of a text encoder's module: CLIP's as :func:`canonical`; a language model's without what
    stands before its layers, which differs by what the model is wrapped in; all others', such as T5's, as it is."""
    if type(model).__name__.startswith("CLIP"):
        return canonical(name)
    return _WRAPPED.sub("", name)


def build_text_encoder(config_folder: Path, state: Mapping[str, torch.Tensor], dtype: torch.dtype, source: str) -> Any:
    """A ``CLIPTextModel`` (or ``...WithProjection``, as the config's ``architectures`` says) with these weights.

    Layers beyond the config's depth are left out (SD 2.x files carry CLIP's unused last layer).

    Raises:
        BaseModelError: if a weight is missing or has another shape than the config's.
    """
    kind, config = _kind_and_config(config_folder)
    with torch.device("meta"):
        expected = {flat(name): (name, tuple(value.shape)) for name, value in kind(config).state_dict().items()}
    given = {flat(name): value for name, value in state.items()}
    expected.pop("embeddings.position_ids", None)
    missing = [name for name in expected if name not in given]
    if missing:
        raise BaseModelError(
            f"the text encoder of {source} lacks {len(missing)} tensors, such as {missing[0]}; "
            "is it another kind of model, or damaged?"
        )
    for name, (_, shape) in expected.items():
        if tuple(given[name].shape) != shape:
            raise BaseModelError(
                f"the text encoder of {source} has {name} of shape {tuple(given[name].shape)} where "
                f"its config asks for {shape}; is it another kind of model?"
            )
    weights = {name: given[short].to(dtype) for short, (name, _) in expected.items()}
    model = kind.from_pretrained(None, config=config, state_dict=weights)
    return model.to(dtype).eval()


def empty_text_encoder(config_folder: Path, dtype: torch.dtype) -> Any:
    """The same by its config alone: on torch's ``meta`` device, without weights."""
    kind, config = _kind_and_config(config_folder)
    with torch.device("meta"):
        return kind(config).to(dtype).eval()


def _kind_and_config(folder: Path) -> tuple[Any, Any]:
    """The class of a CLIP text encoder, and its config."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    settings = read_json(folder / "config.json")
    projected = "CLIPTextModelWithProjection" in settings.get("architectures", [])
    config = CLIPTextConfig(**{key: value for key, value in settings.items() if not key.startswith("_")})
    return CLIPTextModelWithProjection if projected else CLIPTextModel, config


def load_text_encoder(folder: Path, dtype: torch.dtype, source: str) -> Any:
    """The text encoder of a Diffusers folder's part, from ``model.safetensors`` or ``pytorch_model.bin``."""
    return build_text_encoder(folder, _read_weights(folder, source), dtype, source)


def _read_weights(folder: Path, source: str) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    shards = [f for name in ("model*.safetensors", "pytorch_model*.bin") for f in sorted(folder.glob(name))]
    plain = [shard for shard in shards if ".fp16." not in shard.name] or shards
    same_format = [shard for shard in plain if shard.suffix == plain[0].suffix]
    if not same_format:
        raise BaseModelError(f"{source} has no weights in {folder.name}; download the folder again")
    state: dict[str, torch.Tensor] = {}
    for shard in same_format:
        try:
            state |= (
                load_file(shard)
                if shard.suffix == ".safetensors"
                else torch.load(shard, map_location="cpu", weights_only=True)
            )
        except (SafetensorError, RuntimeError, OSError, ValueError) as error:
            raise BaseModelError(f"{shard} cannot be read ({error}); download it again") from error
    return state


def load_tokenizer(folder: Path) -> Any:
    """The ``CLIPTokenizer`` of a Diffusers folder's part; one without a vocabulary gets CLIP's own (shipped)."""
    from transformers import CLIPTokenizer

    if (folder / "vocab.json").is_file() or (folder / "tokenizer.json").is_file():
        return CLIPTokenizer.from_pretrained(folder)
    from loratools.pocket.tokenizer import write_clip_files

    settings = read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").is_file() else {}
    with tempfile.TemporaryDirectory() as name:
        write_clip_files(_clip_merges(), _clip_alphabet(), Path(name))
        return CLIPTokenizer.from_pretrained(name, pad_token=settings.get("pad_token", "<|endoftext|>"))


def _clip_merges() -> list[tuple[str, str]]:
    pairs = (line.split(" ") for line in MERGES.read_text(encoding="utf-8").split("\n") if line)
    return [(left, right) for left, right in pairs]


def _clip_alphabet() -> list[str]:
    """Every byte as a character: those that print stand for themselves, the others start at U+0100 (GPT-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(code) for code in printable] + [chr(0x100 + n) for n in range(256 - len(printable))]


def read_json(path: Path) -> dict[str, Any]:
    """One of a Diffusers folder's config files.

    Raises:
        BaseModelError: if it is missing or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BaseModelError(f"{path} is missing or unreadable; download the folder again") from error
    except ValueError as error:
        raise BaseModelError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} is not a JSON object; download it again")
    return value
