"""Pictures as vectors that can be compared: by pixels alone, or by a CLIP or DINO model that lies on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from loratools.base.quiet import quiet
from loratools.errors import FileError, FormatError

if TYPE_CHECKING:
    from PIL.Image import Image

_SIDE = 24  # pixels across and down that the plain comparison sees
_AT_ONCE = 16
_TEXT_TOKENS = 77


class Features(Protocol):
    """``name`` says by what is compared; vectors are of length 1, so that a dot product is the cosine."""

    name: str

    def images(self, images: Sequence[Image]) -> Tensor:
        """(n, d) in float32."""
        ...

    def texts(self, texts: Sequence[str]) -> Tensor | None:
        """(n, d) in the same space, or None where the model reads no text."""
        ...


class Pixels:
    """Colours of a 24 x 24 thumbnail around their mean: sees copies and layouts, not what a picture means."""

    name = "pixels"

    def images(self, images: Sequence[Image]) -> Tensor:
        """(n, 1728)."""
        import numpy as np

        thumbnails = (image.convert("RGB").resize((_SIDE, _SIDE)) for image in images)
        small = np.stack([np.asarray(thumbnail, np.float32) for thumbnail in thumbnails])
        flat = torch.from_numpy(small).reshape(len(images), -1)
        return _unit(flat - flat.mean(1, keepdim=True))

    def texts(self, texts: Sequence[str]) -> None:
        """Pixels read no text."""


class Clip:
    """A CLIP in transformers' format: pictures and prompts in one space."""

    name = "CLIP"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPModel

        with quiet():
            self._model = CLIPModel.from_pretrained(folder, local_files_only=True).eval()
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._prepare = _preparation(folder, self._model.config.vision_config.image_size)

    @torch.inference_mode()
    def images(self, images: Sequence[Image]) -> Tensor:
        """(n, projection)."""
        vision = self._model.vision_model
        parts = [
            self._model.visual_projection(vision(pixel_values=part).pooler_output)
            for part in _batches(images, self._prepare)
        ]
        return _unit(torch.cat(parts).float())

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """(n, projection); long prompts are cut at CLIP's length."""
        most = min(_TEXT_TOKENS, self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=most, return_tensors="pt")
        pooled = self._model.text_model(tokens.input_ids, attention_mask=tokens.attention_mask).pooler_output
        return _unit(self._model.text_projection(pooled).float())


class Dino:
    """A DINO, DINOv2 or other vision transformer in transformers' format, by its class token."""

    name = "DINO"

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        with quiet():
            self._model = AutoModel.from_pretrained(folder, local_files_only=True).eval()
        side = self._model.config.image_size
        self._prepare = _preparation(folder, side if isinstance(side, int) else side[0])

    @torch.inference_mode()
    def images(self, images: Sequence[Image]) -> Tensor:
        """(n, width)."""
        parts = [self._model(pixel_values=part).last_hidden_state[:, 0] for part in _batches(images, self._prepare)]
        return _unit(torch.cat(parts).float())

    def texts(self, texts: Sequence[str]) -> None:
        """DINO reads no text."""


def load_features(folder: Path) -> Features:
    """The model in ``folder``, a local copy in transformers' format; nothing is downloaded.

    Raises:
        FileError: if there is none.
        FormatError: if it is neither a CLIP nor a vision transformer, or cannot be loaded.
    """
    kind = model_kind(folder)
    try:
        return Clip(folder) if kind == "clip" else Dino(folder)
    except (OSError, ValueError) as error:
        raise FormatError(f"the {kind} model in {folder} cannot be loaded: {error}") from error


def model_kind(folder: Path) -> str:
    """What the config in ``folder`` says that the model there is: ``clip``, ``dinov2`` and so on.

    Raises:
        FileError: if there is none.
        FormatError: if it is neither a CLIP nor a vision transformer.
    """
    config = folder / "config.json"
    try:
        kind = str(json.loads(config.read_text(encoding="utf-8"))["model_type"])
    except OSError as error:
        raise FileError(
            f"{folder} holds no model (no {config.name}); give a folder with a CLIP or DINO as transformers saves it"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{config} is not a model's config; give a CLIP or DINO as transformers saves it") from error
    if kind != "clip" and not kind.startswith(("dino", "vit")):
        raise FormatError(f"{folder} is a '{kind}' model; a CLIP, a DINO or another vision transformer is needed")
    return kind


class _Preparation:
    """Resize the shorter side, cut the centre, and normalise: what image processors of these models do."""

    def __init__(self, side: int, mean: Sequence[float], deviation: Sequence[float]) -> None:
        self._side = side
        self._mean, self._deviation = (torch.tensor(list(own)).view(3, 1, 1) for own in (mean, deviation))

    def __call__(self, image: Image) -> Tensor:
        import numpy as np
        from PIL.Image import Resampling

        scale = self._side / min(image.size)
        size = max(self._side, round(image.width * scale)), max(self._side, round(image.height * scale))
        sized = image.convert("RGB").resize(size, Resampling.BICUBIC)
        left, top = (sized.width - self._side) // 2, (sized.height - self._side) // 2
        cut = sized.crop((left, top, left + self._side, top + self._side))
        pixels = torch.from_numpy(np.asarray(cut, np.float32).copy()).permute(2, 0, 1) / 255
        prepared: Tensor = (pixels - self._mean) / self._deviation
        return prepared


def _preparation(folder: Path, side: int) -> _Preparation:
    """By ``preprocessor_config.json``; without one, with CLIP's own numbers."""
    config: dict[str, Any] = {}
    path = folder / "preprocessor_config.json"
    if path.is_file():
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise FormatError(f"{path} is not JSON ({error})") from error
    mean = config.get("image_mean") or (0.48145466, 0.4578275, 0.40821073)
    deviation = config.get("image_std") or (0.26862954, 0.26130258, 0.27577711)
    return _Preparation(side, mean, deviation)


def _batches(images: Sequence[Image], prepare: _Preparation) -> Iterator[Tensor]:
    for start in range(0, len(images), _AT_ONCE):
        yield torch.stack([prepare(image) for image in images[start : start + _AT_ONCE]])


def _unit(vectors: Tensor) -> Tensor:
    unit: Tensor = vectors / vectors.norm(dim=1, keepdim=True).clamp_min(1e-9)
    return unit
