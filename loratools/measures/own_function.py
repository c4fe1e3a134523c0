"""``python=MODULE:FUNCTION`` or ``python=FILE.py:FUNCTION``: a measure of the user's own, in this process."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Sequence
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
    """The function that ``MODULE:FUNCTION`` names; modules of the current folder are found as well, and the module may
    be a file.

    Raises:
        MeasureError: if the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = (part.strip() for part in source.rpartition(":"))
    module = _imported(module_name)
    function = module
    for part in function_name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        near = did_you_mean(function_name, names)
        raise MeasureError(
            f"the module '{module_name}' has no function '{function_name}'{near}; write it there, or give the name of "
            "one that it has"
        )
    own = getattr(function, "better", better)
    if own not in ("lower", "higher"):
        raise MeasureError(f"'{source}' says better = {own!r}; it should be 'lower' or 'higher'")
    return FunctionMeasure(function_name, "higher" if "higher" in (own, better) else "lower", function)


def module_file(source: str) -> Path | None:
    """The file of the module that ``MODULE:FUNCTION`` names, found without importing it; None where there is none.

    Folders of a dotted name are imported, as Python does to look into them.
    """
    name = source.rpartition(":")[0].strip()
    if _is_file(name):
        path = Path(name)
    else:
        try:
            with _current_folder():
                found = importlib.util.find_spec(name)
        except Exception:  # a user's own package may fail in any way; importing the module says how
            return None
        path = Path(found.origin) if found is not None and found.origin else Path()
    return path if path.is_file() else None


def _is_file(name: str) -> bool:
    return name.lower().endswith(".py")


@contextlib.contextmanager
def _current_folder(folder: Path | None = None) -> Iterator[None]:
    """Modules of ``folder`` (by default of the current one) are found, as by ``python -m``."""
    here = str(Path.cwd() if folder is None else folder)
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added:
            sys.path.remove(here)


def _imported(name: str) -> Any:
    try:
        if not _is_file(name):
            with _current_folder():
                return importlib.import_module(name)
        path = Path(name).resolve(strict=True)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None:
            raise ImportError("Python cannot load it")
        module = importlib.util.module_from_spec(spec)
        with _current_folder(path.parent):
            spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:  # a user's own module may fail in any way, or want to end the program
        raise MeasureError(
            f"the module '{name}' cannot be imported ({type(error).__name__}: {error}); is it in this folder, or "
            "installed?"
        ) from error
