"""A case's figures picture by picture as one small file: what the verdict saw, and the truth, to try other rules on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.epochs.truth import Truth
from loratools.files import replacing
from loratools.tune.epochs.decide import Copies, Evidence, WeightTest
from loratools.tune.epochs.figures import Figure
from loratools.tune.epochs.result import EpochVerdict

_FIGURES = ("closeness", "obedience", "diversity")
_TRUTH = ("style", "tags", "defects")


@dataclass(frozen=True, eq=False)
class Seen:
    """What one verdict was decided by.

    Attributes:
        copied: (epochs, pictures), which of them copy a training picture; None where that was not measured.
    """

    evidence: Evidence
    copied: npt.NDArray[np.bool_] | None

    @staticmethod
    def of(verdict: EpochVerdict) -> Seen:
        """A verdict's."""
        copied = None
        if verdict.measured.copied:
            marked = [{own.file for own in copies} for copies in verdict.measured.copied]
            copied = np.array(
                [[file in own for file in files] for own, files in zip(marked, verdict.drawn.files, strict=True)]
            )
        return Seen(verdict.evidence, copied)

    def of_seeds(self, seeds: frozenset[int]) -> Seen:
        """The same with the pictures of these seeds alone; the 0.9 test stays as it was, of all of them."""
        own = self.evidence
        some = [figure for figure in _figures(own).values() if len(set(figure.seeds)) > 1]
        if not some:
            return self
        kept = np.array([seed in seeds for seed in some[0].seeds])
        copies = self.copied[:, kept] if self.copied is not None else None
        return Seen(
            replace(
                own,
                closeness=_of(own.closeness, kept),
                obedience=_of(own.obedience, kept),
                diversity=_of(own.diversity, kept),
                defects=tuple(part for figure in own.defects if (part := _of(figure, kept)) is not None),
                copies=() if copies is None else tuple(Copies(int(row.sum()), len(row), "one") for row in copies),
            ),
            copies,
        )


def _of(figure: Figure | None, kept: npt.NDArray[np.bool_]) -> Figure | None:
    """A figure of some pictures; one that is not of pictures (a loss, image by image) stays whole."""
    if figure is None or len(figure.seeds) != len(kept):
        return figure
    base = None if figure.base is None else figure.base[kept]
    prompts, seeds = (tuple(itertools.compress(own, kept)) for own in (figure.prompts, figure.seeds))
    return Figure(figure.name, figure.better, figure.values[:, kept], base, prompts, seeds)


def _figures(evidence: Evidence) -> dict[str, Figure]:
    named = {name: getattr(evidence, name) for name in _FIGURES}
    named |= {f"defects{number}": figure for number, figure in enumerate(evidence.defects)}
    return {name: figure for name, figure in named.items() if figure is not None}


def write(path: Path, truth: Truth, seen: Mapping[str, Seen]) -> None:
    """Keep the truth and what each of the verdicts ``seen`` saw."""
    arrays: dict[str, Any] = {f"truth/{name}": getattr(truth, name).astype(np.float16) for name in _TRUTH}
    facts: dict[str, Any] = {"truth": {"prompts": truth.prompts, "seeds": truth.seeds}}
    for kind, own in seen.items():
        facts[kind] = {"numbers": own.evidence.numbers, "tested": [[t.breaks, t.text] for t in own.evidence.tested]}
        for name, figure in _figures(own.evidence).items():
            arrays[f"{kind}/{name}"] = figure.values.astype(np.float32)
            if figure.base is not None:
                arrays[f"{kind}/{name}/base"] = figure.base.astype(np.float32)
            labels = [list(figure.prompts), list(figure.seeds)]
            facts[kind].setdefault("figures", {})[name] = [figure.name, figure.better, *labels]
        if own.copied is not None:
            arrays[f"{kind}/copied"] = own.copied
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, open(part, "wb") as stream:
        np.savez_compressed(stream, facts=np.array(json.dumps(facts)), **arrays)


def read(path: Path) -> tuple[Truth, dict[str, Seen]]:
    """What :func:`write` kept."""
    with np.load(path) as stored:
        facts = json.loads(str(stored["facts"]))
        known = facts.pop("truth")
        rows = {name: stored[f"truth/{name}"].astype(np.float64) for name in _TRUTH}
        truth = Truth(**rows, prompts=tuple(known["prompts"]), seeds=tuple(known["seeds"]))
        return truth, {kind: _seen(stored, kind, own) for kind, own in facts.items()}


def _seen(stored: Mapping[str, Any], kind: str, facts: Mapping[str, Any]) -> Seen:
    figures = {}
    for name, (title, better, prompts, seeds) in facts.get("figures", {}).items():
        values = stored[f"{kind}/{name}"].astype(np.float64)
        base = f"{kind}/{name}/base"
        own = stored[base].astype(np.float64) if base in stored else None
        figures[name] = Figure(title, better, values, own, tuple(prompts), tuple(seeds))
    copied = stored.get(f"{kind}/copied")
    evidence = Evidence(
        numbers=tuple(facts["numbers"]),
        tested=tuple(WeightTest(breaks, text) for breaks, text in facts["tested"]),
        copies=() if copied is None else tuple(Copies(int(row.sum()), len(row), "one") for row in copied),
        defects=tuple(figure for name, figure in figures.items() if name.startswith("defects")),
        **{name: figures.get(name) for name in _FIGURES},
    )
    return Seen(evidence, copied)
