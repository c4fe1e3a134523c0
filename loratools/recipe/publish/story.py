"""How a file was made, as the bullets of a model card: its header's steps, from the last one back to the pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import ERROR, Provenance
from loratools.ops.merging.methods.declared import METHODS

_FACTS = (
    ("ss_sd_model_name", "base"),
    ("ss_num_train_images", "images shown each epoch"),
    ("ss_epoch", "epoch"),
    ("ss_num_epochs", "of epochs"),
    ("ss_steps", "steps"),
    ("ss_network_dim", "dim"),
    ("ss_network_alpha", "alpha"),
    ("ss_learning_rate", "learning rate"),
    ("ss_optimizer", "optimizer"),
    ("ss_resolution", "resolution"),
    ("ss_clip_skip", "clip skip"),
    ("ss_seed", "seed"),
)
_TRAINED = ("images_shown", "preset", "dim", "alpha", "learning_rate", "optimizer", "resolution", "seed")
_DEEPEST = 12


def story(metadata: Mapping[str, str]) -> Iterator[str]:
    """Markdown bullets, what was made last first; of a file of another trainer, its ``ss_*`` facts."""
    provenance = Provenance.from_metadata(metadata)
    if provenance is None or not provenance.step:
        facts = [f"{name} {metadata[key]}" for key, name in _FACTS if metadata.get(key, "None") not in ("", "None")]
        yield f"- Trained by another program: {', '.join(facts)}." if facts else "- Its header does not say."
        return
    own = {"step": provenance.step, "inputs": provenance.inputs, "error": metadata.get(ERROR)}
    yield from _Story(provenance.ancestors).file(own, 0)
    yield from ("", f"Made with loratools {provenance.version}; `loratools inspect` shows every step and digest.")


class _Story:
    """The bullets of one file's story: a sentence a step, and below it the files that went in, in the same way.

    Args:
        ancestors: digest -> a file's own ``step``, ``inputs`` and ``error``.
    """

    def __init__(self, ancestors: Mapping[str, Mapping[str, Any]]) -> None:
        self._ancestors = ancestors

    def file(self, made: Mapping[str, Any], depth: int) -> Iterator[str]:
        """One file, from its provenance."""
        step, inputs = made["step"], made.get("inputs")
        inputs = [item for item in inputs if isinstance(item, dict)] if isinstance(inputs, list) else []
        stored = _stored(step, made.get("error"))
        names = " and ".join(f"`{item.get('name')}`" for item in inputs) or "a file"
        match step:
            case {"merge": [*terms]}:
                yield _bullet(depth, f"Merged{_where(step)}{_method(step)}: {stored}.")
                yield from self._terms(terms, depth + 1)
            case {"subtract": {"style": [*style], "base": [*base]}}:
                yield _bullet(depth, f"Subtracted, {_subtracted(step['subtract'])}: {stored}.")
                yield _bullet(depth + 1, "kept:")
                yield from self._terms(style, depth + 2)
                yield _bullet(depth + 1, "taken away:")
                yield from self._terms([_positive(term) for term in base], depth + 2)
            case {"train": dict(settings)}:
                yield _bullet(depth, _trained(settings, inputs))
                yield from self._inputs(inputs, depth + 1)
            case {"resize": _}:
                yield _bullet(depth, f"Resized from {names}: {stored}.")
                yield from self._inputs(inputs, depth + 1)
            case {"extract": dict()}:
                yield _bullet(depth, f"Extracted {_extracted(inputs, names, step['extract'])}: {stored}.")
                yield from self._inputs(inputs, depth + 1)
            case {"convert": _}:
                yield _bullet(depth, f"Converted from {names} to the keys of {step.get('to')}: {stored}.")
                yield from self._inputs(inputs, depth + 1)
            case _:
                yield _bullet(depth, f"Made by {', '.join(f'{key} {_short(value)}' for key, value in step.items())}.")
                yield from self._inputs(inputs, depth + 1)

    def _terms(self, terms: Iterable[Any], depth: int) -> Iterator[str]:
        for term in terms:
            if isinstance(term, dict):
                yield _bullet(depth, _term(term))
                yield from self._ancestor(term.get("digest"), depth + 1)

    def _inputs(self, inputs: Iterable[Mapping[str, Any]], depth: int) -> Iterator[str]:
        for item in inputs:
            yield from self._ancestor(item.get("digest"), depth)

    def _ancestor(self, digest: object, depth: int) -> Iterator[str]:
        ancestor = self._ancestors.get(str(digest))
        if ancestor is not None and depth < _DEEPEST and ancestor.get("step") and isinstance(ancestor["step"], dict):
            yield from self.file(ancestor, depth)


def _bullet(depth: int, text: str) -> str:
    return f"{'  ' * depth}- {text}"


def _where(step: Mapping[str, Any]) -> str:
    """`` into `model.safetensors` `` of a merge that changed a checkpoint."""
    return f" into `{step['into'].get('name')}`" if isinstance(step.get("into"), dict) else ""


def _method(step: Mapping[str, Any]) -> str:
    """The method of a merge, where that is not the plain sum."""
    if method := METHODS.get(str(step.get("method"))):
        numbers = [f"{one.name} {_short(step[one.name])}" for one in method.parameters if one.name in step]
        return f" by {method.title}{' of ' if numbers else ''}{' and '.join(numbers)}"
    return f" as {step['compat']} does" if step.get("compat") else ""


def _stored(step: Mapping[str, Any], error: object) -> str:
    """``rank 8, fp16, error 1.2e-04``."""
    if isinstance(step.get("into"), dict):
        return "every other tensor as it was"
    parts = [f"rank {step['rank']}"] if "rank" in step else []
    parts.append(str(step.get("dtype", "as it was")))
    return ", ".join([*parts, *([f"error {str(error).strip()}"] if error is not None else [])])


def _subtracted(how: Mapping[str, Any]) -> str:
    """The mode of a subtraction, in words, and its settings."""
    words = {"direct": "all of it", "matched": "what lies along it", "project": "its directions", "soft": "in part"}
    mode = str(how.get("mode"))
    rest = {key: value for key, value in how.items() if key not in ("mode", "style", "base")}
    settings = "".join(
        f", {key} {_runs(value) if isinstance(value, dict) else _short(value)}" for key, value in rest.items()
    )
    return f"{mode} ({words.get(mode, 'in its own way')}{settings})"


def _positive(term: Any) -> Any:
    """A subtracted term with the sign of its weight turned."""
    weight = term.get("weight") if isinstance(term, dict) else None
    return {**term, "weight": -weight} if isinstance(weight, int | float) else term


def _extracted(inputs: Iterable[Mapping[str, Any]], names: str, how: Mapping[str, Any]) -> str:
    roles = {str(item.get("role")): item.get("name") for item in inputs}
    taken = {"conv": "convolutions", "norms": "norms", "biases": "biases"}
    more = " and ".join(title for key, title in taken.items() if how.get(key))
    conv = f", {more} too" if more else ""
    if {"base", "tuned"} <= set(roles):
        return f"what makes `{roles['tuned']}` out of `{roles['base']}`{conv}"
    return f"from the full differences in {names}{conv}"


def _term(term: Mapping[str, Any]) -> str:
    parts = [f"`{term.get('name')}` x {_short(term.get('weight', 1))}"]
    parts += [f"{key} x {_short(term[key])}" for key in ("te", "unet") if key in term]
    if isinstance(term.get("vector"), dict):
        parts.append(f"blocks {_runs(term['vector'])}")
    if isinstance(term.get("rules"), dict):
        parts.append("layers " + ", ".join(f"{where} {_short(value)}" for where, value in term["rules"].items()))
    weight = term.get("weight", 1)
    taken = "subtracted: " if isinstance(weight, int | float) and weight < 0 else ""
    return taken + ", ".join(parts)


def _runs(vector: Mapping[str, Any]) -> str:
    """``BASE 1, IN01 0.6, IN02 to IN05 0.9``: neighbours of one value together."""
    runs: list[tuple[list[str], Any]] = []
    for name, value in vector.items():
        if runs and runs[-1][1] == value:
            runs[-1][0].append(name)
        else:
            runs.append(([name], value))
    return ", ".join(
        f"{names[0]} to {names[-1]} {_short(value)}" if len(names) > 1 else f"{names[0]} {_short(value)}"
        for names, value in runs
    )


def _trained(settings: Mapping[str, Any], inputs: Any) -> str:
    base = next((str(item.get("name")) for item in inputs or [] if item.get("kind") == "base"), "")
    facts = [f"{key.replace('_', ' ')} {_short(settings[key])}" for key in _TRAINED if settings.get(key) is not None]
    of = f"epoch {settings.get('epoch')} of {settings.get('epochs')}"
    start = next((Path(str(item.get("name"))).name for item in inputs or [] if item.get("kind") == "start"), "")
    of += f", from the weights of `{start}`" if start else ""
    return f"Trained on {base}: {of}, {', '.join(facts)}." if base else f"Trained: {of}, {', '.join(facts)}."


def _short(value: object) -> str:
    match value:
        case float():
            return f"{value:g}"
        case str():
            return value if len(value) <= 80 else f"{value[:77]}..."
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
