"""Rewriting a LoRA file in another style: the same differences, folded, by other names."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.architectures.names import UNKNOWN
from loratools.adapter.files.file import Adapter, Weights, read
from loratools.adapter.files.metadata import Provenance, inherited, merged_header
from loratools.adapter.files.save import Style, Written, total_error, write
from loratools.dtypes import torch_dtype
from loratools.errors import FormatError
from loratools.module_path import NETWORK, ModulePath, split_path
from loratools.progress import OnProgress

_DIFFUSERS_WORDS = ("transformer.", "unet.")


@dataclass(frozen=True)
class Converted:
    """A file that was rewritten: what it was and is, ``error``, what the cast to its storage type lost, and how many
    modules were ``padded`` with zeros to ``rank``, the highest of the file."""

    source: Path
    path: Path
    family: str
    style: str
    dtype: str
    modules: int
    carried: int
    digest: str
    error: float
    padded: int
    rank: int

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "source": str(self.source),
            "path": str(self.path),
            "family": self.family,
            "style": self.style,
            "dtype": self.dtype,
            "modules": self.modules,
            "carried": self.carried,
            "digest": self.digest,
            "error": self.error,
            "padded": self.padded,
            "rank": self.rank,
        }

    def text(self) -> str:
        """One line."""
        padded = f", {self.padded} of them padded with zeros to one rank (at most {self.rank})" if self.padded else ""
        carried = f", {self.carried} unknown keys carried" if self.carried else ""
        return (
            f"{self.path}  {self.family} in {self.style} style, {self.modules} modules{padded}, {self.dtype}, "
            f"error {self.error:.2e}{carried}"
        )


def convert(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    style: Style,
    dtype: str | None = None,
    base: Weights | None = None,
    allow_unknown: bool = False,
    drop: Sequence[str] = (),
    force: bool = False,
    owner: str | None = None,
    recipe: Mapping[str, Any] | None = None,
    on_progress: OnProgress | None = None,
) -> Converted:
    """Rewrite a LoRA file or PEFT folder.

    Args:
        style: ``kohya``, ``diffusers``, ``comfy`` (ComfyUI's and the original network's dotted paths behind
            ``diffusion_model.``) or ``original`` (the same without it).
        dtype: ``fp16``, ``bf16`` or ``fp32``; the source's own if None (the widest of several).
        base: the weights that a DoRA was trained on; its differences are then written as full ones.
        allow_unknown: carry keys that no table knows through untouched.
        drop: names of tensors, or patterns, that are left out.
        force: overwrite a file that ``owner`` did not write.
        owner: the recipe step or command that may write this file again; the same conversion if None.
        recipe: the recipe that the conversion is of, for the header.
        on_progress: called with (done, all) after each stored weight.
    Raises:
        FormatError: for a file of a model that no table knows, unless it is in that style already.
        LoratoolsError: of the kinds that ``read`` and ``write`` name.
    """
    adapter = read(source, base, allow_unknown, drop)
    if adapter.family == UNKNOWN.name:
        _check_style(adapter, style)
    chosen = dtype or _own_dtype(adapter)
    step = {"convert": adapter.path.name, "to": style, "dtype": chosen}
    inputs = [{"name": adapter.path.name, "digest": adapter.digest}]
    provenance = Provenance(
        step,
        owner or convert_owner(adapter.path.name, style),
        inputs,
        inherited([(adapter.digest, adapter.metadata)]),
        recipe=recipe,
    )
    texts = {**merged_header([adapter]), "ss_output_name": Path(out).stem}
    written = write(
        adapter,
        out,
        family=adapter.family,
        metadata=texts,
        dtype=torch_dtype(chosen),
        style=style,
        provenance=provenance,
        force=force,
        carried=adapter.carried,
        error=total_error,
        on_progress=on_progress,
    )
    return _report(adapter, written, style, chosen)


def convert_owner(name: str, style: str) -> str:
    """Who may write a conversion of the file ``name`` again: the same conversion."""
    return f"convert {name} --to {style}"


def _check_style(adapter: Adapter, style: Style) -> None:
    """Raise FormatError unless a file of a model that no table knows already spells its modules in ``style``.

    Another style is another path for each module (dots where there are underscores, or other words altogether).
    """
    paths = {module: split_path(module) for module in adapter.modules}
    if all(_spelled_in(style, path) for path in paths.values()):
        return
    stem = next(iter(paths))
    raise FormatError(
        f"{adapter.path} is for {adapter.identity.title}, so how {style} spells its modules, such as {stem}, cannot be "
        "told; use it as it is, or the converter of the tool that made it (merge and resize keep the spelling)"
    )


def _spelled_in(style: Style, path: ModulePath) -> bool:
    """Whether a module is spelled as ``style`` spells those of any model."""
    if style == "kohya":
        return path.flat
    if path.component != NETWORK:
        return not path.flat
    words = {"diffusers": _DIFFUSERS_WORDS, "comfy": ("diffusion_model.",), "original": ("",)}
    return not path.flat and path.word in words[style]


def _own_dtype(adapter: Adapter) -> str:
    own = set(adapter.dtypes)
    if own & {"F64", "F32"} or {"F16", "BF16"} <= own:  # of the two narrow types neither holds the other
        return "fp32"
    return "bf16" if "BF16" in own else "fp16"


def _report(adapter: Adapter, written: Written, style: Style, dtype: str) -> Converted:
    return Converted(
        source=adapter.path,
        path=written.path,
        family=adapter.identity.label,
        style=style,
        dtype=dtype,
        modules=len(adapter),
        carried=len(adapter.carried),
        digest=written.digest,
        error=written.error,
        padded=written.padded,
        rank=written.rank,
    )
