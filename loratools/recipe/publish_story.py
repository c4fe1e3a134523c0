"""How a file was made, as the bullets of a model card: its header's steps, from the last one back to the pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from loratools.adapter.metadata import Provenance

_FACTS = (
    ("ss_sd_model_name", "base"), ("ss_num_train_images", "images shown each epoch"), ("ss_epoch", "epoch"),
    ("ss_num_epochs", "of epochs"), ("ss_steps", "steps"), ("ss_network_dim", "dim"), ("ss_network_alpha", "alpha"),
    ("ss_learning_rate", "learning rate"), ("ss_optimizer", "optimizer"), ("ss_resolution", "resolution"),
    ("ss_clip_skip", "clip skip"), ("ss_seed", "seed"),
)  # fmt: skip
_TRAINED = ("images_shown", "preset", "dim", "alpha", "learning_rate", "optimizer", "resolution", "seed")
_DEEPEST = 12


def story(metadata: Mapping[str, str]) -> Iterator[str]:
    """Markdown bullets, what was made last first; a file of another trainer tells its ``ss_*`` facts."""
    made = Provenance.from_metadata(metadata)
    if made is None or not made.step:
        told = [f"{name} {metadata[key]}" for key, name in _FACTS if metadata.get(key, "None") not in ("", "None")]
        yield f"- Trained by another program: {', '.join(told)}." if told else "- Its header does not say."
        return
    yield from _step(made.step, made.inputs, made.ancestors, 0)
    yield from ("", f"Made with loratools {made.version}; `loratools inspect` shows every step and digest.")


def _step(
    step: Mapping[str, Any], inputs: Any, ancestors: Mapping[str, Mapping[str, Any]], depth: int
) -> Iterator[str]:
    indent = "  " * depth
    terms = step.get("merge")
    if isinstance(terms, list):
        where = f" into `{step['into'].get('name')}`" if isinstance(step.get("into"), dict) else ""
        yield f"{indent}- Merged{where}: rank {step.get('rank', 'exact')}, {step.get('dtype', 'as it was')}."
        for term in terms:
            yield f"{indent}  - {_term(term)}"
            yield from _ancestor(str(term.get("digest")), ancestors, depth + 2)
        return
    if isinstance(step.get("train"), dict):
        yield f"{indent}- {_trained(step['train'], inputs)}"
        return
    verb = next(iter(step), "made")
    rest = ", ".join(f"{key} {_short(value)}" for key, value in step.items())
    yield f"{indent}- {str(verb).capitalize()}: {rest}."
    for item in inputs if isinstance(inputs, list) else []:
        yield from _ancestor(str(item.get("digest")), ancestors, depth + 1)


def _ancestor(digest: str, ancestors: Mapping[str, Mapping[str, Any]], depth: int) -> Iterator[str]:
    found = ancestors.get(digest)
    if found is not None and depth < _DEEPEST and isinstance(found.get("step"), dict):
        yield from _step(found["step"], found.get("inputs"), ancestors, depth)


def _term(term: Mapping[str, Any]) -> str:
    parts = [f"`{term.get('name')}` x {_short(term.get('weight', 1))}"]
    parts += [f"{key} x {_short(term[key])}" for key in ("te", "unet") if key in term]
    if isinstance(term.get("vector"), dict):
        parts.append(f"blocks {_runs(term['vector'])}")
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
    return ", ".join(f"{names[0]} to {names[-1]} {_short(value)}" if len(names) > 1 else f"{names[0]} {_short(value)}"
                     for names, value in runs)  # fmt: skip


def _trained(settings: Mapping[str, Any], inputs: Any) -> str:
    base = next((str(item.get("name")) for item in inputs or [] if item.get("kind") == "base"), "")
    told = [f"{key.replace('_', ' ')} {_short(settings[key])}" for key in _TRAINED if settings.get(key) is not None]
    of = f"epoch {settings.get('epoch')} of {settings.get('epochs')}"
    return f"Trained on {base}: {of}, {', '.join(told)}." if base else f"Trained: {of}, {', '.join(told)}."


def _short(value: object) -> str:
    match value:
        case float():
            return f"{value:g}"
        case str():
            return value if len(value) <= 80 else f"{value[:77]}..."
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}..."
