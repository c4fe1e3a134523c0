"""The recipe that a file was made by, in its header: the step, the steps before it, and digests of all that they read.

It stands under ``recipe`` in the header's ``loratools`` JSON (see
:class:`loratools.adapter.files.metadata.Provenance`): variables and includes are put in, steps that the file does not
depend on are left out, and paths stand as the recipe's author wrote them. A file's digest, which is over its tensors,
does not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import KEY
from loratools.adapter.header import read_header
from loratools.errors import RecipeError

_KEY = "recipe"  # in the JSON of Provenance
_LEFT_OUT = ("steps", "vars", "include", "processes", "launch")  # what is in the steps already, or changes no result


@dataclass(frozen=True)
class Lineage:
    """How one step's result can be made again.

    Args:
        name: of the recipe, which its files' owner holds.
        step: whose result it is; ``data`` holds it and all that it needs, as a recipe.
        key: the step's key: equal where everything that determines the result is.
        inputs: label -> digest of every file and folder that any of the steps reads.
    """

    name: str
    step: str
    key: str
    data: Mapping[str, Any]
    inputs: Mapping[str, str]

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"name": self.name, "step": self.step, "key": self.key, "inputs": dict(self.inputs), "data": self.data}


def reduced(data: Mapping[str, Any], steps: Sequence[str], base: str | None) -> dict[str, Any]:
    """A recipe's data with only ``steps``; ``base`` is another one than it names."""
    rest = {key: value for key, value in data.items() if key not in _LEFT_OUT}
    rest |= {} if base is None else {"base": base}
    return {**rest, "steps": {name: data["steps"][name] for name in steps}}


def lineage_of(path: Path) -> Lineage | None:
    """What the header of the file at ``path`` holds; None for a file that no recipe made.

    Raises:
        FileError, FormatError: if it cannot be read.
        RecipeError: if the header's entry is damaged.
    """
    text = read_header(path).metadata.get(KEY)
    try:
        entry = json.loads(text or "{}").get(_KEY)
        if entry is None:
            return None
        return Lineage(
            str(entry["name"]), str(entry["step"]), str(entry["key"]), dict(entry["data"]), dict(entry["inputs"])
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecipeError(f"the recipe in the header of {path} is damaged ({error}), so it says nothing") from error
