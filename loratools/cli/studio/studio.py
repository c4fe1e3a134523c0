"""``loratools studio``"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.options import device_option


@click.command("studio", cls=Command)
@click.argument("folders", nargs=-1, metavar="[FOLDER]...", type=click.Path())
@click.option("--demo", is_flag=True, help="First make a small trained run in studio-demo, to try everything on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port to listen on.  [default: a free one]")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="H",
    help="Address to listen on; any other lets other machines in, who need the printed address.",
)
@click.option(
    "--proxy",
    "proxies",
    multiple=True,
    metavar="NAME[:PORT]",
    help="Also answer to a proxy in front, by the name in the browser's address. Repeatable.",
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option("--fake-engine", is_flag=True, hidden=True)
@device_option
def command(
    folders: tuple[str, ...],
    demo: bool,
    port: int,
    host: str,
    proxies: tuple[str, ...],
    no_browser: bool,
    fake_engine: bool,
    device: str,
) -> None:
    """Open a page in the browser for the LoRAs, runs, grids and recipes in your folders.

    Sliders for every block whose picture follows them, epochs to choose from, a queue of jobs. Nothing is sent to any
    other machine, and nothing outside of the FOLDERs is read or written (the current folder, if none is given). Jobs
    go on when the page, or this command, is closed.

    \b
      loratools studio --demo
      loratools studio loras runs
      loratools studio /data/loras --port 8765 --no-browser     on a server, with ssh -L 8765:127.0.0.1:8765

    Needs `pip install 'loratools[studio]'`.
    """
    from loratools.studio.context import Options
    from loratools.studio.demo import FOLDER
    from loratools.studio.serve import Address, serve

    if demo:
        folders = folders or (FOLDER,)
        _make(Path(folders[0]))
    serve(
        folders or (".",),
        Address(host, port, proxies),
        Options(demo=demo, fake_engine=fake_engine, device=device),
        browser=not no_browser,
        say=click.echo,
        warn=partial(click.echo, err=True),
    )


def _make(folder: Path) -> None:
    """Make the demo's folder, where it is not there.

    Raises:
        FileError: if it cannot be made.
    """
    from loratools.errors import FileError

    try:
        folder.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make {folder}: {error.strerror or error}; choose another place") from error
