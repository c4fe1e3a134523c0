"""Operations from LoRA file to LoRA file: subtract, resize, extract and convert."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from loratools.dtypes import DTYPE_NAMES, Dtype
from loratools.errors import FileError
from loratools.library.files import read
from loratools.library.options import (
    OneOrMore,
    PresetSource,
    StrPath,
    base_weights,
    key_rules,
    lora_file,
    lora_out,
    one_of,
    rank_rule,
    several,
    storage_type,
)
from loratools.library.terms import TermReading, short_terms
from loratools.progress import OnProgress

if TYPE_CHECKING:
    from loratools.adapter.files.key_layout import Style
    from loratools.ops.convert import Converted
    from loratools.ops.edit_header import EditedHeader, HeaderEdit
    from loratools.ops.report import MergeReport
    from loratools.ops.resize import ResizeReport
    from loratools.ops.style_removal import Mode, SubtractMethod
    from loratools.ops.subtract import SubtractReport


def subtract(
    style: str,
    base_style: str,
    out: StrPath | None = None,
    *,
    mode: Mode | SubtractMethod = "direct",
    blocks: str | None = None,
    lora_dirs: OneOrMore = (),
    presets: PresetSource | None = None,
    missing: float | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    rank: str | int = "exact",
    dtype: Dtype = "fp16",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> SubtractReport:
    """Remove one LoRA from another, and say what was removed and kept in each block.

    Args:
        style, base_style: LoRA files, or merge strings.
        out: the file to write; None only measures.
        mode: ``direct`` takes all of it, ``matched`` only what the style has along it, ``project`` its directions,
            ``soft`` those in part; or a ``SubtractMethod``, which has their settings too.
        blocks: how strongly in each block: a preset, numbers, or names with numbers.
        lora_dirs, presets, missing, base, allow_unknown, drop, rank, dtype, force, on_progress: as for ``merge``.
    Returns:
        ``blocks`` and ``total`` with cosine, removed energy and kept norm; ``stored``, the file's own report.
    Raises:
        LoratoolsError: of the kinds that ``merge`` names.
    """
    from loratools.blocks.parse import parse_vector
    from loratools.blocks.presets import load_presets
    from loratools.ops.style_removal import SubtractMethod
    from loratools.ops.subtract import subtract_files

    target = None if out is None else lora_out(out)
    method = mode if isinstance(mode, SubtractMethod) else SubtractMethod(mode)
    rule, stored_as = rank_rule(rank), storage_type(dtype)
    reading = TermReading(lora_dirs, presets, missing, base, allow_unknown, drop)
    first, second = reading.terms(style), reading.terms(base_style)
    vector = None
    if blocks:
        vector = parse_vector(blocks, load_presets(presets), first[0].adapter.family, second[0].adapter)
    names = f"{short_terms(style)} - {short_terms(base_style)}"
    return subtract_files(
        first,
        second,
        target,
        method=method,
        vector=vector,
        missing=None if missing is None else float(missing),
        rule=rule,
        dtype=stored_as,
        force=force,
        owner=f"subtract {method.mode} {names}" + (f" {blocks}" if blocks else ""),
        on_progress=on_progress,
    )


def resize(
    file: StrPath,
    out: StrPath,
    *,
    rank: str | int,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    dtype: Dtype = "fp16",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> ResizeReport:
    """Write a LoRA with other ranks, the loss stated for each block.

    Args:
        rank: ``exact`` (what each module really has), a number, ``error=0.01``, ``energy=0.999`` or ``size=36MiB``.
        base, allow_unknown, drop: as for ``read``.
        dtype, force, on_progress: as for ``merge``.
    Returns:
        ``stored``, the file's own report, and ``ranks`` by block, before and after.
    Raises:
        RankError: for a rank that cannot be met.
        FileError, FormatError: for a file that is no LoRA, or an ``out`` that something else wrote.
    """
    from loratools.ops.resize import resize_file

    target, rule = lora_out(out), rank_rule(rank)
    return resize_file(
        read(file, base=base, allow_unknown=allow_unknown, drop=drop),
        target,
        rule=rule,
        dtype=storage_type(dtype),
        force=force,
        owner=resize_owner(file, rank),
        on_progress=on_progress,
    )


def resize_owner(file: StrPath, rank: str | int) -> str:
    """Who may write a resized ``file`` again: the same resize."""
    return f"resize {Path(file).name} {rank_rule(rank).text()}"


def extract(
    tuned: StrPath,
    out: StrPath,
    *,
    rank: str | int,
    base: StrPath | None = None,
    conv: bool = False,
    norms: bool = False,
    biases: bool = False,
    seed: int = 0,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    dtype: Dtype = "fp16",
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> MergeReport:
    """Make a LoRA of what turns the model ``base`` into the model ``tuned``.

    Args:
        tuned: the model after tuning, or a full training's run (``RUN@8``); or, without ``base``, an adapter of full
            differences.
        rank: a number, ``error=0.1``, ``energy=0.99``, ``size=36MiB`` or ``exact``.
        base: the model before tuning.
        conv, norms, biases: take convolutions, normalisations and biases too.
        seed: of the random projections.
        allow_unknown, drop, dtype, force, on_progress: as for ``merge``.
    Returns:
        Its ``error`` is of the whole change, and ``left_out`` says what was not taken.
    Raises:
        BaseModelError, ShapeError, FormatError: for models that are none, do not fit, or are the same.
        RankError: for a rank that cannot be met.
    """
    from loratools.base.base_path import base_path
    from loratools.ops.extract import extract_files
    from loratools.ops.extract_parts import Take

    target, rule = lora_out(out), rank_rule(rank)
    return extract_files(
        None if base is None else base_path(str(base)),
        _tuned_model(tuned),
        target,
        rule=rule,
        keys=key_rules(allow_unknown, drop),
        take=Take(conv, norms, biases),
        dtype=storage_type(dtype),
        seed=seed,
        force=force,
        owner=extract_owner(tuned, rank, base),
        on_progress=on_progress,
    )


def _tuned_model(tuned: StrPath) -> Path:
    """A model's file or folder; of a full training's run the last epoch's, or the one that is named (``RUN@8``)."""
    from loratools.adapter.files.epoch_files import is_run
    from loratools.base.base_path import base_path

    path = Path(tuned).expanduser()
    is_folder = (path / "model_index.json").is_file()
    if not is_folder and not path.is_file() and (is_run(path) or not path.exists()):
        with contextlib.suppress(FileError):  # it may be `pocket` or a hub id
            return lora_file(tuned)
    return base_path(str(tuned))


def extract_owner(tuned: StrPath, rank: str | int, base: StrPath | None) -> str:
    """Who may write what was extracted again: the same extraction."""
    names = " ".join(Path(path).name for path in (base, tuned) if path)
    return f"extract {names} {rank_rule(rank).text()}"


def convert(
    file: StrPath,
    out: StrPath,
    *,
    to: Style,
    dtype: Dtype | None = None,
    base: StrPath | None = None,
    allow_unknown: bool = False,
    drop: OneOrMore = (),
    force: bool = False,
    on_progress: OnProgress | None = None,
) -> Converted:
    """Rewrite a LoRA file or a PEFT folder in another style; its differences stay the same.

    Args:
        to: ``kohya``, which WebUIs and ComfyUI read, ``diffusers``, ``comfy`` (the original network's dotted paths
            behind ``diffusion_model.``) or ``original`` (the same paths bare).
        dtype: ``fp16``, ``bf16`` or ``fp32``; None keeps the file's own.
        base, allow_unknown, drop: as for ``read``.
        force, on_progress: as for ``merge``.
    Raises:
        FileError, FormatError: for a file that is no LoRA, a style that has no word for it, or an ``out`` that
            something else wrote.
    """
    from loratools.adapter.files.key_layout import Style
    from loratools.ops.convert import convert as convert_file

    return convert_file(
        lora_file(file),
        lora_out(out),
        style=one_of(to, get_args(Style), "to"),
        dtype=None if dtype is None else one_of(dtype, DTYPE_NAMES, "dtype"),
        base=base_weights(base),
        allow_unknown=allow_unknown,
        drop=several(drop),
        force=force,
        on_progress=on_progress,
    )


def edit_header(
    file: StrPath,
    out: StrPath | None = None,
    *,
    title: str | None = None,
    trigger: str | None = None,
    tags: str | None = None,
    description: str | None = None,
    author: str | None = None,
    license: str | None = None,
    usage_hint: str | None = None,
    preview: StrPath | None = None,
    entries: Mapping[str, str] | None = None,
    remove: OneOrMore = (),
    force: bool = False,
) -> EditedHeader:
    """Change what a LoRA file says of itself; its tensors stay as they are, byte for byte, and its hashes true.

    Args:
        out: the file to write; None changes ``file`` itself, whole or not at all.
        title, trigger, tags, description, author, license, usage_hint: the header's ``modelspec`` entries; None leaves
            one as it is, an empty text takes it away.
        preview: a picture, which becomes ``modelspec.thumbnail`` at 256 x 256 at most.
        entries: any other ``modelspec.*`` and ``ss_*`` entries.
        remove: entries that are taken away.
        force: overwrite a file ``out`` that holds other tensors.
    Returns:
        ``changed`` has each entry's text before and after.
    Raises:
        FileError, FormatError: for a file that cannot be read, or an ``out`` that holds other tensors.
        OptionError: for an entry that is computed, or nothing to change.
    """
    from loratools.ops.edit_header import edit_header as edit_file

    texts = {"title": title, "trigger": trigger, "tags": tags, "description": description, "author": author}
    more = {"license": license, "usage_hint": usage_hint, "preview": preview, "entries": entries, "remove": remove}
    edit = header_edit({**texts, **more})
    return edit_file(lora_file(file), edit, None if out is None else lora_out(out), force=force)


def header_edit(options: Mapping[str, Any]) -> HeaderEdit:
    """The options of :func:`edit_header` by name, checked.

    Raises:
        OptionError: for an entry that is computed, or that no program reads.
    """
    from loratools.ops.edit_header import HeaderEdit

    given = {key: value for key, value in options.items() if key in HeaderEdit.__dataclass_fields__}
    preview = given.get("preview")
    picture = None if preview is None else Path(preview).expanduser()
    entries, remove = dict(given.get("entries") or {}), several(given.get("remove") or ())
    return HeaderEdit(**{**given, "preview": picture, "entries": entries, "remove": remove})
