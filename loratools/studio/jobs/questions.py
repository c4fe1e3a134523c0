"""Whether a search by votes waits for a person: the newest round of its folder is not answered yet."""

from __future__ import annotations

from pathlib import Path

from loratools.errors import LoratoolsError
from loratools.tune.asking.round_page import RoundPage


def waits_for_answers(folder: Path) -> bool:
    """Whether the search in ``folder`` asks about pairs that have no answer."""
    rounds = sorted(folder.glob("votes/round-*/round.json"), key=lambda file: int(file.parent.name.rpartition("-")[2]))
    if not rounds:
        return False
    page = RoundPage(rounds[-1].parent)
    try:
        pairs, votes = page.pairs(), page.votes()
    except LoratoolsError:
        return False
    answered = set() if votes is None else {frozenset((own.left, own.right)) for own in votes.pairs}
    return any(frozenset(pair) not in answered for pair in pairs)
