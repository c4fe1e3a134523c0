"""Keep the libraries' own progress bars and warnings off the user's terminal."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence diffusers and transformers (bars, notices) inside the block; their settings come back."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    loggers = (diffusers_logging, transformers_logging)
    before = [(log, log.get_verbosity(), _bars_shown(log)) for log in loggers]
    for log in loggers:
        log.set_verbosity(log.CRITICAL)
        log.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for log, verbosity, shown in before:
            log.set_verbosity(verbosity)
            if shown:
                log.enable_progress_bar()


def _bars_shown(log: object) -> bool:
    enabled = getattr(log, "is_progress_bar_enabled", None)
    return bool(enabled()) if callable(enabled) else bool(getattr(log, "_tqdm_active", True))
