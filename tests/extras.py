"""A process in which packages are not installed: runs commands and tells what became of each, as JSON.

``python -m tests.extras '["onnxruntime"]' '[["inspect", "a.safetensors"]]'``
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Without(importlib.abc.MetaPathFinder):
    """A finder that does not find some packages, whatever is installed."""

    def __init__(self, finder: Any, names: Sequence[str]) -> None:
        self.finder, self.names = finder, frozenset(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] in self.names:
            return None
        spec: ModuleSpec | None = self.finder.find_spec(fullname, path, target)
        return spec


def main(missing: Sequence[str], commands: Sequence[Sequence[str]]) -> list[dict[str, object]]:
    """Exit code and what is printed, of each command."""
    sys.meta_path[:] = [Without(finder, missing) for finder in sys.meta_path]
    from click.testing import CliRunner

    from loratools.cli import cli

    results: list[dict[str, object]] = []
    for words in commands:
        done = CliRunner().invoke(cli, list(words))
        results.append({"words": list(words), "code": done.exit_code, "out": done.output})
    loaded = sorted({name.partition(".")[0] for name in sys.modules} & set(missing))
    return [*results, {"words": ["loaded"], "code": len(loaded), "out": " ".join(loaded)}]


if __name__ == "__main__":
    print(json.dumps(main(*map(json.loads, sys.argv[1:]))))
