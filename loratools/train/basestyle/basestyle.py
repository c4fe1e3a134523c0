"""The base's own style as a LoRA: the base draws face_focus, cowboy_shot and full_body pictures and is trained on them.

Guide 004 subtracts such a LoRA from a style's, which takes away what the style's LoRA learnt of the base itself.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

from loratools import files
from loratools.adapter.files.metadata import guard_overwrite
from loratools.base.base_path import POCKET
from loratools.errors import RecipeError, did_you_mean
from loratools.progress import OnProgress
from loratools.train.config.config import TrainConfig
from loratools.train.config.read import make_config
from loratools.train.distributed import joined
from loratools.train.drawing.generate import (
    Generation,
    PictureFolder,
    draw_missing,
    drawn_by,
    read_generation,
    read_record,
    style_pictures,
)
from loratools.train.output.run_folder import RunFolder
from loratools.train.trainer import OnEpoch, RunResult, train

_REVISION = 2  # 2: prompts are read in the WebUI's syntax and at any length


def basestyle(
    base: str,
    out: Path,
    *,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    force: bool = False,
    progress: bool = True,
    on_epoch: OnEpoch | None = None,
    on_progress: OnProgress | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> RunResult:
    """Generate the base's pictures into ``OUT/images`` and train ``OUT/NAME-000001.safetensors`` ... on them.

    A second call with the same base (by digest) and settings returns the finished run; an unfinished one goes on where
    it stopped; anything else generates or trains anew. Of several processes each draws a part of the pictures.

    Args:
        base: whatever :func:`loratools.base.load.load_base` takes.
        out: folder of the run; ``name`` is ``<base>_BASE`` unless given.
        settings: fields of :class:`~loratools.train.drawing.generate.Generation` and of a training config, in one
            mapping; the preset is style-004, or pocket-style for the pocket base, so that style and base style are
            trained alike. What is None is not given.
        on_progress: called with (steps done, all steps) of the training.
        recipe: the recipe that the run is of, for the files' headers.
    Raises:
        RecipeError: for an unknown setting.
        FileError: if ``out`` holds pictures or files of someone else.
        LoratoolsError: whatever training raises.
    """
    name = name or re.sub(r"[^\w.-]+", "_", Path(base).stem) + "_BASE"
    generation, config = _configs(base, out, name, settings or {}, device, force)
    folder = RunFolder(Path(out), name)
    pictures = list(style_pictures(base, generation))
    picture_key = _key([_REVISION, *drawn_by(config), asdict(generation), [asdict(own) for own in pictures]])
    key = _key([picture_key, {**config.settings(), "base": None, "images": None}])
    record = folder.out / f"{name}.basestyle.json"
    known = read_record(record)
    finished = _finished(folder, known) if known.get("key") == key else None
    with joined(device) as (ranks, _):
        ranks.wait()  # until every process has read the record
        if finished is not None:
            return replace(finished, wrote=ranks.main)
        images = PictureFolder(_images(folder.out), picture_key)
        if ranks.main:
            images.claim(generation, force=force)
        ranks.wait()
        draw_missing(config, images, pictures, generation, device, ranks, bar=progress and ranks.main)
        ranks.wait()
    if ranks.main:
        files.write_text(record, json.dumps({"owner": folder.owner, "key": key}))
    config = config.model_copy(update={"resume": known.get("key") == key})
    result = train(config, progress=progress, on_epoch=on_epoch, on_progress=on_progress, recipe=recipe)
    if ranks.main:
        files.write_text(record, json.dumps(_record(folder, key, result), indent=1))
    return result


def _configs(
    base: str, out: Path, name: str, given: Mapping[str, Any], device: str, force: bool
) -> tuple[Generation, TrainConfig]:
    """How the pictures are made, and how the training on them goes."""
    generation, training = _split({key: value for key, value in given.items() if value is not None})
    config = make_config(
        {
            "preset": "pocket-style" if base == POCKET else "style-004",
            **training,
            "base": base,
            "images": str(_images(out)),
            "out": str(out),
            "name": name,
            "device": device,
            "force": force,
        },
        "basestyle",
    )
    return generation, config


def _images(out: Path) -> Path:
    return Path(out) / "images"


def _split(values: Mapping[str, Any]) -> tuple[Generation, dict[str, Any]]:
    """The settings of the pictures, and those of the training."""
    own = {field.name for field in fields(Generation)}
    valid = {*own, *TrainConfig.model_fields} - {"base", "images", "out", "name", "device", "force", "resume"}
    for key in values:
        if key not in valid:
            raise RecipeError(f"basestyle: there is no setting '{key}'{did_you_mean(key, sorted(valid))}")
    generation, mistake = read_generation({key: value for key, value in values.items() if key in own})
    if mistake is not None:
        raise RecipeError(f"basestyle: {mistake[0]}: {mistake[1]}")
    return generation, {key: value for key, value in values.items() if key not in own}


def _finished(folder: RunFolder, known: Mapping[str, Any]) -> RunResult | None:
    """The recorded run, if every file of it is still what it was."""
    from loratools.adapter.files.file import read

    paths = [folder.out / name for name in known.get("files", {})]
    if not paths or not all(path.is_file() for path in paths):
        return None
    for path in paths:
        guard_overwrite(path, folder.owner, False)
        if read(path).digest != known["files"][path.name]:
            return None
    return RunResult(
        name=folder.name,
        epochs=paths,
        log=folder.log,
        state=folder.state,
        losses=list(known["losses"]),
        steps=int(known["steps"]),
        seconds=0.0,
        dry_run=None,
        cached=True,
    )


def _record(folder: RunFolder, key: str, result: RunResult) -> dict[str, Any]:
    from loratools.adapter.files.file import read

    digests = {path.name: read(path).digest for path in result.epochs}
    return {"owner": folder.owner, "key": key, "files": digests, "losses": result.losses, "steps": result.steps}


def _key(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
