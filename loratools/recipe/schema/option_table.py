"""The table of every step and option, made from the models themselves, for ``docs/recipes.md`` and whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields

from pydantic.fields import FieldInfo

from loratools.recipe.schema.fields import SHORT, Strict
from loratools.recipe.schema.kinds import KINDS

_ELSEWHERE = {
    "train": "One LoRA file an epoch. Its options are those of a `loratools train` file; `images` is a folder, a list "
    "of folders, or a `draw` step; `base_adapters` and `network_weights` may name steps too.",
    "basestyle": "The LoRA of what the base draws by itself. Its options are those of `train` (names of steps too), "
    "without `images`, and how the pictures are drawn:",
}


def reference(kinds: Sequence[str] | None = None) -> str:
    """Markdown: a heading, a sentence and a table of options for each kind of step, or for ``kinds``."""
    return "\n".join(line for kind in kinds or KINDS for line in _kind(kind, KINDS[kind]))


def _kind(kind: str, model: type[Strict] | None) -> Iterator[str]:
    yield from (f"### `{kind}`", "")
    if model is None:
        yield from (_ELSEWHERE[kind], "", *_training(kind))
        return
    yield (model.__doc__ or "").partition("\n")[0].strip()
    if short := SHORT.get(kind):
        yield f"`{kind}: VALUE` is short for `{kind}: {{{short}: VALUE}}`."
    yield from ("", "| option | default | |", "|---|---|---|")
    yield from (_option(name, field) for name, field in sorted(model.model_fields.items(), key=_needed_first))
    yield ""


def _training(kind: str) -> Iterator[str]:
    """The settings of training by name and default; what a recipe says elsewhere is left out."""
    from loratools.recipe.schema.json_schema import json_schema

    whole = json_schema()["$defs"][kind.capitalize()]
    told, needed = whole["properties"], whole.get("required", ())
    if kind == "basestyle":
        told = {name: about for name, about in told.items() if name in _drawn()}
    yield from ("| option | default | |", "|---|---|---|")
    for name, about in told.items():
        default = "needed" if name in needed else _written(about.get("default"))
        yield _row(name, default, about["description"])
    yield ""


def _drawn() -> set[str]:
    from loratools.train.basestyle.generate import Generation

    return {field.name for field in fields(Generation)}


def _needed_first(item: tuple[str, FieldInfo]) -> bool:
    return not item[1].is_required()


def _option(name: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else _written(field.default)
    return _row(name, default, field.description or "")


def _row(name: str, default: str, about: str) -> str:
    return f"| `{name}` | {default} | {about.replace('|', '&#124;')} |"


def _written(value: object) -> str:
    match value:
        case None | "" | ():
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
    return str(value)
