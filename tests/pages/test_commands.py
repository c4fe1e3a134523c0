"""Commands of the documentation can be typed: every command exists, and every option of it; what is run of them is
in ``test_run``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from loratools.cli import cli
from loratools.cli.commands import COMMANDS
from tools.pages import SHELLS, blocks, name_of, pages

SKIPPED = 40  # commands that are parsed and not run, each with its reason in its page
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][\w-]{2,}")  # shorter ones are of sample prompts
# options of other programs that the pages name in their text
OTHERS = {"--bucket", "--concat", "--config_file", "--ctr", "--dataset_config", "--list", "--parts", "--rcfg"}


def find(words: list[str]) -> tuple[click.Context, click.Command, list[str]]:
    """The command that ``words`` call, and what is left of them.

    Raises:
        click.UsageError: if there is no such command.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="loratools")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        _, found, rest = command.resolve_command(context, words)
        assert found is not None
        context = click.Context(found, parent=context, info_name=words[0])
        before = [parameter for parameter in found.params if isinstance(parameter, click.Argument)]
        command, words = found, rest[len(before) :] if isinstance(found, click.Group) else rest
    return context, command, words


def parse(arguments: list[str]) -> None:
    """Parse as the command line would, without looking at files.

    Raises:
        click.UsageError: for what there is not, what does not fit, and what is missing.
    """
    context, command, words = find(arguments)
    given, rest, _ = command.make_parser(context).parse_args(words)
    if rest and not isinstance(command, click.Group):
        raise click.UsageError(f"unexpected {rest}", context)
    for parameter in command.get_params(context):
        value = given.get(parameter.name or "")
        there = value is not None and value != () and "Sentinel" not in repr(value)
        if parameter.required and not there:
            raise click.UsageError(f"missing {parameter.name}", context)
        if there and not isinstance(parameter.type, click.Path):
            for one in value if isinstance(value, list | tuple) else [value]:
                parameter.type.convert(one, parameter, context)


def shown(page: Path) -> Iterator[tuple[int, list[str]]]:
    """The arguments of loratools in every command of a page, with its line."""
    for block in blocks(page):
        for command in block.commands:
            if command.ours is not None:
                yield command.line, list(command.ours)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_a_pages_commands_are_spelled_rightly(page: Path) -> None:
    wrong = []
    for line, arguments in shown(page):
        try:
            parse(arguments)
        except click.UsageError as error:
            wrong.append(f"line {line}: loratools {shlex.join(arguments)}: {error.format_message()}")
    assert wrong == []


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_stand_in_blocks_of_a_shell(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    in_shells = [block.text for block in blocks(page) if block.language in (*SHELLS, "text")]
    begins = re.compile(rf"\s*(\$ )?loratools ({'|'.join(COMMANDS)})\b")
    lines = [line for line in text.splitlines() if begins.match(line)]
    assert [line for line in lines if not any(line in block for block in in_shells)] == []


def _options(command: click.Command, context: click.Context) -> set[str]:
    """All options of a command, and of a group's commands."""
    own = {
        option for parameter in command.get_params(context) for option in (*parameter.opts, *parameter.secondary_opts)
    }
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            own |= _options(below, context)
    return own


@pytest.fixture(scope="module")
def all_options() -> set[str]:
    return _options(cli, click.Context(cli)) | OTHERS


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_what_the_text_names_is_there(page: Path, all_options: set[str]) -> None:
    wrong = []
    for text in _INLINE.findall(page.read_text(encoding="utf-8")):
        words = text.removesuffix(" ...").split()
        ours = words[1:] if words[0] == "loratools" else words
        if ours and ours[0] in COMMANDS and (words[0] == "loratools" or "--" in text):
            try:
                context, command, _ = find(ours)
            except click.UsageError as error:
                wrong.append(f"{text}: {error.format_message()}")
                continue
            known = _options(command, context)
        elif words[0].startswith("--"):
            known = all_options
        else:
            continue
        wrong += [f"{text}: no {option}" for option in _OPTION.findall(text) if option not in known]
    assert wrong == []


def test_no_more_commands_than_these_are_left_out() -> None:
    """A command that is not run needs a reason in its page; that there are more of them has to be said here."""
    left_out = [
        f"{name_of(page)}:{command.line}: {command} ({block.remarks.skip})"
        for page in pages()
        for block in blocks(page)
        if block.remarks.skip
        for command in block.commands
    ]
    assert len(left_out) <= SKIPPED, "\n".join(left_out)
    assert len(left_out) > SKIPPED - 5, f"only {len(left_out)} are left out now: lower SKIPPED"
