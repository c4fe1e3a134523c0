"""The table of every step and option, made from the models themselves, for ``docs/recipes.md`` and whoever asks."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic.fields import FieldInfo

from loratools.recipe.kinds import KINDS, SHORT, Strict

_ELSEWHERE = {
    "train": "One LoRA file an epoch. Its options are those of a `loratools train` file; `images` is a folder, a list "
    "of folders, or a `draw` step; `base_adapters` and `network_weights` may name steps too.",
    "basestyle": "The LoRA of what the base draws by itself. Its options are `images_per_framing` and "
    "those of `train`.",
}


def reference() -> str:
    """Markdown: a heading, a sentence and a table of options for each kind of step."""
    return "\n".join(line for kind, model in KINDS.items() for line in _kind(kind, model))


def _kind(kind: str, model: type[Strict] | None) -> Iterator[str]:
    yield from (f"### `{kind}`", "")
    if model is None:
        yield from (_ELSEWHERE[kind], "")
        return
    yield (model.__doc__ or "").partition("\n")[0].strip()
    if short := SHORT.get(kind):
        yield f"`{kind}: VALUE` is short for `{kind}: {{{short}: VALUE}}`."
    yield from ("", "| option | default | |", "|---|---|---|")
    yield from (_option(name, field) for name, field in sorted(model.model_fields.items(), key=_needed_first))
    yield ""


def _needed_first(item: tuple[str, FieldInfo]) -> bool:
    return not item[1].is_required()


def _option(name: str, field: FieldInfo) -> str:
    default = "needed" if field.is_required() else _written(field.default)
    return f"| `{name}` | {default} | {(field.description or '').replace('|', '&#124;')} |"


def _written(value: object) -> str:
    match value:
        case None | "" | ():
            return ""
        case bool():
            return str(value).lower()
        case tuple():
            return ", ".join(map(str, value))
    return str(value)
