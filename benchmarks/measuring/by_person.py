"""Does a person's word repair a LoRA? ``python -m benchmarks.measuring.by_person --work WORK -o OUT.json NAME...``

Each LoRA, ``STYLE-DEFECT-SEED`` of :mod:`benchmarks.defect_loras`, is tuned without the judge, which only stands in for
the person: who marks the pictures that the tune shows, at most forty of either side in three rounds, or with ``--by
votes`` chooses between two sides, sixty times at most. What comes out is then measured by the judge on the tune's
held-out pictures. A case that is done is kept in OUT; ``--quick`` takes quick tunes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.defect_loras import defect_lora
from benchmarks.measuring.simulated import simulated_choices, simulated_marks
from benchmarks.repair.cases import PROMPTS, Case, prompts_of
from loratools.adapter.files.file import read
from loratools.base.load import load_base
from loratools.errors import LoratoolsError
from loratools.files import write_text
from loratools.measures.judged import judge_measures
from loratools.measures.measure import Shown, take
from loratools.measures.request import parse_measures
from loratools.ops.merging.terms import Term
from loratools.tune import FULL, QUICK, TuneRequest, TuneResult
from loratools.tune.tuning import tune

_BATCH = 64  # pictures a UNet call on a GPU


def main() -> None:
    """Run the cases that are not done, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="STYLE-DEFECT-SEED")
    parser.add_argument("--work", type=Path, required=True, help="LoRAs and tunes are kept there")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--by", choices=("marks", "votes"), default="marks")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    done: dict[str, Any] = json.loads(args.out.read_text(encoding="utf-8")) if args.out.is_file() else {}
    for name in args.names:
        key = f"{name} by {args.by}"
        if key not in done:
            try:
                done[key] = by_person(name, args.by, args.work / name, args.device, quick=args.quick)
            except LoratoolsError as error:  # such as marks that tell nothing; the others go on
                print(f"{name}: failed: {error}", flush=True)
                continue
            write_text(args.out, json.dumps(done, indent=1) + "\n")
        print(line(key, done[key]), flush=True)


def by_person(name: str, by: str, folder: Path, device: str, *, quick: bool) -> dict[str, Any]:
    """One LoRA, trained where it is not there yet, and tuned by ``marks`` or ``votes``."""
    style, defect, seed = name.split("-")
    lora = defect_lora(style, defect, int(seed), folder, device)
    base, begun = load_base("pocket", device=device), time.monotonic()
    request = TuneRequest(
        (defect,),
        tuple(prompts_of(Case(style, defect, int(seed)), "search", PROMPTS)),
        measures=parse_measures([by]),
        effort=QUICK if quick else FULL,
        training=lora.images,
        batch=_BATCH if base.device.type == "cuda" else 8,
    )
    notes: list[str] = []
    terms = [Term(read(lora.file), 1.0, label=name)]
    marker, chooser = simulated_marks(defect, style), simulated_choices(defect)
    result = tune(base, terms, request, folder / f"by-{by}", on_note=notes.append, marker=marker, chooser=chooser)
    return {
        "columns": judged(result, style, defect),
        "answer": result.verdict.answer,
        "strength": result.strength,
        "vector": result.space.vector(result.point),
        "notes": [*notes, *result.notes],
        "pictures": result.history.pictures,
        "seconds": time.monotonic() - begun,
    }


def judged(result: TuneResult, style: str, defect: str) -> dict[str, dict[str, float]]:
    """What the judge reads in each column of the tune's report: ``defect``, ``style`` and ``tags``."""
    measures = judge_measures(style).by_name
    names = {"defect": defect, "style": "style", "tags": "tags"}
    columns: dict[str, dict[str, float]] = {}
    for column in result.held.columns:
        shown = [
            Shown(np.asarray(Image.open(path).convert("RGB")), shot.prompt, shot.seed)
            for path, shot in zip(column.pictures, result.held.shots, strict=True)
        ]
        columns[column.name] = {own: take(measures[name], shown).estimate.mean for own, name in names.items()}
    return columns


def line(name: str, one: Mapping[str, Any]) -> str:
    """A case in a line: the tuned vector's defect, style and tags beside the whole LoRA's and plain strength's."""
    columns = one["columns"]

    def cell(column: str) -> str:
        return " / ".join(f"{columns[column][own]:.2f}" for own in ("defect", "style", "tags"))

    base, before, after = (columns[own]["defect"] for own in ("base", "before", "tuned"))
    gone = (before - after) / max(before - base, 1e-9)
    return (
        f"{name}: {cell('before')} -> {cell('tuned')}, {gone:.0%} gone; plain strength {one['strength']:g}: "
        f"{cell('strength')}; answer {one['answer']}; {one['seconds']:.0f} s"
    )


if __name__ == "__main__":
    main()
