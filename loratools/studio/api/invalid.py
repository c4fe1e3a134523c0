"""What is wrong with what a page sent, in words."""

from __future__ import annotations

from pydantic import ValidationError

from loratools.studio.api.words import Failure, failure

# pydantic's kinds of mistakes that a person can make in a field: the words' key, and where the bound stands
_TYPED = {
    "string_too_long": ("request.long", "max_length"),
    "string_too_short": ("request.short", "min_length"),
    "less_than_equal": ("request.most", "le"),
    "less_than": ("request.below", "lt"),
    "greater_than_equal": ("request.least", "ge"),
    "greater_than": ("request.above", "gt"),
    "too_long": ("request.many", "max_length"),
    "too_short": ("request.few", "min_length"),
}


def invalid(error: ValidationError) -> Failure:
    """The first thing that is wrong with a request, by the place in it: what a person may have typed in words, the rest
    as pydantic says it."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "-"
    key, bound = _TYPED.get(first["type"], ("", ""))
    if key:
        return failure(key, place=place, bound=first.get("ctx", {}).get(bound, 0))
    return failure("request", place=place, error=first["msg"].lower())
