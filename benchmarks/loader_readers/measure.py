"""What every reader needs: the job, what was asked of each module, and the comparison with what a tool applied."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import load_file
from torch import Tensor

Pair = tuple[float, float]  # applied / asked, and |applied - asked| / |asked|


class Asked:
    """The differences that a file was made to hold, by name, as float64 factors.

    Args:
        path: a file of ``NAME.up``, ``NAME.down`` and ``NAME.shape`` for each module.
    """

    def __init__(self, path: str) -> None:
        self._tensors = load_file(path)
        self.shapes = {name: tuple(size.tolist()) for key, size in self._tensors.items() if (name := _of(key, "shape"))}

    def rank(self, name: str) -> int:
        """Columns of a module's ``up``."""
        return int(self._tensors[f"{name}.up"].shape[1])

    def compare(self, name: str, applied: Tensor) -> Pair:
        """``(applied / asked, |applied - asked| / |asked|)``: the first is the projection on what was asked."""
        up, down = (self._tensors[f"{name}.{side}"].double() for side in ("up", "down"))
        value = applied.detach().double().reshape(up.shape[0], down.shape[1])
        norm2 = float(((up.T @ up) * (down @ down.T)).sum())
        product = float((up * (value @ down.T)).sum())
        gap2 = float((value**2).sum()) - 2 * product + norm2
        return product / norm2, (max(gap2, 0.0) / norm2) ** 0.5


def _of(key: str, part: str) -> str:
    """The module of a key that ends with ``part``; else nothing."""
    return key.removesuffix(f".{part}") if key.endswith(f".{part}") else ""


@dataclass(frozen=True)
class Case:
    """One file of a job: where it is, and where what it was made to hold is told by canonical and original names."""

    label: str
    family: str
    content: str
    writing: str
    path: str
    canonical: str
    original: str


@dataclass(frozen=True)
class Reading:
    """How many modules were asked for, and what :meth:`Asked.compare` says of those that the tool changed.

    A module that nobody asked for has an infinite ratio.
    """

    asked: int
    modules: Mapping[str, Pair]


def report(read: Callable[[Case, Mapping[str, Any]], Reading], name: str) -> None:
    """Read every file of the job ``sys.argv[1]`` and write what came of it to ``sys.argv[2]``.

    Args:
        read: what the tool makes of a case; its second argument has the sizes of the case's model.
        name: the tool and its version.
    """
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    answers: dict[str, Any] = {}
    for case in (Case(**entry) for entry in job["cases"]):
        try:
            with torch.no_grad():
                answers[case.label] = asdict(read(case, job["models"][case.family]))
        except Exception as error:  # whatever a tool raises on a file is its answer to it
            traceback.print_exc()
            answers[case.label] = {"error": f"{type(error).__name__}: {error}"[:300]}
    Path(sys.argv[2]).write_text(json.dumps({"reader": name, "cases": answers}), encoding="utf-8")


def checkout() -> str:
    """The job's checkout of the tool."""
    return str(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["checkout"])


def version_of(folder: str) -> str:
    """The date and commit of a checkout."""
    command = ["git", "-C", folder, "log", "-1", "--format=%cs (%h)"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def pretend(*packages: str) -> None:
    """Let packages that a tool imports but loading a LoRA has no use for seem to be there."""
    import diffusers
    import transformers

    # what these look up lazily has to be looked up before such a package seems to be there
    diffusers.AutoencoderKL, diffusers.EulerAncestralDiscreteScheduler, transformers.CLIPTextModel  # noqa: B018
    for name in packages:
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = mock.MagicMock()
