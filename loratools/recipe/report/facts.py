"""``run.json``: what was run, on what, from which inputs, and what came of every step."""

from __future__ import annotations

import datetime
import hashlib
import os
import platform
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import Provenance
from loratools.adapter.header import read_header
from loratools.errors import LoratoolsError
from loratools.recipe.observer import StepFailure, StepResult
from loratools.recipe.plan.context import RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Planned
from loratools.recipe.run.work_folder import short_path
from loratools.version import __version__
from loratools.yamlio import Document, load_yaml

FORMAT = 1
_LIBRARIES = ("torch", "diffusers", "transformers", "safetensors", "numpy", "pillow")


@dataclass(frozen=True)
class FinishedRun:
    """A run that has ended: its steps in their order, those that were made or cached, and those that failed.

    ``seconds`` is what the whole run took.
    """

    planner: Planner
    steps: Sequence[Planned]
    results: Sequence[StepResult]
    failures: Sequence[StepFailure]
    context: RunContext
    seconds: float


def run_facts(run: FinishedRun) -> dict[str, Any]:
    """The whole of ``run.json``: JSON values, digests in hex, sizes in bytes, times in seconds.

    ``state`` of a step is ``made``, ``cached``, ``failed`` or ``not run`` (for a step that failed before it).
    """
    document = run.planner.document
    return {
        "format": FORMAT,
        "recipe": {
            "name": run.planner.name,
            "file": document.source,
            "base": run.planner.paths.base,
            "sha256": hashlib.sha256(document.text.encode()).hexdigest(),
            "text": document.text,
            "includes": dict(document.others),
            "steps": _resolved(document, run.steps),
            "vars": document.data.get("vars", {}),
        },
        "commands": _commands(run),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": round(run.seconds, 3),
        "device": run.context.device,
        "versions": _versions(),
        "inputs": _inputs(run.steps),
        "steps": [_step(step, run) for step in run.steps],
    }


def merged_terms(path: Path) -> list[dict[str, Any]]:
    """The terms in the header of a merged file: name, weight, vector by value, te and unet; none in any other file."""
    try:
        made = Provenance.from_metadata(read_header(path).metadata)
    except (LoratoolsError, OSError):
        return []
    terms = made.step.get("merge") if made is not None else None
    return [term for term in terms if isinstance(term, dict)] if isinstance(terms, list) else []


def _commands(run: FinishedRun) -> list[str]:
    """What to type to run the recipe again as it was run, and to make each merged file again from its header."""
    planner = run.planner
    command = ["loratools", "run", planner.document.source, "-o", short_path(planner.work)]
    if planner.paths.base != planner.recipe.base:
        command += ["--base", planner.paths.base]
    own = load_yaml(planner.document.text, planner.document.source).data.get("vars") or {}
    for name, value in planner.document.data.get("vars", {}).items():
        if name not in own or own[name] != value:
            command += ["--set", f"{name}={str(value).lower() if isinstance(value, bool) else value}"]
    files = [
        done.planned.out
        for done in run.results
        if done.planned.step_kind.makes == "lora" and merged_terms(done.planned.out)
    ]
    return [_quoted(command), *(_quoted(["loratools", "reproduce", short_path(path)]) for path in files)]


def _quoted(words: Sequence[str]) -> str:
    """A command line for this system's shell, whatever the names hold."""
    return shlex.join(words) if os.name == "posix" else subprocess.list2cmdline(words)


def _resolved(document: Document, steps: Sequence[Planned]) -> dict[str, Any]:
    """The steps that ran, variables put in."""
    return {step.name: document.data["steps"][step.name] for step in steps}


def _step(step: Planned, run: FinishedRun) -> dict[str, Any]:
    done = next((result for result in run.results if result.planned.name == step.name), None)
    failure = next((failure for failure in run.failures if failure.planned.name == step.name), None)
    facts: dict[str, Any] = {
        "step": step.name,
        "kind": step.kind,
        "state": "not run",
        "key": step.key,
        "out": os.path.relpath(step.out, run.planner.work),
        "options": step.draft.options,
        "reads": [{"label": s.label, "digest": s.digest, "step": s.step} for s in step.draft.inputs],
    }
    if failure is not None:
        return facts | {"state": "failed", "error": str(failure.error)}
    if done is None:
        return facts
    record = done.record
    terms = merged_terms(step.out) if step.step_kind.makes == "lora" else []
    return (
        facts
        | {
            "state": "cached" if done.cached else "made",
            "seconds": record.seconds,
            "memory": record.memory,
            "size": record.size,
            "files": record.files,
            "summary": record.summary,
            "result": record.facts,
        }
        | ({"terms": terms} if terms else {})
    )


def _inputs(steps: Sequence[Planned]) -> list[dict[str, Any]]:
    """Everything that was read and that no step made, each once, with the steps that read it."""
    readers: dict[tuple[str, str], list[str]] = {}
    for step in steps:
        for source in step.draft.inputs:
            if source.step is None:
                readers.setdefault((source.label, source.digest), []).append(step.name)
    return [
        {"label": label, "digest": digest, "read_by": list(dict.fromkeys(names))}
        for (label, digest), names in readers.items()
    ]


def _versions() -> Mapping[str, str]:
    versions = {"loratools": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
