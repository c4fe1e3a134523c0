"""What is said of a machine: a sentence and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Literal

from loratools.doctor.facts import Facts

Level = Literal["wrong", "note"]
GIB = 1 << 30


@dataclass(frozen=True)
class Finding:
    """Something about a machine.

    Args:
        level: ``wrong`` hinders; a ``note`` only says what else there could be.
        what: a sentence for a person.
        command: what mends it, as it is typed; None where no command does.
    """

    level: Level
    what: str
    command: str | None = None

    def as_json(self) -> dict[str, str | None]:
        """Its fields."""
        return asdict(self)


Check = Callable[[Facts], Iterator[Finding]]


def variable(facts: Facts, name: str, value: str) -> str:
    """The command that sets an environment variable: from the next terminal on (Windows) or in this one."""
    return f"setx {name} {value}" if facts.system == "Windows" else f"export {name}={value}"


def without_variable(facts: Facts, name: str) -> str:
    """The command that takes an environment variable away in this terminal."""
    return f"set {name}=" if facts.system == "Windows" else f"unset {name}"
