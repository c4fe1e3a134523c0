"""What to change when a LoRA shows a symptom: the style method's rules as data, and how several of them combine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from loratools.blocks.scheme import full_scheme
from loratools.errors import BlockError, did_you_mean
from loratools.yamlio import load_yaml

_FILE = Path(__file__).with_name("symptoms.yaml")
# whose vector the rules move: that of the first term with a weight of this sign
ROLES = {"GP1": 1, "GP2": -1}
_WHOLE = 17  # numbers of a vector; a step that moves them all meets everything
Spot = tuple[str, str]  # (GP1 or GP2, block)


@dataclass(frozen=True)
class Move:
    """``by`` steps for each of ``blocks`` in the vector ``role`` (``GP1``: the style's, ``GP2``: the base style's)."""

    role: str
    blocks: tuple[str, ...]
    by: int

    def spots(self) -> Iterator[Spot]:
        """Every number that it moves."""
        return ((self.role, block) for block in self.blocks)

    def text(self) -> str:
        """For a person: ``GP1 IN04 IN05 down``."""
        return f"{self.role} {' '.join(self.blocks)} {'up' if self.by > 0 else 'down'}"


@dataclass(frozen=True)
class SymptomStep:
    """One thing to try: moves that are made together, or a factor for the ``strength`` of the whole sum."""

    say: str
    moves: tuple[Move, ...]
    strength: float | None = None

    def directions(self) -> dict[Spot, int]:
        """Steps by number."""
        return {spot: move.by for move in self.moves for spot in move.spots()}


@dataclass(frozen=True)
class Symptom:
    """A symptom and what to try, in order. ``repeats``: the last step is made again; otherwise the list ends."""

    name: str
    title: str
    steps: tuple[SymptomStep, ...]
    repeats: bool

    def step_at(self, index: int) -> SymptomStep | None:
        """The step to make after ``index`` earlier ones; None when there is nothing more to try."""
        if index < len(self.steps):
            return self.steps[index]
        return self.steps[-1] if self.repeats else None


@dataclass(frozen=True)
class CombinedSteps:
    """Steps of several symptoms as one edit.

    Attributes:
        moves: steps by number; a number that two symptoms move the same way moves once.
        strength: factor for the whole sum, 1 if none.
        conflicts: numbers that two symptoms pull in opposite directions; they are not moved.
        notes: what is worth saying: overlaps with these and with other symptoms.
    """

    moves: Mapping[Spot, int]
    strength: float
    conflicts: tuple[str, ...]
    notes: tuple[str, ...]


@lru_cache(maxsize=1)
def symptoms() -> Mapping[str, Symptom]:
    """All symptoms by name, as ``symptoms.yaml`` has them."""
    data = load_yaml(_FILE.read_text(encoding="utf-8"), str(_FILE)).data
    positions = tuple(full_scheme("sd1").block_name(name) for name in data["positions"])
    return {name: _symptom(name, body, positions) for name, body in data["symptoms"].items()}


def find_symptom(name: str) -> Symptom:
    """The symptom called ``name`` (any case).

    Raises:
        BlockError: if there is none.
    """
    known = symptoms()
    if name.lower() not in known:
        have = "; ".join(f"{one.name} ({one.title})" for one in known.values())
        raise BlockError(f"there is no symptom '{name}'{did_you_mean(name, known)}; there are {have}")
    return known[name.lower()]


def combine_steps(chosen: Sequence[tuple[Symptom, SymptomStep]]) -> CombinedSteps:
    """Steps of several symptoms as one edit: what agrees moves once, what disagrees stays and is said."""
    pulls: dict[Spot, dict[str, int]] = {}
    strength = 1.0
    for symptom, step in chosen:
        strength *= step.strength or 1.0
        for spot, by in step.directions().items():
            pulls.setdefault(spot, {})[symptom.name] = by
    moves, torn, shared = dict[Spot, int](), list[Spot](), list[Spot]()
    for spot, asked in pulls.items():
        values = set(asked.values())
        if min(values) < 0 < max(values):
            torn.append(spot)
            continue
        moves[spot] = max(values, key=abs)
        if len(asked) > 1:
            shared.append(spot)
    conflicts = tuple(
        f"{_pull(asked, -1)} lowers and {_pull(asked, 1)} raises {where}: left as it is, treat one first"
        for asked, where in _by_pull(torn, pulls)
    )
    notes = [f"{' and '.join(asked)} both move {where}: moved once" for asked, where in _by_pull(shared, pulls)]
    return CombinedSteps(moves, strength, conflicts, (*notes, *_overlaps(chosen)))


def _overlaps(chosen: Sequence[tuple[Symptom, SymptomStep]]) -> Iterator[str]:
    """What the symptoms that were not named would do to the same numbers."""
    mine = {symptom.name for symptom, _ in chosen}
    for symptom, step in chosen:
        spots = step.directions()
        for other in symptoms().values():
            if other.name in mine:
                continue
            for against in (True, False):
                same = _meeting(spots, other, against)
                if same:
                    verb = ("raises" if spots[same[0]] < 0 else "lowers") if against else "moves"
                    how = "the opposite way: look at that too" if against else "the same way"
                    yield f"{symptom.name} shares {_where(same)} with {other.name}, which {verb} them {how}"


def _meeting(spots: Mapping[Spot, int], other: Symptom, against: bool) -> list[Spot]:
    """The numbers that a step of ``other`` moves too, the opposite way if ``against``. Last resorts that move a whole
    vector say nothing."""
    shared: list[Spot] = []
    for step in other.steps:
        theirs = step.directions()
        if len(theirs) < _WHOLE:
            shared += [s for s, by in spots.items() if s in theirs and (theirs[s] * by < 0) == against]
    return list(dict.fromkeys(shared))


def _by_pull(spots: Sequence[Spot], pulls: Mapping[Spot, Mapping[str, int]]) -> list[tuple[Mapping[str, int], str]]:
    """Spots that the same symptoms pull in the same way, gathered."""
    groups: dict[tuple[tuple[str, int], ...], list[Spot]] = {}
    for spot in spots:
        groups.setdefault(tuple(pulls[spot].items()), []).append(spot)
    return [(dict(asked), _where(same)) for asked, same in groups.items()]


def _pull(asked: Mapping[str, int], sign: int) -> str:
    return " and ".join(name for name, by in asked.items() if by * sign > 0)


def _where(spots: Sequence[Spot]) -> str:
    roles = dict.fromkeys(role for role, _ in spots)
    return ", ".join(f"{role} {' '.join(block for r, block in spots if r == role)}" for role in roles)


def _symptom(name: str, body: Mapping[str, Any], positions: Sequence[str]) -> Symptom:
    steps = tuple(_step(step, positions) for step in body["steps"])
    return Symptom(name, body["title"], steps, body.get("last", "again") == "again")


def _step(body: Mapping[str, Any], positions: Sequence[str]) -> SymptomStep:
    moves = []
    for move in body.get("moves", ()):
        first, _, last = move["at"].partition("-")
        moves.append(Move(move["vector"], tuple(positions[int(first) - 1 : int(last)]), move["by"]))
    return SymptomStep(body["say"], tuple(moves), body.get("strength"))
