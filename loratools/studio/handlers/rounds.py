"""``/api/jobs/{id}/round``: the pairs that a search by a person's choices asks about, and the answers.

The search writes its pages below its own folder and ends; with enough answers there, the same command goes on.
"""

from __future__ import annotations

import threading
from pathlib import Path

from starlette.requests import Request
from starlette.routing import Route

from loratools.studio.api.models import Pair
from loratools.studio.api.stacks import Round, RoundVote
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import get, post
from loratools.tune.asking.round_page import Cell, RoundPage

_FOLDER = "votes"  # in a search's folder
_MISSING, _CONFLICT = 404, 409
_writing = threading.Lock()  # two tabs may answer at once
_POINTS = {"left": 1.0, "none": 0.5, "right": 0.0}


def asked(studio: Studio, request: Request) -> Round:
    """The next pair of the newest round."""
    return _shown(studio, _newest(studio, request))


def answer(studio: Studio, request: Request, body: RoundVote) -> Round:
    """Keep a choice, and show the next pair."""
    page = _newest(studio, request)
    if (body.left, body.right) not in page.pairs():
        raise problem("round.pair", status=_CONFLICT)
    with _writing:
        votes = page.votes()
        before = votes.pairs if votes is not None else ()
        kept = [(own.left, own.right, own.points) for own in before if {own.left, own.right} != {body.left, body.right}]
        page.answer(votes.stars if votes is not None else {}, [*kept, (body.left, body.right, _POINTS[body.winner])])
    return _shown(studio, page)


def _newest(studio: Studio, request: Request) -> RoundPage:
    record = studio.queue.job(request.path_params["id"])
    pages = [RoundPage(own) for path in record.results for own in (Path(path) / _FOLDER).glob("round-*")]
    written = [page for page in pages if page.written and _number(page).isdigit()]
    if not written:
        raise problem("round.none", status=_MISSING)
    return max(written, key=lambda page: int(_number(page)))


def _number(page: RoundPage) -> str:
    return page.folder.name.rpartition("-")[2]


def _shown(studio: Studio, page: RoundPage) -> Round:
    from loratools.measures.probe.pairs import FEWEST

    votes, pairs, cells = page.votes(), page.pairs(), {cell.key: cell for cell in page.cells()}
    answered = {frozenset((own.left, own.right)) for own in votes.pairs} if votes is not None else set()
    open_pairs = [pair for pair in pairs if frozenset(pair) not in answered]
    return Round(
        number=int(_number(page)),
        pairs=len(pairs),
        answered=len(answered),
        enough=len(answered) >= min(FEWEST, len(pairs)),
        pair=_pair(studio, page, cells, open_pairs[0]) if open_pairs else None,
    )


def _pair(studio: Studio, page: RoundPage, cells: dict[str, Cell], keys: tuple[str, str]) -> Pair:
    left, right = (studio.roots.picture_id(page.folder / cells[key].file) for key in keys)
    return Pair(left=keys[0], right=keys[1], left_picture=left, right_picture=right)


ROUTES: list[Route] = [
    get("/api/jobs/{id}/round", asked),
    post("/api/jobs/{id}/round", RoundVote, answer),
]
