"""What ``import loratools`` hands on, as text: names, signatures, return types, and the fields of classes.

``python -m tests.library.face`` writes it to ``face.txt``.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path

import loratools

STORED = Path(__file__).with_name("face.txt")


def face() -> str:
    """Every name of ``loratools.__all__``, in the order of the alphabet."""
    return "\n".join(line for name in sorted(loratools.__all__) for line in _lines(name)) + "\n"


def _lines(name: str) -> Iterator[str]:
    value = getattr(loratools, name)
    if inspect.isfunction(value) or inspect.ismodule(value):  # a folder that is called like a function
        yield f"{name}{_signature(value)}"
    elif inspect.isclass(value) and issubclass(value, Exception):
        yield f"{name}({value.__mro__[1].__name__})"
    elif inspect.isclass(value):
        yield f"class {name}"
        yield from (f"    {line}" for line in sorted(_members(value)))
    else:
        yield name


def _signature(function: Callable[..., object]) -> str:
    """As it is written; annotations are text, since every module imports them lazily."""
    signature = inspect.signature(function)
    parts, named = [], False
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            parts, named = [*parts, "*"], True
        text = name if parameter.annotation is parameter.empty else f"{name}: {parameter.annotation}"
        parts.append(text if parameter.default is parameter.empty else f"{text} = {parameter.default!r}")
    return f"({', '.join(parts)}) -> {signature.return_annotation}"


def _members(kind: type) -> Iterator[str]:
    """Public fields, properties and methods of the class itself."""
    if dataclasses.is_dataclass(kind):
        yield from (f"{field.name}: {field.type}" for field in dataclasses.fields(kind))
    for name, member in vars(kind).items():
        if name.startswith("_"):
            continue
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if inspect.isfunction(member):
            yield f"{name}{_signature(member)}"
        elif isinstance(member, property) or type(member).__name__ == "cached_property":
            getter = member.fget if isinstance(member, property) else member.func  # type: ignore[attr-defined]
            yield f"{name}: {inspect.signature(getter).return_annotation!s}"


if __name__ == "__main__":
    STORED.write_text(face(), encoding="utf-8")
