"""Click, with commands that are imported when they run, and errors as one paragraph with an exit code."""

from __future__ import annotations

import importlib
import io
import os
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import click

from loratools.cli.commands import COMMANDS
from loratools.errors import (
    LoraNotFoundError,
    LoratoolsError,
    NeedsBaseError,
    UnknownKeysError,
    UnlistedBlocksError,
    did_you_mean,
)

DONE, FAILED, INTERRUPTED, PIPE_CLOSED = 0, 1, 130, 141
GIVEN = "loratools.cli.app"  # in a context's meta: the command's arguments as they were given


# an option in a message, as a program gives it: `force=True`, `device=cpu`, or `out=` where the value is anything
_OPTION = re.compile(r"`(?P<name>[a-z_]+)=(?P<value>[^`]*)`")

# errors against which an option helps, where a command has it
_HELPED = (UnknownKeysError, NeedsBaseError, LoraNotFoundError, UnlistedBlocksError)


def words_of(ctx: click.Context) -> list[str]:
    """The words that call a command, after the program's name: ``["blocks", "fix"]``."""
    return [] if ctx.parent is None else [*words_of(ctx.parent), str(ctx.info_name)]


class DoraBase(click.Option):
    """``--base`` of a command that reads a DoRA by it, and not only something else of that name."""


class Command(click.Command):
    """A command that takes ``--debug`` after its name too, and says which of its options help against an error.

    Args:
        together: whether a launcher may start several processes of it, which then share its work.
        elsewhere: options of another tool's command that does the same -> what to write here.
    """

    def __init__(
        self, *given: Any, together: bool = False, elsewhere: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(*given, **more)
        self.together = together
        self.elsewhere = elsewhere or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[GIVEN] = list(args)
        try:
            return super().parse_args(ctx, list(args))
        except click.NoSuchOption as error:
            words = (arg.partition("=")[0] for arg in ctx.meta[GIVEN])
            foreign = [word for word in dict.fromkeys(words) if word in self.elsewhere]
            if error.option_name not in foreign:
                raise
            parts = (f"{word} ({self.elsewhere[word]})" for word in foreign)
            raise click.UsageError(f"no such option: {', '.join(parts)}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        """Run; in an error's message options are spelled as this command's flags, and one that helps is added."""
        if self._has("--launch") and not self.together:
            self._refuse_launcher(ctx)
        try:
            return super().invoke(ctx)
        except LoratoolsError as error:
            more = self._remedy(error) if isinstance(error, _HELPED) else ""
            error.args = (f"{self.with_flags(str(error))}{more}",)
            raise

    def _refuse_launcher(self, ctx: click.Context) -> None:
        """Exit where a launcher started several processes of what starts them itself; the first one says so."""
        from loratools.launch.rank import Rank

        rank = Rank.here()
        if rank.world == 1:
            return
        if rank.main:
            given = " ".join(["loratools", *words_of(ctx), *ctx.meta[GIVEN][:1]])
            _say(
                f'error: this command starts its processes itself; write {given} ... --launch "accelerate launch ...", '
                "with the launcher and its options in the quotes, or --processes N for N on this machine",
                FAILED,
            )
        ctx.exit(FAILED)

    def with_flags(self, text: str) -> str:
        """``text`` with options as flags: what Python calls `` `force=True` `` or `` `rank=8` `` is ``--force`` and
        ``--rank 8`` of a command that has them."""
        options = {param.name: param for param in self.params if isinstance(param, click.Option)}

        def flag(match: re.Match[str]) -> str:
            option, value = options.get(match["name"]), match["value"]
            if option is None:
                return match[0]
            name = max(option.opts, key=len)
            if option.is_flag or not value:
                return name
            return f'{name} "{value}"' if " " in value else f"{name} {value}"

        return _OPTION.sub(flag, text)

    def _has(self, option: str) -> bool:
        return any(option in param.opts for param in self.params)

    def _remedy(self, error: LoratoolsError) -> str:
        """What helps: an option where this command has one, else another command that does."""
        if isinstance(error, NeedsBaseError):
            if any(isinstance(param, DoraBase) for param in self.params):
                return " with --base"
            return ": `loratools convert FILE -o OUT --to kohya --base BASE` makes a LoRA of it"
        if isinstance(error, LoraNotFoundError):
            return ", or the folder that it is in with --lora-dir" if self._has("--lora-dir") else ""
        if isinstance(error, UnlistedBlocksError):
            return " (--missing 1 or 0)" if self._has("--missing") else ""
        if not (isinstance(error, UnknownKeysError) and error.allowable):
            return ""
        if self._has("--allow-unknown"):
            return ": --allow-unknown carries them through untouched, --drop KEYS leaves them out"
        return (
            ": in a recipe, allow_unknown: true at the step carries them through untouched; or write the file without "
            "them, `loratools convert FILE -o OUT --to kohya --drop KEYS`"
        )

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        debug = click.Option(["--debug"], is_flag=True, expose_value=False, hidden=True)
        return [*super().get_params(ctx), debug]


class Group(click.Group):
    """A group whose unknown commands are answered with the nearest one, and which alone shows its help."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:  # what click makes of this differs between its versions: an exit, an error with the help as text
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit(DONE)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            hint = self._within(ctx, args[0], known) or did_you_mean(args[0], known)
            ctx.fail(f"there is no command '{args[0]}'{hint}; there are {', '.join(known)}")
        return super().resolve_command(ctx, args)

    def _within(self, ctx: click.Context, word: str, known: Sequence[str]) -> str:
        """Where ``word`` is a command of one of the groups here, such as ``tune`` of ``blocks``; else an empty text."""
        groups = {name: command for name in known if isinstance(command := self.get_command(ctx, name), click.Group)}
        homes = [name for name, group in groups.items() if word in group.list_commands(ctx)]
        calls = (f"`{ctx.command_path} {name} {word}`" for name in homes)
        return f" (write {' or '.join(calls)})" if homes else ""


class LazyGroup(Group):
    """The top of the command line, which imports a command when it runs."""

    def _within(self, ctx: click.Context, word: str, known: Sequence[str]) -> str:
        """As of any group; and that ``word`` is a step of recipes, where no command does it."""
        from loratools.recipe.schema.kinds import STEP_KINDS

        is_step = word.replace("-", "_") in STEP_KINDS
        step = f" (it is a step of a recipe, which `{ctx.command_path} run RECIPE` does)" if is_step else ""
        return super()._within(ctx, word, known) or step

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        folder = COMMANDS[cmd_name].folder
        module = cmd_name.replace("-", "_")
        command: click.Command = importlib.import_module(f"loratools.cli.{folder}.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and exit with 0 (done), 1 (an error, printed as one paragraph), 2 (syntax) or 130 (interrupted)."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
            # other people's metadata may hold what stdout cannot show
            sys.stdout.reconfigure(errors="replace")
        given = list(sys.argv[1:] if args is None else args)
        try:
            result = super().main(given, prog_name, complete_var, False, **extra)
            sys.stdout.flush()
        except BaseException as error:
            sys.exit(report(error, debug="--debug" in given))
        sys.exit(result if isinstance(result, int) and not isinstance(result, bool) else DONE)


def report(error: BaseException, *, debug: bool) -> int:
    """Print an error on stderr as a person needs it; returns the exit code.

    Anything that is not an error (such as SystemExit) is raised again.
    """
    match error:
        case BrokenPipeError():
            return _close_pipe()
        case click.UsageError():
            return _usage(error)
        case click.exceptions.Exit():
            return error.exit_code
        case click.Abort() | KeyboardInterrupt():
            return _say("interrupted; what is finished stays, run the same command again to go on", INTERRUPTED)
        case Exception() if debug:
            traceback.print_exception(error)
            return _say(f"error: {error}", FAILED)
        case LoratoolsError():
            code = _say(f"error: {error}", FAILED)
            if excerpt := getattr(error, "excerpt", ""):
                click.echo(excerpt, err=True)
            return code
        case click.ClickException():
            return _say(f"error: {error.format_message()}", FAILED)
        case ModuleNotFoundError() if (package := (error.name or "").partition(".")[0]) not in ("", "loratools"):
            return _say(
                f"error: the package '{package}' is not installed; `pip install loratools` installs all that it needs, "
                "and `loratools doctor` says what else is missing",
                FAILED,
            )
        case MemoryError():
            return _say("error: out of memory; close other programs, or use smaller sizes or batches", FAILED)
        case OSError():
            where = f" ({error.filename})" if error.filename else ""
            return _say(f"error: {(error.strerror or str(error)).lower()}{where}; --debug shows where", FAILED)
        case Exception():
            return _unexpected(error)
    raise error


def _unexpected(error: Exception) -> int:
    name = type(error).__name__
    if name == "OutOfMemoryError":
        return _say("error: the device ran out of memory; use a smaller --batch-size or size, or --device cpu", FAILED)
    message = " ".join(str(error).split())[:400]
    return _say(f"error: unexpected {name}: {message}; this looks like a bug, --debug shows where", FAILED)


def _usage(error: click.UsageError) -> int:
    if error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    message = error.format_message().rstrip(".")
    hint = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
    return _say(f"error: {message[:1].lower()}{message[1:]}{hint}", error.exit_code)


def _say(text: str, code: int) -> int:
    """One paragraph on stderr; wrapped only for a terminal, so that scripts find it on one line."""
    text = " ".join(text.split())
    width = min(os.get_terminal_size(2).columns, 120) if sys.stderr.isatty() else 0
    click.echo(
        textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False) if width > 40 else text, err=True
    )
    return code


def _close_pipe() -> int:
    """The reader of stdout is gone (``| head``): end without a message, also when Python closes stdout."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return PIPE_CLOSED


def flag_speller() -> Callable[[str], str]:
    """What spells options in a message as flags of the command that runs now; it may be called from any thread."""
    context = click.get_current_context(silent=True)
    command = None if context is None else context.command
    return command.with_flags if isinstance(command, Command) else str


def fail_usage(message: str) -> NoReturn:
    """Leave with exit code 2: the command line itself makes no sense."""
    raise click.UsageError(message, click.get_current_context(silent=True))
