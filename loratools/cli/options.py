"""What several commands share: options that are spelled the same everywhere, JSON output, names of LoRA files."""

from __future__ import annotations

import functools
import json
import math
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import click

from loratools.cli.app import DoraBase, fail_usage
from loratools.dtypes import DTYPE_NAMES

if TYPE_CHECKING:
    from loratools.adapter.files.lora_file import KeyRules

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>[KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

DTYPES = click.Choice(DTYPE_NAMES)


def as_object(options: Callable[..., T]) -> Callable[[Callable[[T], None]], Callable[..., None]]:
    """Hand a command its arguments and flags as one object, a dataclass whose fields have click's names.

    It stands below the command's options, directly above its function.
    """

    def decorate(function: Callable[[T], None]) -> Callable[..., None]:
        @functools.wraps(function)
        def command(**values: Any) -> None:
            function(options(**values))

        return command

    return decorate


def force_option(function: F) -> F:
    """``--force``"""
    return click.option("--force", is_flag=True, help="Overwrite files that this command did not write.")(function)


def device_option(function: F) -> F:
    """``--device``"""
    return click.option(
        "--device", default="auto", show_default=True, metavar="NAME", help="auto, cpu, cuda, cuda:N or mps."
    )(function)


def launch_options(function: F) -> F:
    """``--processes`` and ``--launch``: of every command whose work several processes can share."""
    function = click.option(
        "--launch",
        metavar="COMMAND",
        help='A launcher that starts the processes, such as "accelerate launch --config_file X" or "srun ...".',
    )(function)
    return click.option(
        "--processes",
        metavar="N",
        help="Processes on this machine that share the work, one a GPU; auto is all GPUs.  [default: 1]",
    )(function)


def json_option(function: F) -> F:
    """``--json``"""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON alone on stdout.")(function)


def size_bytes(text: str, option: str) -> int:
    """``500MiB`` or ``20GiB`` as bytes; anything else exits as a usage error of ``option``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        fail_usage(f"{option} {text}: write a size such as 500MiB or 20GiB")
    return int(float(match["number"]) * 1024 ** _UNITS[match["unit"].upper()])


def key_options(function: F) -> F:
    """``--allow-unknown`` and ``--drop``: of every command that reads LoRA files."""
    function = click.option(
        "--drop",
        multiple=True,
        metavar="KEYS",
        help="Read LoRA files without these tensors: names or patterns such as 'bundle_emb.*'. Repeatable.",
    )(function)
    return click.option(
        "--allow-unknown", is_flag=True, help="Carry keys that no table knows through untouched, instead of refusing."
    )(function)


def key_rules(allow_unknown: bool, drop: tuple[str, ...]) -> KeyRules:
    """What :func:`key_options` were given, for the operations."""
    from loratools.library.options import key_rules as rules

    return rules(allow_unknown, drop)


def base_option(function: F) -> F:
    """``--base``: the weights that a DoRA was trained on."""
    return click.option(
        "--base", cls=DoraBase, metavar="BASE", help="The base model, which the differences of a DoRA depend on."
    )(function)


def lora_options(function: F) -> F:
    """``--lora-dir``, ``--presets`` and ``--missing``: how names and block vectors in a merge string are read."""
    function = click.option(
        "--missing",
        type=click.Choice(["1", "0"]),
        help="Weight of the modules in blocks that a short vector does not list.",
    )(function)
    function = click.option("--presets", type=click.Path(), help="A file of more named block vectors.")(function)
    return click.option(
        "--lora-dir",
        "lora_dirs",
        multiple=True,
        type=click.Path(),
        help="Folder in which LoRA names are looked for. Repeatable; the current folder is always one.",
    )(function)


def store_options(function: F) -> F:
    """``--dtype`` and ``--force``"""
    function = force_option(function)
    return click.option("--dtype", type=DTYPES, default="fp16", show_default=True, help="Storage type.")(function)


def rank_option(function: F) -> F:
    """``--rank``"""
    return click.option(
        "--rank",
        metavar="RULE",
        default="exact",
        show_default=True,
        help="exact, a number, error=0.01, energy=0.999 or size=36MiB.",
    )(function)


def print_json(value: Any) -> None:
    """Strict JSON on stdout; a number that JSON cannot express (infinity, NaN) becomes null.

    Letters that stdout's encoding lacks, as a pipe's on Windows, are escaped: a name stays what it is.
    """
    value = _finite(value)
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, indent=1, allow_nan=False)
    click.echo(text)


class Report(Protocol):
    """What an operation says of its result."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind, a sentence each."""

    def json(self) -> dict[str, Any]:
        """As JSON values."""

    def text(self) -> str:
        """For a person."""


def print_report(report: Report, as_json: bool) -> None:
    """A report on stdout, and on stderr the warnings that its text does not hold itself."""
    text = "" if as_json else report.text()
    for warning in report.warnings:
        if warning not in text:
            click.echo(f"warning: {warning}", err=True)
    print_json(report.json()) if as_json else click.echo(text)


def _finite(value: Any) -> Any:
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: _finite(item) for key, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
    return value
