"""The table of every step and option, made from the models themselves, for ``docs/recipes.md`` and whoever asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pydantic.fields import FieldInfo

from loratools.recipe.schema.fields import Strict
from loratools.recipe.schema.json_schema import json_schema
from loratools.recipe.schema.kinds import STEP_KINDS, BorrowedOptions, step_kind


def option_tables(kinds: Sequence[str] | None = None) -> str:
    """Markdown: a heading, a sentence and a table of options for each kind of step, or for ``kinds``."""
    return "\n".join(line for kind in kinds or STEP_KINDS for line in _section(kind))


def _section(name: str) -> Iterator[str]:
    kind = step_kind(name)
    yield from (f"### `{name}`", "")
    if isinstance(kind.options, BorrowedOptions):
        yield from _borrowed(kind.options)
    else:
        yield from _own(kind.options, name, kind.shorthand)
    yield ""


def _own(model: type[Strict], name: str, shorthand: str | None) -> Iterator[str]:
    """The options of a kind's own model."""
    yield (model.__doc__ or "").partition("\n")[0].strip()
    if shorthand is not None:
        yield f"`{name}: VALUE` is short for `{name}: {{{shorthand}: VALUE}}`."
    yield from ("", "| option | default | |", "|---|---|---|")
    yield from (_option(key, field) for key, field in sorted(model.model_fields.items(), key=_needed_first))


def _borrowed(options: BorrowedOptions) -> Iterator[str]:
    """Another room's settings by name and default."""
    part = json_schema()["$defs"][options.name]
    listed = part["properties"] if options.listed is None else options.listed()
    yield from (options.description, "", "| option | default | |", "|---|---|---|")
    for name, about in part["properties"].items():
        if name in listed:
            default = "needed" if name in part.get("required", ()) else _written(about.get("default"))
            yield _row(name, default, about["description"])


def _needed_first(item: tuple[str, FieldInfo]) -> bool:
    return not item[1].is_required()


def _option(name: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else _written(field.get_default(call_default_factory=True))
    return _row(name, default, field.description or "")


def _row(name: str, default: str, about: str) -> str:
    return f"| `{name}` | {default} | {about.replace('|', '&#124;')} |"


def _written(value: object) -> str:
    match value:
        case None | "" | ():
            return ""
        case Mapping() if not value:
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
    return str(value)
