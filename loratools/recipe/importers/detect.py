"""``loratools recipe import``: finds out what a file or text is, and hands it to the reader of its kind.

Understood are SuperMerger's merge string (with its lines of named vectors), the metadata that it writes, configs of
sd-scripts' and of GUIs for it, sd-scripts' ``ss_*`` metadata, and the WebUI's generation parameters with LoRA Block
Weight's tags.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from loratools.errors import FileError, FormatError
from loratools.recipe.importers.loratools_file import from_lineage, from_step
from loratools.recipe.importers.model import (
    Imported,
    base_notes,
    imported_recipe,
    preset_notes,
    term_name,
    unknown_presets,
)
from loratools.recipe.importers.picture import PICTURES, picture_text
from loratools.recipe.importers.sd_scripts import from_config
from loratools.recipe.importers.sd_scripts_metadata import from_metadata
from loratools.recipe.importers.webui import from_infotext, is_infotext
from loratools.recipe.importers.write import step_name
from loratools.recipe.plan.lineage import lineage_of

_PRESET_LINE = re.compile(r"\s*(?P<name>[^\s:,]+)\s*:\s*(?P<values>[-\d.]+(?:\s*,\s*[-\d.]+){11,})\s*\Z")
_SQUARED = (
    "SuperMerger multiplies both factors by the ratio, so that it acts squared and -1 acts as +1; this recipe asks for "
    "the sum as it is written. `compat: supermerger` beside the terms repeats what that tool computes, or "
    "`supermerger-strength` for its 'same to Strength'"
)


def import_recipe(
    source: str, *, base: str | None = None, is_text: bool = False, dataset: str | None = None
) -> Imported:
    """A recipe of ``source``: a file, or, where there is none of that name, the text itself.

    Args:
        base: the base model to name; what the source names, or ``pocket``, if None.
        is_text: never take ``source`` for a file's name.
        dataset: sd-scripts' dataset config, for a file of its options that does not name it.
    Raises:
        FileError, FormatError: for a file that cannot be read, or holds nothing of the kind.
        LoratoolsError: for text that is neither a merge string nor generation parameters.
    """
    path = None if is_text else _file(source)
    if path is None:
        return _of_text(source, base)
    match path.suffix.lower():
        case ".toml":
            return from_config(path, base, dataset)
        case ".json" if _is_config(path):
            return from_config(path, base, dataset)
        case ".yaml" | ".yml":
            _refuse_other_trainers(path)
        case ".safetensors":
            return _of_lora(path, base)
        case suffix if suffix in PICTURES:
            return _of_text(picture_text(path), base, str(path))
    return _of_text(_read(path), base, str(path))


def _is_config(path: Path) -> bool:
    """Whether a JSON file is another trainer's config; else it may hold a recipe or a text."""
    from loratools.train.sd_scripts.trainer_file import is_trainer_json

    try:
        return is_trainer_json(json.loads(_read(path)))
    except ValueError:
        return False


def _refuse_other_trainers(path: Path) -> None:
    """Raise RecipeError that says whose file it is, where it is a trainer's that cannot be read here."""
    from loratools.train.sd_scripts.other_trainers import refuse_other_trainers
    from loratools.yamlio import read_yaml

    refuse_other_trainers(read_yaml(path))


def _file(source: str) -> Path | None:
    if "\n" in source or len(source) > 1000:
        return None
    path = Path(source).expanduser()
    if path.is_file():
        return path
    if path.suffix.lower() in (".toml", *PICTURES, ".txt") or (path.suffix == ".safetensors" and ":" not in source):
        raise FileError(f"{path} does not exist; check the name and the folder")
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{path} cannot be read as UTF-8 text: {error}") from error


def _of_text(text: str, base: str | None, source: str = "the text") -> Imported:
    if not text.strip():
        raise FormatError(f"{source} is empty; give a merge string or generation parameters")
    if is_infotext(text):
        return from_infotext(text, base, source)
    return _of_merge_string(text, base)


def _of_merge_string(text: str, base: str | None) -> Imported:
    """SuperMerger's text: the terms, and, on lines of their own, named vectors."""
    from loratools.ops.merging.merge_string import parse_merge_string

    lines = [line for line in text.strip().splitlines() if line.strip()]
    presets = [match for line in lines if (match := _PRESET_LINE.match(line)) is not None]
    terms = ", ".join(line.strip().rstrip(",") for line in lines if _PRESET_LINE.match(line) is None)
    if not terms:
        raise FormatError("the text holds named vectors alone; put the merge string, such as A:1:GP1,B:-1:GP2, first")
    if ":" not in terms and "," not in terms:
        raise FormatError(
            f"'{terms[:60]}' is neither a file nor a merge string; give a file of another tool, or text such as "
            "A:1:GP1,B:-1:GP2"
        )
    specs = parse_merge_string(terms)
    blocks = {match["name"]: [float(value) for value in match["values"].split(",")] for match in presets}
    unknown = unknown_presets([spec.vector_text for spec in specs if spec.vector_text], blocks)
    notes = [*preset_notes(unknown), _SQUARED, *base_notes(base)]
    steps = {"final": {"merge": terms}}
    return imported_recipe("SuperMerger's merge string", steps, base, notes, blocks=blocks, unknown=unknown)


def _of_lora(path: Path, base: str | None) -> Imported:
    from loratools.adapter.files.metadata import Provenance
    from loratools.adapter.header import read_header

    metadata = read_header(path).metadata
    parts = [metadata[key] for key in sorted(metadata, key=_numbered) if _numbered(key) >= 0]
    if parts:
        return _of_supermerger(path, parts, base)
    if (lineage := lineage_of(path)) is not None:
        return from_lineage(path, lineage, base)
    provenance = Provenance.from_metadata(metadata)
    if provenance is not None and (imported := from_step(path, provenance, base)) is not None:
        return imported
    if not any(key.startswith("ss_") for key in metadata):
        raise FormatError(f"{path} says nothing of how it was made: no metadata of SuperMerger or sd-scripts is in it")
    return from_metadata(path, metadata, base)


def _numbered(key: str) -> int:
    """``3`` for SuperMerger's ``sshs_cp3``, which holds the fourth file's metadata; -1 for any other key."""
    match = re.fullmatch(r"sshs_cp(\d{1,4})", key)
    return int(match[1]) if match else -1


def _of_supermerger(path: Path, parts: Sequence[str], base: str | None) -> Imported:
    """The files with ``sshs_ratio`` and ``sshs_blocks``, whose 26 numbers hold the ratio already."""
    terms, notes = [], [_SQUARED, f"{path.name} does not say whether 'same to Strength' was on"]
    for number, text in enumerate(parts):
        try:
            entry = json.loads(text)
            name, ratio = str(entry.get("ss_output_name") or f"lora{number}"), float(entry["sshs_ratio"])
            blocks = [float(value) for value in str(entry["sshs_blocks"]).split(",")]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"{path}: its entry sshs_cp{number} is not what SuperMerger writes ({error})") from error
        terms.append(_term(name, ratio, blocks))
    notes += base_notes(base)
    steps = {step_name(path.stem): {"merge": ", ".join(terms)}}
    return imported_recipe("SuperMerger's metadata", steps, base, notes)


def _term(name: str, ratio: float, blocks: Sequence[float]) -> str:
    shown = term_name(name)
    if len(set(blocks)) == 1:
        return f"{shown}:{blocks[0]:.10g}"
    weight = ratio or 1.0
    return f"{shown}:{weight:.10g}:{','.join(f'{value / weight:.10g}' for value in blocks)}"
