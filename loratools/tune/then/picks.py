"""Picks: a LoRA is trained on with the best of its own pictures, so that it draws more of them.

It repairs where some of its pictures are good, which after a search many more are, and costs a little obedience. What
is learnt from is chosen by the search's measures; training pictures that are as good are learnt beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from loratools.adapter.files.file import read
from loratools.measures.pictures import open_shown
from loratools.ops.merging.terms import Term
from loratools.tune.epochs.evaluation_set import CaptionedPicture
from loratools.tune.then.grading import Graded, spread_over_prompts
from loratools.tune.then.training import Training, WayFolder, copy_pictures, save_pictures, write_start
from loratools.tune.then.way import Made, Turn


def picks(turn: Turn) -> Made:
    """Draw, choose, train on, and take the epoch that the search's own pictures say is best.

    Raises:
        Stopped: if a stop is wanted meanwhile; what is whole is kept.
    """
    effort = turn.effort
    graded = turn.candidates(lambda own: len(spread_over_prompts(own, own.good(), effort.most)) == effort.most)
    chosen = spread_over_prompts(graded, graded.good(), effort.most)
    facts: dict[str, Any] = {"candidates": len(graded.shown), "good": len(graded.good()), "kept": len(chosen)}
    if graded.is_sound:
        return Made((), "nothing is left to repair in the pictures that were drawn to choose from", facts)
    if len(chosen) < effort.least:
        says = (
            f"only {len(chosen)} of {len(graded.shown)} pictures are good and keep the style and the prompt, and "
            f"{effort.least} are needed to learn from"
        )
        return Made((), says, facts)
    taught = _sound_training_pictures(turn, graded.bar)
    facts["training_pictures"] = {"known": len(turn.material.taught), "kept": len(taught)}
    training = _training(turn, [graded.shown[number] for number in chosen], taught)
    paths = training.run(turn.workplace)
    number, totals = _best_epoch(turn, paths)
    facts |= {"epoch": number, "epochs": [round(total, 4) for total in totals]}
    says = f"trained on with {_counts(chosen, graded, taught, turn)}, epoch {number} of {len(paths)}"
    return Made((Term(read(paths[number - 1]), 1.0, label=f"{turn.name}@{number}"),), says, facts)


def _counts(chosen: Sequence[int], graded: Graded, taught: Sequence[CaptionedPicture], turn: Turn) -> str:
    own = f"{len(chosen)} of its own {len(graded.shown)} pictures"
    known = len(turn.material.taught)
    return f"{own} and {len(taught)} of {known} training pictures" if known else own


def _sound_training_pictures(turn: Turn, bar: float) -> list[CaptionedPicture]:
    """The LoRA's own training pictures that are as good as the picks; where the defect came with them, none is."""
    taught = turn.material.taught
    if not taught:
        return []
    shown = [open_shown(own.path) for own in taught]
    shown = [type(own)(own.pixels, picture.prompt, 0) for own, picture in zip(shown, taught, strict=True)]
    graded = Graded.of(shown, turn.workplace.values(shown), turn.workplace.goals)
    return [taught[number] for number in sorted(graded.good(bar))]


def _training(turn: Turn, shown: Sequence[Any], taught: Sequence[CaptionedPicture]) -> Training:
    """The training on these pictures, in the way's folder."""
    place, effort = turn.workplace, turn.effort
    seen = [[picture.prompt, picture.seed] for picture in shown]
    key = place.key_of(turn.digest, seen, [own.digest for own in taught], repr(effort), place.request.seed)
    folder = WayFolder(turn.folder, key)
    folder.begin(writes=place.ranks.main)
    images = {turn.folder / "picks": len(shown)}
    if place.ranks.main:
        save_pictures(turn.folder / "picks", shown)
    if taught:
        images[turn.folder / "training"] = len(taught)
        if place.ranks.main:
            copy_pictures(turn.folder / "training", taught)
    start = write_start(place, turn.terms, turn.folder / "start.safetensors", turn.owner)
    return Training("picks", turn.folder / "run", images, effort, start)


def _best_epoch(turn: Turn, paths: Sequence[Path]) -> tuple[int, list[float]]:
    """The number of the best epoch by the search's own shots, which training did not see, and all epochs' totals."""
    place = turn.workplace
    place.clock.begin(turn.way)
    totals = []
    for number, path in enumerate(paths, start=1):
        terms = [Term(read(path), 1.0)]
        shown = place.pictures(f"{turn.name}-epoch-{number}", terms, place.shots.search, fine=False)
        totals.append(place.total(place.values(shown)))
    return int(np.argmin(totals)) + 1, totals
