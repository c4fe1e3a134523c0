"""A Diffusers folder before anything of it is loaded: which pipeline it is of, and whether it is all there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loratools.base.pipelines.kinds import OPTIONAL_TEXT
from loratools.base.text_model import read_json
from loratools.errors import BaseModelError, UnavailableError

INDEX = "model_index.json"
# what a folder's config.json says of its quantisation -> the package that reads it
_QUANTISERS = {
    "bitsandbytes": "bitsandbytes",
    "torchao": "torchao",
    "quanto": "optimum-quanto",
    "gguf": "gguf",
    "modelopt": "nvidia-modelopt",
}
_IMPORTED = {"optimum-quanto": "optimum.quanto", "nvidia-modelopt": "modelopt"}


@dataclass(frozen=True)
class PipelineFolder:
    """A folder with its ``model_index.json``: ``kind`` is the name of its pipeline's class."""

    path: Path
    kind: str
    parts: Mapping[str, tuple[str | None, str | None]]  # (library, class) by the part's name; None where it is left out

    @staticmethod
    def read(path: Path) -> PipelineFolder:
        """Raises BaseModelError if the index cannot be read, or names no pipeline of diffusers."""
        index = read_json(path / INDEX)
        kind = index.get("_class_name")
        if not isinstance(kind, str):
            raise BaseModelError(
                f"{path / INDEX} names no pipeline of diffusers ({kind}); give a folder without code of its own"
            )
        parts = {name: own for name, own in index.items() if isinstance(own, list) and len(own) == 2}
        return PipelineFolder(path, kind, {name: (own[0], own[1]) for name, own in parts.items()})

    def pipeline_class(self) -> Any:
        """The class of its pipeline.

        Raises:
            BaseModelError: if the installed diffusers has none of that name, or it draws upon given pictures.
        """
        import diffusers

        found = getattr(diffusers, self.kind, None)
        if not isinstance(found, type) or not issubclass(found, diffusers.DiffusionPipeline):
            raise BaseModelError(
                f"{self.path} is drawn by diffusers' {self.kind}, which the installed diffusers "
                f"{version('diffusers')} does not have; update diffusers"
            )
        return found

    def check(self, optional: tuple[str, ...] = (), device: str = "cpu") -> None:
        """Raise unless every part is there, and can be read for a kind of device.

        Args:
            optional: parts that the pipeline's class can do without.
        Raises:
            BaseModelError: for a part that is missing, and for two transformers.
            UnavailableError: for weights that need a package that is not installed, or another device.
        """
        spare = (*optional, *OPTIONAL_TEXT.get(self.kind, ()))
        for name, (library, _) in self.parts.items():
            if library is not None and not (self.path / name).is_dir():
                raise BaseModelError(f"{self.path} lacks its folder {name}/, which {INDEX} names; download it again")
            if library is None and name.startswith(("text_encoder", "tokenizer", "vae")) and name not in spare:
                raise BaseModelError(
                    f"{self.path} has no {name}, so that no picture can be drawn; give the whole Diffusers folder"
                )
        if self.parts.get("transformer_2", (None, None))[0] is not None:
            raise BaseModelError(
                f"{self.path} has two transformers, for high and for low noise, and a LoRA file does not say which it "
                "is for; give a model of one transformer, such as Wan 2.1 or Wan 2.2 5B"
            )
        for name in self.parts:
            self._check_quantiser(name, device)

    def _check_quantiser(self, part: str, device: str) -> None:
        method = quantisation(self.path / part)
        package = _QUANTISERS.get(method or "", method)
        if package is not None and find_spec(_IMPORTED.get(package, package).partition(".")[0]) is None:
            raise UnavailableError(
                f"{self.path / part} is quantised by {method}, which needs {package}; install it "
                f"(pip install {package}), or give the folder in full precision"
            )
        if method == "bitsandbytes" and device == "cpu":
            raise UnavailableError(
                f"{self.path / part} is quantised by bitsandbytes, which diffusers reads on a GPU alone; use one, or "
                "give the folder in full precision"
            )

    def variant(self) -> str | None:
        """The variant that diffusers is asked for: ``fp16`` or ``bf16``, where a part has no other weights."""
        for name, (library, _) in self.parts.items():
            weights = [f.name for f in (self.path / name).glob("*.safetensors")] if library is not None else []
            for variant in ("fp16", "bf16"):
                if weights and all(f".{variant}." in own for own in weights):
                    return variant
        return None


def is_pipeline_folder(path: Path) -> bool:
    """Whether the Diffusers folder ``path`` is drawn by diffusers' own pipeline: it has a transformer and no UNet.

    Raises:
        BaseModelError: if its index cannot be read.
    """
    index = read_json(path / INDEX)
    return "unet" not in index and isinstance(index.get("transformer"), list)


def quantisation(part: Path) -> str | None:
    """How a part's weights are quantised, such as ``bitsandbytes``; None where they are plain numbers."""
    if not (part / "config.json").is_file():
        return None
    config = read_json(part / "config.json").get("quantization_config")
    return str(config.get("quant_method")) if isinstance(config, dict) else None
