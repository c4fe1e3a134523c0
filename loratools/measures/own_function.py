"""``python=MODULE:FUNCTION``: a measure of the user's own, in this process."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratools.errors import MeasureError, did_you_mean
from loratools.measures.estimate import Values
from loratools.measures.measure import Better, Shown


@dataclass(frozen=True)
class FunctionMeasure:
    """``function(images, prompts, seeds)`` -> a number for each image (PIL, RGB); NaN or None where it cannot tell.

    An attribute ``better`` of the function, ``"lower"`` or ``"higher"``, says which way is good; the request's
    ``higher:`` does too.
    """

    name: str
    better: Better
    function: Callable[[list[Any], list[str], list[int]], Any]

    def __call__(self, pictures: Sequence[Shown]) -> Values:
        images, prompts = [picture.image for picture in pictures], [picture.prompt for picture in pictures]
        values: Values = self.function(images, prompts, [picture.seed for picture in pictures])
        return values


def function_measure(source: str, better: Better = "lower") -> FunctionMeasure:
    """The function that ``MODULE:FUNCTION`` names; modules of the current folder are found as well.

    Raises:
        MeasureError: if the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = (part.strip() for part in source.partition(":"))
    module = _imported(module_name)
    function = module
    for part in function_name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise MeasureError(
            f"the module '{module_name}' has no function '{function_name}'{did_you_mean(function_name, names)}"
        )
    own = getattr(function, "better", better)
    if own not in ("lower", "higher"):
        raise MeasureError(f"'{source}' says better = {own!r}; it should be 'lower' or 'higher'")
    return FunctionMeasure(function_name, "higher" if "higher" in (own, better) else "lower", function)


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    added = here not in sys.path
    if added:  # as `python -m` does
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's own module may fail in any way
        raise MeasureError(
            f"the module '{name}' cannot be imported ({type(error).__name__}: {error}); is it in this folder, or "
            "installed?"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
