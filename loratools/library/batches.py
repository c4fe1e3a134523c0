"""Operations on every file of a folder: the functions of the library, file by file, as one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loratools.adapter.files.metadata import guard_overwrite
from loratools.blocks.explain import BlockShare
from loratools.errors import LoratoolsError
from loratools.library import merging, operations
from loratools.library.files import inspect, read
from loratools.ops.batch import BatchItem, BatchReport, Done, batch_items, check_all, run_batch
from loratools.progress import OnProgress

Options = Mapping[str, Any]  # those of the function for one file, by name


def resize_each(
    files: Sequence[Path], folder: str, options: Options, on_progress: OnProgress | None = None
) -> BatchReport:
    """:func:`~loratools.library.operations.resize` of every file into ``folder``.

    Raises:
        LoratoolsError: if any of the files cannot be taken; then none was written.
    """
    items, columns = batch_items(files, folder), ("rank", "size", "error")
    check_all(items, _writable(options, lambda item: operations.resize_owner(item.source, options["rank"])))

    def work(item: BatchItem) -> Done:
        report = operations.resize(item.source, _out(item), **options)
        stored = report.stored
        return Done((str(stored.rank), _size(stored.size), f"{stored.error:.2e}"), report.json())

    return run_batch(items, columns, work, on_progress)


def convert_each(
    files: Sequence[Path], folder: str, options: Options, on_progress: OnProgress | None = None
) -> BatchReport:
    """:func:`~loratools.library.operations.convert` of every file into ``folder``; as :func:`resize_each`."""
    from loratools.ops.convert import convert_owner

    items, columns = batch_items(files, folder), ("family", "modules", "dtype", "error")
    check_all(items, _writable(options, lambda item: convert_owner(item.source.name, options["to"])))

    def work(item: BatchItem) -> Done:
        made = operations.convert(item.source, _out(item), **options)
        return Done((made.family, str(made.modules), made.dtype, f"{made.error:.2e}"), made.json())

    return run_batch(items, columns, work, on_progress)


def extract_each(
    files: Sequence[Path], folder: str, options: Options, on_progress: OnProgress | None = None
) -> BatchReport:
    """:func:`~loratools.library.operations.extract` of every tuned model into ``folder``; as :func:`resize_each`."""
    from loratools.adapter.files.checkpoint import open_checkpoint

    items, columns = batch_items(files, folder), ("rank", "size", "error")

    def check(item: BatchItem) -> None:
        if options.get("base"):  # without one, it is an adapter of full differences
            open_checkpoint(item.source)
        owner = operations.extract_owner(item.source, options["rank"], options.get("base"))
        guard_overwrite(_out(item), owner, bool(options.get("force")))

    check_all(items, check)

    def work(item: BatchItem) -> Done:
        report = operations.extract(item.source, _out(item), **options)
        return Done((str(report.rank), _size(report.size), f"{report.error:.2e}"), report.json())

    return run_batch(items, columns, work, on_progress)


def edit_header_each(
    files: Sequence[Path], folder: str | None, options: Options, on_progress: OnProgress | None = None
) -> BatchReport:
    """:func:`~loratools.library.operations.edit_header` of every file, in place or into ``folder``; as
    :func:`resize_each`."""
    from loratools.ops.edit_header import check_edit

    items = [BatchItem(file) for file in files] if folder is None else batch_items(files, folder)
    edit, force = operations.header_edit(options), bool(options.get("force"))
    check_all(items, lambda item: check_edit(item.source, edit, item.out, force=force))

    def work(item: BatchItem) -> Done:
        done = operations.edit_header(item.source, item.out, **options)
        return Done((", ".join(done.changed) if done.changed else "nothing to change",), done.json())

    return run_batch(items, ("changed",), work, on_progress)


def inspect_each(files: Sequence[Path], options: Options, on_progress: OnProgress | None = None) -> BatchReport:
    """:func:`~loratools.library.files.inspect` of every file."""

    def work(item: BatchItem) -> Done:
        facts = inspect(item.source, **options)
        ranks = sorted(facts.ranks)
        rank = "-" if not ranks else str(ranks[0]) if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"
        return Done((facts.family, facts.kind, rank, str(facts.modules), _size(facts.size)), facts.json())

    return run_batch(
        [BatchItem(file) for file in files], ("family", "kind", "rank", "modules", "size"), work, on_progress
    )


def verify_each(
    files: Sequence[Path], terms: str, options: Options, on_progress: OnProgress | None = None
) -> BatchReport:
    """:func:`~loratools.library.merging.verify` of every file against the same ``terms``."""

    def work(item: BatchItem) -> Done:
        found = merging.verify(item.source, terms, **options)
        worst = max(found.blocks.items(), key=lambda entry: entry[1], default=("-", 0.0))
        return Done((f"{found.error:.2e}", f"{worst[0]} {worst[1]:.1e}"), found.json())

    return run_batch([BatchItem(file) for file in files], ("error", "worst block"), work, on_progress)


def show_each(
    files: Sequence[Path],
    parts: Callable[[Path], tuple[str, Mapping[str, BlockShare], float]],
    on_progress: OnProgress | None = None,
) -> BatchReport:
    """What a block vector does to every file.

    Args:
        parts: a file's family, its blocks' shares, and the part of its norm that the vector keeps.
    """

    def work(item: BatchItem) -> Done:
        family, shares, kept = parts(item.source)
        first, part = max(shares.items(), key=lambda entry: entry[1].after)
        blocks = {
            name: {"modules": one.modules, "before": one.before, "after": one.after} for name, one in shares.items()
        }
        facts = {"family": family, "norm_kept": kept, "blocks": blocks}
        return Done((family, f"{100 * kept:.1f} %", f"{first} {100 * part.after:.0f} %"), facts)

    columns = ("family", "norm kept", "strongest block")
    return run_batch([BatchItem(file) for file in files], columns, work, on_progress)


def _writable(options: Options, owner: Callable[[BatchItem], str]) -> Callable[[BatchItem], None]:
    """A check that a LoRA can be read, with the base that it needs, and its place be written."""

    def check(item: BatchItem) -> None:
        reading = {key: options[key] for key in ("base", "allow_unknown", "drop") if key in options}
        adapter = read(item.source, **reading)
        if adapter.needs_base:
            adapter[min(adapter.needs_base)]  # raises, and says what to give
        guard_overwrite(_out(item), owner(item), bool(options.get("force")))

    return check


def _out(item: BatchItem) -> Path:
    if item.out is None:
        raise LoratoolsError(f"{item.source} has no place to be written to")
    return item.out


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"
