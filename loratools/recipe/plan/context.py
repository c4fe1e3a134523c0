"""How steps are run: on which device, with which permission to overwrite, with which judge."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from loratools.progress import tqdm_bar

if TYPE_CHECKING:
    from loratools.base.model import LoadedBase
    from loratools.pocket.judge import JudgeFunction
    from loratools.preview.session import Session
    from loratools.recipe.plan.lineage import Lineage


class KeptModel:
    """The base model that grids and searches of one process share, one after another; loaded when the first asks."""

    def __init__(self) -> None:
        self._session: Session | None = None

    def session(self) -> Session:
        """Where grids load their base."""
        from loratools.preview.session import Session

        if self._session is None:
            self._session = Session()
        return self._session

    def base(self, name: str, device: str, dtype: str | None = None) -> LoadedBase:
        """The base ``name`` for whoever brings an engine of its own; that of the last grid is freed first.

        Raises:
            BaseModelError: if it cannot be loaded.
        """
        from loratools.preview.request.request import ModelRequest

        session = self.session()
        session.close_drawer()
        return session.load(name, ModelRequest(device=device, dtype=dtype))

    def close(self) -> None:
        """Free its memory, for what comes next."""
        if self._session is not None:
            self._session.close()


@dataclass(frozen=True)
class RunContext:
    """How steps are run; nothing here changes a tensor or a picture of their results.

    Args:
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        force: overwrite files that the step did not write.
        progress: bars on stderr, if that is a terminal.
        resume: unfinished work of the same step and key is there to go on from.
        judge: reads tags, style and defects from pictures; None is the pocket's own, see :meth:`judge_function`.
        lineage: written into the LoRA files that the step makes.
        kept: the base model of the last grid or search; steps that load one by themselves close it.
    """

    device: str = "auto"
    force: bool = False
    progress: bool = False
    resume: bool = False
    judge: JudgeFunction | None = None
    lineage: Lineage | None = None
    kept: KeptModel = field(default_factory=KeptModel, compare=False)

    def json(self) -> dict[str, Any]:
        """What another process needs to run the same step, as JSON values."""
        return {"device": self.device, "force": self.force, "progress": self.progress, "resume": self.resume}

    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe that the step is of, as JSON values for the header of the files that it makes."""
        return None if self.lineage is None else self.lineage.json()

    def judge_function(self) -> JudgeFunction:
        """The judge to read pictures with."""
        from loratools.pocket.judge import shipped_judge

        return self.judge or shipped_judge


@contextlib.contextmanager
def bar(context: RunContext, what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A progress bar on stderr, if the run wants one; yields what advances it."""
    if not context.progress:
        yield lambda count: None
        return
    with tqdm_bar(total=total, desc=what, leave=False) as shown:
        yield shown.update
