"""Keeps Python's garbage collector from walking over a loaded base while a picture is drawn."""

from __future__ import annotations

import gc


class LongLived:
    """What lives as long as a base is: its modules, and the libraries that drawing imported.

    They are half a million objects and more, all of which each full collection looks at: for 0.1 to 0.8 s in the middle
    of a picture of 0.1 s, every few pictures. Set apart once, they are not looked at again.
    """

    def __init__(self) -> None:
        self._apart = False

    def set_apart(self) -> None:
        """Of all that lives now; does nothing until the next :meth:`give_back`. Called between two pictures, since it
        takes as long as one full collection."""
        if not self._apart:
            gc.collect()
            gc.freeze()
            self._apart = True

    def give_back(self) -> None:
        """Collect everything again, before a base is freed."""
        if self._apart:
            gc.unfreeze()
            self._apart = False
