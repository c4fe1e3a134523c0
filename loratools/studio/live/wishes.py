"""From what the page says to a wish: ids become paths below the opened folders."""

from __future__ import annotations

from loratools.studio.api.messages import Draw
from loratools.studio.api.stacks import Stack, Term
from loratools.studio.live.wish import PictureWish, SamplingWish, TermWish
from loratools.studio.roots import Roots
from loratools.studio.stacks import base_of


def wish_of(message: Draw, roots: Roots) -> PictureWish:
    """The picture that a message asks for.

    Raises:
        StudioError: for an id that is not known, or whose file is gone.
    """
    own = message.settings
    size = None if own.size is None else (own.size[1], own.size[0])
    sampling = SamplingWish(own.prompt, own.negative, own.seed, own.steps, own.cfg, own.sampler, size)
    terms = terms_of(message.stack, roots)
    return PictureWish(terms, base_of(message.stack.base, roots), sampling, message.quality, message.dtype)


def terms_of(stack: Stack, roots: Roots) -> tuple[TermWish, ...]:
    """A stack's LoRAs, by path.

    Raises:
        StudioError: for an id that is not known, or whose file is gone.
    """
    return tuple(_term(term, roots) for term in stack.terms)


def _term(term: Term, roots: Roots) -> TermWish:
    return TermWish(roots.path(term.lora), term.weight, term.vector, term.te, term.unet)
