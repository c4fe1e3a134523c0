"""Grids of pictures: rendered, and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.errors import GridError, PromptError, did_you_mean
from loratools.library.options import OneOrMore, PresetSource, StrPath, several
from loratools.library.terms import TermReading
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.preview.record.grid import Grid
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.read_rows import NameLookup
    from loratools.preview.request.request import ModelRequest, SamplingRequest
    from loratools.preview.run import GridResult

_SLOTS = ("x", "y", "z")


@dataclass(frozen=True)
class GridOptions:
    """What a grid may be told beyond what it shows; what is left out is what ``grid`` does by itself.

    Args:
        base_alone: show the base alone in front.
        most: how many pictures are allowed, where it is more than the usual.
        missing: weight of the modules in blocks that a short vector does not list; None makes them an error.
        allow_unknown, drop: as for ``read``.
    """

    base_alone: bool = True
    most: int | None = None
    missing: float | None = None
    allow_unknown: bool = False
    drop: OneOrMore = ()


def render_grid(
    rows: OneOrMore,
    out: StrPath,
    *,
    base: StrPath | ModelRequest,
    prompts: str | Sequence[str],
    weights: str | Sequence[float] | None = None,
    axes: Mapping[str, str] | None = None,
    seeds: int | Sequence[int] = 1,
    sampling: SamplingRequest | None = None,
    engine: EngineOptions | None = None,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    options: GridOptions | None = None,
    device: str = "auto",
    title: str = "",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> GridResult:
    """Render every row at every weight beside the base alone; pictures that an earlier run left are used again.

    Args:
        rows: LoRA files, merge strings such as ``"A:1:GP1,B:-1:GP2"``, or a training run (a row for each epoch).
        out: the folder of the pictures, ``grid.png``, ``grid.html`` and ``grid.json``.
        base: a Diffusers folder, a ``.safetensors`` or ``.ckpt`` file, a hub id, or ``pocket``; or
            ``ModelRequest("pocket", dtype="fp16", vae=Path("vae"), embeddings=Path("embeddings"))``, which also says
            how it is loaded and what prompts may name.
        prompts: one or more, or a ``.txt`` file of them.
        weights: across: ``"0:1:0.25"``, which is the default, or numbers.
        axes: what else differs: ``{"x": "cfg: 4, 7", "y": "sampler: Euler a, DPM++ 2M Karras"}``.
        seeds: one or more.
        sampling: ``SamplingRequest(steps=20, cfg=7, size=(768, 512))``; None takes the base's own.
        engine: ``EngineOptions(batch=4, mixed=True)``.
        lora_dirs, presets: as for ``merge``.
        options: ``GridOptions(missing=0, allow_unknown=True)``; None is what ``grid`` does by itself.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; the one of a ``ModelRequest``, where that names one.
        title: over the sheet.
        force: overwrite a grid that something else rendered.
        on_progress: called as ``on_progress(pictures done, all pictures)`` after each batch.
    Returns:
        Paths of the sheet (``png``), the page (``html``) and the record (``json``), and ``paths(row, weight)``.
    Raises:
        GridError, PromptError: for rows, axes, weights or prompts that make no grid.
        BaseModelError, ShapeError: for a base that is none, or a LoRA that does not fit it.
        FileError: for a LoRA that is not there, or a folder that holds another grid.
    """
    from loratools.preview.request.axes import parse_axis
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.read_axes import build_arrangement
    from loratools.preview.request.request import GridRequest, SamplingRequest
    from loratools.preview.request.row_text import RowText
    from loratools.preview.run import GridOutput, render_request

    own, names = options or GridOptions(), several(rows)
    given = (prompts,) if isinstance(prompts, str) else tuple(prompts)
    kinds = (axes or {}).values()
    if not given and not any(kind.strip().lower().startswith("prompt") for kind in kinds):
        raise PromptError("there is no prompt; give at least one")
    if not names and not any(kind.strip().lower().startswith("adapter") for kind in kinds):
        raise GridError("there is no row; give at least one LoRA file, merge string or run")
    for name, value in {"weights": weights, "seeds": seeds}.items():
        if isinstance(value, Sequence) and not value:
            raise GridError(f"{name} is empty; give at least one, or leave it out")
    if odd := [slot for slot in axes or {} if slot not in _SLOTS]:
        raise GridError(f"there is no axis '{odd[0]}'{did_you_mean(odd[0], _SLOTS)}; axes are {', '.join(_SLOTS)}")
    request = GridRequest(
        rows=[RowText.typed(row) for row in names],
        axes=tuple(parse_axis(text, slot) for slot, text in (axes or {}).items()),
        weights=weights if weights is None or isinstance(weights, str) else ",".join(f"{one:g}" for one in weights),
        prompts=given,
        seeds=(seeds,) if isinstance(seeds, int) else tuple(seeds),
        sampling=sampling or SamplingRequest(),
        model=_model(base, device),
        base_alone=own.base_alone,
        most=own.most,
        engine=engine or EngineOptions(),
        title=title,
    )
    lookup = name_lookup(TermReading(lora_dirs, presets, own.missing, allow_unknown=own.allow_unknown, drop=own.drop))
    output = GridOutput(Path(out), force=force, on_picture=on_progress)
    return render_request(request, build_arrangement(request, lookup), lookup, output)


def _model(base: StrPath | ModelRequest, device: str) -> ModelRequest:
    """The model that a caller names, on the device that the model's request or else ``device`` says."""
    from loratools.preview.request.request import ModelRequest

    if not isinstance(base, ModelRequest):
        return ModelRequest(str(base), device=device)
    if device != "auto" and base.device not in ("auto", device):
        raise GridError(f"the device is {base.device} in `base` and {device} in `device`; give one of them")
    return replace(base, device=device) if base.device == "auto" else base


def read_grid(folder: StrPath) -> Grid:
    """The record of a grid that was rendered into ``folder``: its rows, weights, prompts, pictures and verdicts.

    Raises:
        FileError, FormatError: if there is none, or it cannot be understood.
    """
    from loratools.preview.record.folder import read_grid as read_record

    return read_record(Path(folder))


def name_lookup(reading: TermReading) -> NameLookup:
    """How a grid's names are found: files of prompts in the current folder, LoRAs in the folders of ``reading`` too."""
    from loratools.adapter.files.epoch_files import find_lora
    from loratools.blocks.presets import load_presets
    from loratools.preview.request.read_rows import NameLookup
    from loratools.train.output.epoch_report import best_epoch

    return NameLookup(
        lambda ref: find_lora(ref, several(reading.lora_dirs)),
        lambda text: Path(text) if Path(text).is_file() else None,
        load_presets(reading.presets),
        None if reading.missing is None else float(reading.missing),
        best_epoch,
        reading.keys,
    )
