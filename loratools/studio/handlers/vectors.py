"""``POST /api/vector``: a block vector in all of its spellings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import Route

from loratools.blocks.export import as_lbw, joined, numbers_of
from loratools.blocks.parse import parse_vector
from loratools.blocks.presets import load_presets
from loratools.blocks.scheme import SCHEMES, NumberedScheme, full_scheme
from loratools.blocks.vector import BlockVector, named_vector
from loratools.errors import BlockError
from loratools.studio.api.stacks import VectorAnswer, VectorRequest, VectorTexts
from loratools.studio.api.words import problem
from loratools.studio.context import Studio
from loratools.studio.handlers.answers import post
from loratools.studio.stacks import preset_of

_NAME = "MINE"  # of the preset in a line for LoRA Block Weight


def vector(studio: Studio, request: Request, body: VectorRequest) -> VectorAnswer:
    """Read a vector's text, or write its weights as text."""
    if (body.text is None) == (body.weights is None):
        raise problem("vector.one")
    read = _of_text(body.text, body.family) if body.text is not None else _of_weights(body)
    preset = preset_of(read)
    short = preset or read.text()
    try:
        numbers, lbw = joined(numbers_of(read)), as_lbw(read, preset or _NAME)
    except BlockError:  # not every block is listed, or there are elemental rules
        numbers, lbw = "", ""
    return VectorAnswer(weights=read.by_name(), texts=VectorTexts(numbers=numbers, lbw=lbw, short=short), preset=preset)


def _of_text(text: str, family: str) -> BlockVector:
    """The vector; a line of ``lbwpresets.txt``, ``NAME:1,0,...``, too."""
    _, colon, after = text.partition(":")
    if colon and "," in after and not text.lower().startswith("inspire"):
        text = after
    return parse_vector(text, load_presets(), family)


def _of_weights(body: VectorRequest) -> BlockVector:
    """The vector in the shortest scheme whose blocks are just those; else by names."""
    weights = body.weights or {}
    full = full_scheme(body.family)
    named = named_vector(full, weights)
    if isinstance(full, NumberedScheme):
        return named
    schemes = (own for own in SCHEMES if body.family in own.families and set(own.names) == set(named.weights))
    scheme = next(schemes, full)
    own = {name: named.weights[name] for name in scheme.names if name in named.weights}
    return BlockVector(scheme, own, named.rules)


ROUTES: list[Route] = [post("/api/vector", VectorRequest, vector)]
