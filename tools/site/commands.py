"""The reference of all commands, made of what they are declared as: usage, help, and a table of options."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import click

from loratools.cli import cli


def reference() -> str:
    """Markdown of one page: a chapter for each command, in the order of ``loratools --help``."""
    return "\n".join(["# Commands\n", *_chapter(cli, click.Context(cli, info_name="loratools"), 1)])


def _chapter(command: click.Command, context: click.Context, level: int) -> Iterator[str]:
    if level > 1:
        yield f"{'#' * min(level, 4)} {context.command_path}\n"
    yield from _help(command.help or "")
    yield f"Usage: `{' '.join([context.command_path, *command.collect_usage_pieces(context)])}`\n"
    options = [own for own in command.get_params(context) if isinstance(own, click.Option) and not own.hidden]
    if rows := [_row(option, context) for option in options if "--help" not in option.opts]:
        yield "\n".join(["| option | | default |", "|---|---|---|", *rows]) + "\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _chapter(below, click.Context(below, parent=context, info_name=name), level + 1)


def _help(text: str) -> Iterator[str]:
    """Paragraphs; those that click leaves as they are written are blocks of code."""
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if paragraph.startswith("\b"):
            lines = paragraph.splitlines()[1:]
            yield "\n".join(["```text", *inspect.cleandoc("\n".join(["", *lines])).splitlines(), "```"]) + "\n"
        else:
            yield _plain(" ".join(paragraph.split())) + "\n"


def _row(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    kind = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    default = option.default if isinstance(option.default, str | int | float) and not option.is_flag else None
    return f"| {names}{kind} | {_plain(option.help or '')} | {'' if default is None else f'`{default}`'} |"


def _plain(text: str) -> str:
    """Text whose letters mean nothing to Markdown, outside of code."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([\\*_<>\[\]|])", r"\\\1", part) for part in parts)
