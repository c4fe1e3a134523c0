"""What the parts of one running server share; ``request.app.state.studio`` of every handler."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from loratools.studio.discover.index import Index
from loratools.studio.events import Events
from loratools.studio.roots import STATE, Roots
from loratools.studio.token import Secrets


@dataclass(frozen=True)
class Options:
    """How the server was started.

    Attributes:
        demo: whether the page offers the demo's tour.
        fake_engine: pictures are made up in 5 ms, for tests of the page.
        device: ``auto``, ``cpu``, ``cuda:1`` ...; that of live pictures and of jobs.
    """

    demo: bool = False
    fake_engine: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class Studio:
    """One running server."""

    port: int
    secrets: Secrets
    roots: Roots
    options: Options = Options()
    events: Events = field(default_factory=Events)

    @cached_property
    def index(self) -> Index:
        """What lies below the roots."""
        return Index(self.roots, self.events)

    @property
    def state_folder(self) -> Path:
        """Where the queue and the logs of jobs are kept: hidden in the first root."""
        return self.roots.roots[0].path / STATE
