"""Edits as a recipe writes them: ``{remove: "signature, *username", where: face focus}``, ``{prune: [junk]}``.

The kind is the key of what it is about; the log's own form, ``{kind: remove, tags: [...]}``, is read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from loratools.dataset.edits.log import Edit, edit_from_json
from loratools.dataset.edits.operations import KINDS, Prune, tag_list
from loratools.dataset.edits.prune import CORE_SHARE, core_tags, read_implications
from loratools.dataset.tags.picture import Picture
from loratools.errors import OptionError, did_you_mean

_ABOUT: Final = {"add": "tags", "remove": "tags", "replace": "tags", "move": "tags", "sort": "by", "trigger": "word"}
_RULES: Final = ("junk", "overlaps", "contradictions")
_OF_PRUNE: Final = ("core", "core_all", "character", "keep", "implications")


@dataclass(frozen=True)
class WrittenEdit:
    """An edit that may still depend on the pictures.

    Attributes:
        core: the share from which on a character's tags are pruned; None for none.
        core_all: clothes and all else too, not only how one looks.
        implications: a table's file.
    """

    edit: Edit
    core: float | None = None
    core_all: bool = False
    implications: str | None = None

    def json(self) -> dict[str, Any]:
        """As JSON values, without the table, which counts by its content."""
        more = {"core_share": self.core, "core_all": self.core_all}
        return self.edit.json() | {name: value for name, value in more.items() if value}

    def resolved(self, pictures: Sequence[Picture], table: Path | None = None) -> Edit:
        """The edit for these pictures: with their core tags, and the table's implications.

        Raises:
            DatasetError: for a table that cannot be read.
            OptionError: if no picture has the character's tag.
        """
        operation = self.edit.operation
        if not isinstance(operation, Prune):
            return self.edit
        rules = operation.rules
        if self.core is not None:
            core = core_tags(pictures, self.core, rules.character, features=not self.core_all)
            rules = replace(rules, core=tuple(core))
        if table is not None:
            rules = replace(rules, implications=read_implications(table))
        return Edit(Prune(rules), self.edit.where)


def read_edit(value: Any) -> WrittenEdit:
    """Read an edit.

    Raises:
        OptionError: naming the key that is unknown, missing or of a wrong type.
    """
    if not isinstance(value, Mapping):
        raise OptionError(f"{value!r} is no edit; write {{remove: signature}}, or {{prune: junk}}")
    if "kind" in value:
        return WrittenEdit(edit_from_json(value))
    kinds = [name for name in value if name in KINDS]
    if len(kinds) != 1:
        word = next((str(name) for name in value if name not in KINDS), "")
        hint = did_you_mean(word, KINDS)
        raise OptionError(f"an edit has one of {', '.join(KINDS)}, and this one has {_listed(kinds)}{hint}")
    (kind,) = kinds
    rest = {name: item for name, item in value.items() if name != kind}
    if kind == "prune":
        return _prune(value[kind], rest)
    if kind == "move" and "to" in rest:
        rest["at"] = rest.pop("to")
    rest = {name: str(item) if name == "at" else item for name, item in rest.items()}
    return WrittenEdit(edit_from_json({"kind": kind, _ABOUT[kind]: value[kind], **rest}))


def _prune(what: Any, rest: dict[str, Any]) -> WrittenEdit:
    words = [what] if isinstance(what, str) else what
    if not isinstance(words, Sequence) or not all(word in (*_RULES, "core") for word in words):
        raise OptionError(f"'prune' is {what!r}; write one or more of junk, overlaps, contradictions and core")
    for name in rest:
        if name not in (*_OF_PRUNE, "where"):
            raise OptionError(
                f"'prune' has no option '{name}'{did_you_mean(name, _OF_PRUNE)}; it has {', '.join(_OF_PRUNE)}"
            )
    core = rest.get("core", CORE_SHARE if "core" in words else None)
    rules: dict[str, Any] = {word: True for word in words if word in _RULES}
    rules |= {"character": str(rest.get("character", "")), "keep": tag_list(rest.get("keep", ""))}
    edit = edit_from_json({"kind": "prune", "rules": rules, "where": rest.get("where", "")})
    return WrittenEdit(
        edit, None if core is None else _share(core), bool(rest.get("core_all")), rest.get("implications")
    )


def _share(value: Any) -> float:
    text = str(value)
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if isinstance(value, bool) or not 0 <= share < 1:
        raise OptionError(f"'core' is {value!r}; write a share such as 40% or 0.4")
    return share


def _listed(kinds: Sequence[str]) -> str:
    return " and ".join(kinds) or "none"
