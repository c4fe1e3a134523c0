"""loratools: a toolbox for everything that happens to a LoRA after (and while) it is trained.

For a program::

    import loratools as lt

    report = lt.merge("style:1:GP1,base_style:-1:GP2", "mine.safetensors", lora_dirs="loras")
    print(report.error)

Files: ``read``, ``write``, ``inspect``, ``analyze``. From LoRA to LoRA: ``merge``, ``soup``, ``verify``, ``subtract``,
``resize``, ``extract``, ``convert``, ``edit_header``. Block vectors: ``parse_vector``, ``convert_vector``,
``export_vector``, ``explain_vector``. Training: ``train``, ``basestyle``, ``epochs``, ``judge_epochs``. Pictures:
``render_grid``, ``read_grid``, ``tune``, ``tune_further``. Data sets: ``dataset_look``, ``dataset_import``,
``dataset_prepare``, ``dataset_tag``, ``dataset_edit``, ``dataset_undo``, ``dataset_balance``. Recipes:
``run_recipe``, ``explain``, ``reproduce``.

Every mistake is a ``LoratoolsError``, whose text is one sentence that says what to do. Nothing is printed: progress
comes by ``on_progress(done, total)``. Each name is imported when it is first used, so that ``import loratools`` itself
is instant. docs/library.md has examples of everything.

Below that the folders are the map (docs/architecture.md); import from them as ``from loratools.train.trainer import
...``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from loratools.version import __version__

if TYPE_CHECKING:
    from loratools.adapter.algebra.lowrank import Delta, Dense, LowRank, Vector
    from loratools.adapter.files.file import Adapter
    from loratools.adapter.files.save import Written
    from loratools.blocks.explain import BlockRow
    from loratools.blocks.vector import BlockVector
    from loratools.dataset.balance.plan import Balance, BalanceRequest
    from loratools.dataset.edits.edit import EditPlan, Undone
    from loratools.dataset.look.report import LookReport
    from loratools.dataset.prepare.options import PrepareOptions
    from loratools.dataset.prepare.report import PrepareReport
    from loratools.dataset.sidecars.import_folder import ImportReport
    from loratools.dataset.tagging.tag_folder import TagReport, TagRequest
    from loratools.errors import LoratoolsError
    from loratools.library.captions import dataset_edit, dataset_tag, dataset_undo
    from loratools.library.dataset import dataset_balance, dataset_import, dataset_look, dataset_prepare
    from loratools.library.files import analyze, inspect, read, write
    from loratools.library.merging import MergedAdapter, merge, soup, verify
    from loratools.library.operations import convert, edit_header, extract, resize, subtract
    from loratools.library.pictures import GridOptions, read_grid, render_grid
    from loratools.library.recipes import explain, reproduce, run_recipe
    from loratools.library.training import basestyle, epochs, train
    from loratools.library.tune_options import EpochsOptions, TuneOptions
    from loratools.library.tuning import judge_epochs, tune, tune_further
    from loratools.library.vectors import convert_vector, explain_vector, export_vector, parse_vector
    from loratools.ops.analysis.analyze import Analysis
    from loratools.ops.analysis.describe import Description
    from loratools.ops.convert import Converted
    from loratools.ops.edit_header import EditedHeader
    from loratools.ops.merging.merge_into import IntoReport
    from loratools.ops.merging.method import MergeMethod
    from loratools.ops.merging.plan import MergePlan
    from loratools.ops.report import MergeReport, Verification
    from loratools.ops.resize import ResizeReport
    from loratools.ops.style_removal import SubtractMethod
    from loratools.ops.subtract import SubtractReport
    from loratools.preview.record.grid import Grid
    from loratools.preview.request.options import EngineOptions
    from loratools.preview.request.request import ModelRequest, SamplingRequest
    from loratools.preview.run import GridResult
    from loratools.recipe.observer import RunObserver, StepResult
    from loratools.recipe.reproduce import Reproduced
    from loratools.train.callbacks.records import EpochRecord
    from loratools.train.output.epoch_report import RunReport
    from loratools.train.trainer import RunResult
    from loratools.tune.epochs.result import EpochVerdict
    from loratools.tune.report.result import TuneResult

# module -> what of it is handed on
_NAMES = {
    "library.files": "analyze inspect read write",
    "library.merging": "MergedAdapter merge soup verify",
    "library.operations": "convert edit_header extract resize subtract",
    "library.vectors": "convert_vector explain_vector export_vector parse_vector",
    "library.training": "basestyle epochs train",
    "library.tune_options": "EpochsOptions TuneOptions",
    "library.tuning": "judge_epochs tune tune_further",
    "library.pictures": "GridOptions read_grid render_grid",
    "library.dataset": "dataset_balance dataset_import dataset_look dataset_prepare",
    "library.captions": "dataset_edit dataset_tag dataset_undo",
    "library.recipes": "explain reproduce run_recipe",
    "adapter.algebra.lowrank": "Delta Dense LowRank Vector",
    "adapter.files.file": "Adapter",
    "blocks.vector": "BlockVector",
    "dataset.balance.plan": "Balance BalanceRequest",
    "dataset.edits.edit": "EditPlan Undone",
    "dataset.look.report": "LookReport",
    "dataset.prepare.options": "PrepareOptions",
    "dataset.prepare.report": "PrepareReport",
    "dataset.sidecars.import_folder": "ImportReport",
    "dataset.tagging.tag_folder": "TagReport TagRequest",
    "errors": "LoratoolsError",
    "ops.merging.method": "MergeMethod",
    "ops.style_removal": "SubtractMethod",
    "preview.request.options": "EngineOptions",
    "preview.request.request": "ModelRequest SamplingRequest",
    "recipe.observer": "RunObserver StepResult",
    "adapter.files.save": "Written",
    "blocks.explain": "BlockRow",
    "ops.analysis.analyze": "Analysis",
    "ops.analysis.describe": "Description",
    "ops.convert": "Converted",
    "ops.edit_header": "EditedHeader",
    "ops.merging.merge_into": "IntoReport",
    "ops.merging.plan": "MergePlan",
    "ops.report": "MergeReport Verification",
    "ops.resize": "ResizeReport",
    "ops.subtract": "SubtractReport",
    "preview.record.grid": "Grid",
    "preview.run": "GridResult",
    "recipe.reproduce": "Reproduced",
    "train.callbacks.records": "EpochRecord",
    "train.output.epoch_report": "RunReport",
    "train.trainer": "RunResult",
    "tune.epochs.result": "EpochVerdict",
    "tune.report.result": "TuneResult",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}
_FOLDERS = ("train", "tune")  # names of functions that are those of folders too

__all__ = [
    "Adapter",
    "Analysis",
    "Balance",
    "BalanceRequest",
    "BlockRow",
    "BlockVector",
    "Converted",
    "Delta",
    "Dense",
    "Description",
    "EditPlan",
    "EditedHeader",
    "EngineOptions",
    "EpochRecord",
    "EpochVerdict",
    "EpochsOptions",
    "Grid",
    "GridOptions",
    "GridResult",
    "ImportReport",
    "IntoReport",
    "LookReport",
    "LoratoolsError",
    "LowRank",
    "MergeMethod",
    "MergePlan",
    "MergeReport",
    "MergedAdapter",
    "ModelRequest",
    "PrepareOptions",
    "PrepareReport",
    "Reproduced",
    "ResizeReport",
    "RunObserver",
    "RunReport",
    "RunResult",
    "SamplingRequest",
    "StepResult",
    "SubtractMethod",
    "SubtractReport",
    "TagReport",
    "TagRequest",
    "TuneOptions",
    "TuneResult",
    "Undone",
    "Vector",
    "Verification",
    "Written",
    "__version__",
    "analyze",
    "basestyle",
    "convert",
    "convert_vector",
    "dataset_balance",
    "dataset_edit",
    "dataset_import",
    "dataset_look",
    "dataset_prepare",
    "dataset_tag",
    "dataset_undo",
    "edit_header",
    "epochs",
    "explain",
    "explain_vector",
    "export_vector",
    "extract",
    "inspect",
    "judge_epochs",
    "merge",
    "parse_vector",
    "read",
    "read_grid",
    "render_grid",
    "reproduce",
    "resize",
    "run_recipe",
    "soup",
    "subtract",
    "train",
    "tune",
    "tune_further",
    "verify",
    "write",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _FOLDERS:
        return importlib.import_module(f"{__name__}.{name}")  # which makes it an attribute, see _Package
    value = _function(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _function(name: str) -> Any:
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


class _CallableFolder(ModuleType):
    """A folder of ours that is called like a function: calling it calls the function, whatever was imported before.

    So ``lt.train(...)`` and ``import loratools.train.config.config`` go together in any order, and so do tools that
    walk a dotted name, such as ``unittest.mock.patch``.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """The function, which is imported when it is first asked for; ``inspect.signature`` looks here."""
        return cast(Callable[..., Any], _function(self.__name__.rpartition(".")[2]))

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """What ``help`` and editors show: the function's, then the folder's."""
        import inspect

        function = inspect.cleandoc(self.__wrapped__.__doc__ or "")
        return f"{function}\n\nThe folder of this name:\n\n{vars(self)['__doc__']}"

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return importlib.import_module, (self.__name__,)  # a function can be sent to another process, so this can too


class _Package(ModuleType):
    """This package: a folder in it that is called like a function can be called, from the moment it is imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _FOLDERS and type(value) is ModuleType and value.__name__ == f"{__name__}.{name}":
            value.__class__ = _CallableFolder
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
