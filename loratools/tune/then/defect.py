"""A defect LoRA: what a LoRA's bad pictures teach and its good ones do not, subtracted by amounts found block by block.

The LoRA is trained on twice from the same start, with the same noise: with good pictures, and with bad ones of the same
prompts. What both learn (its own pictures being drawn once more) cancels in the difference; one training with the good
pictures as its prior would see the same captions lead to both, and learn next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.adapter.files.file import read
from loratools.measures.measure import Shown
from loratools.ops.merging.merge import merge_files
from loratools.ops.merging.terms import Term
from loratools.ops.style_removal import Mode, SubtractMethod
from loratools.ops.subtract import subtract_files
from loratools.tune.problem.space import Space, as_vector, blocks_of
from loratools.tune.then.grading import paired_by_prompt
from loratools.tune.then.searching import searched
from loratools.tune.then.training import Training, WayFolder, save_pictures, write_start
from loratools.tune.then.way import Made, Turn

_UNIT = 0.6  # of the difference that a block's amount of 1 adds: a search begins at 0 and tries 0.5 and 1.1 first
_MODES: tuple[Mode, ...] = ("matched", "project", "soft")


def defect_lora(turn: Turn) -> Made:
    """Draw, pair good with bad pictures, train on with each, and find how much of the difference to subtract.

    Raises:
        Stopped: if a stop is wanted meanwhile; what is whole is kept.
    """
    effort = turn.effort
    graded = turn.candidates(lambda own: len(paired_by_prompt(own, effort.most)[0]) == effort.most)
    good, bad = paired_by_prompt(graded, effort.most)
    facts: dict[str, Any] = {"candidates": len(graded.shown), "pairs": len(good)}
    if graded.is_sound:
        return Made((), "nothing is left to repair in the pictures that were drawn to choose from", facts)
    if len(good) < effort.least:
        says = (
            f"only {len(good)} pairs of a good and a bad picture of the same prompt are among {len(graded.shown)}, and "
            f"{effort.least} are needed to learn from"
        )
        return Made((), says, facts)
    shown = {"good": [graded.shown[number] for number in good], "bad": [graded.shown[number] for number in bad]}
    files = _trained(turn, shown)
    made = _candidates(turn, files)
    totals = {name: _total(turn, name, terms) for name, (terms, _) in made.items()}
    best = min(totals, key=lambda name: totals[name])
    terms, own = made[best]
    facts |= {"subtracted": best, "totals": {name: round(total, 4) for name, total in totals.items()}, **own}
    says = f"{len(good)} good and {len(bad)} bad of its own {len(graded.shown)} pictures, subtracted {best}"
    return Made(tuple(terms), says, facts)


def _trained(turn: Turn, shown: Mapping[str, Sequence[Shown]]) -> dict[str, Path]:
    """The last epochs of both trainings."""
    place, effort = turn.workplace, turn.effort
    seen = {name: [[picture.prompt, picture.seed] for picture in own] for name, own in shown.items()}
    folder = WayFolder(turn.folder, place.key_of(turn.digest, seen, repr(effort), place.request.seed))
    folder.begin(writes=place.ranks.main)
    start = write_start(place, turn.terms, turn.folder / "start.safetensors", turn.owner)
    files = {}
    for name, pictures in shown.items():
        if place.ranks.main:
            save_pictures(turn.folder / name, pictures)
        place.ranks.wait()
        images = {turn.folder / name: len(pictures)}
        files[name] = Training(name, turn.folder / "run", images, effort, start).run(place)[-1]
    return files


def _candidates(turn: Turn, files: Mapping[str, Path]) -> dict[str, tuple[list[Term], dict[str, Any]]]:
    """What could be the answer, by the way in which the difference is subtracted, and facts of each."""
    good, bad = (Term(read(files[name]), 1.0, label=name) for name in ("good", "bad"))
    minus = Term(good.adapter, -1.0, label="good")
    defect = _difference(turn, [bad, minus], "defect.safetensors")
    found = searched(turn, _amounts(turn, _difference(turn, [good, Term(bad.adapter, -1.0, label="bad")], "sound")))
    amounts = {block: round(_UNIT * value, 4) for block, value in found.space.vector(found.found).items()}
    made = {"by amounts by block": (found.space.terms_at(found.found), {"amounts": amounts})}
    for mode in _MODES:
        path = turn.folder / f"{mode}.safetensors"
        if turn.workplace.ranks.main and not path.is_file():
            method = SubtractMethod(mode)
            subtract_files(turn.terms, [defect], path, method=method, force=True, owner=turn.owner)
        turn.workplace.ranks.wait()
        made[f"as `subtract --mode {mode}` does"] = ([Term(read(path), 1.0, label=f"{turn.name} {mode}")], {})
    return made


def _difference(turn: Turn, terms: Sequence[Term], name: str) -> Term:
    """The exact difference of both trainings as a LoRA, of twice the start's rank."""
    path = (turn.folder / name).with_suffix(".safetensors")
    if turn.workplace.ranks.main and not path.is_file():
        merge_files(terms, path, force=True, owner=turn.owner)
    turn.workplace.ranks.wait()
    return Term(read(path), _UNIT, label=path.stem)


def _amounts(turn: Turn, sound: Term) -> Space:
    """How much of ``sound`` is added in each block, from nothing on; the answer so far stays as it is."""
    none = as_vector(sound.adapter, dict.fromkeys(blocks_of(sound.adapter), 0.0))
    term = Term(sound.adapter, sound.weight, none, label=sound.label, missing=0.0)
    return Space.of([term, *turn.terms])


def _total(turn: Turn, name: str, terms: Sequence[Term]) -> float:
    """How good the search's own shots are."""
    place = turn.workplace
    place.clock.begin(turn.way)
    word = "".join(letter if letter.isalnum() else "-" for letter in name)
    shown = place.pictures(f"{turn.name}-{word}", terms, place.shots.search, fine=False)
    return place.total(place.values(shown))
