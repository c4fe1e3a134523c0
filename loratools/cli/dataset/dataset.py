"""``loratools dataset``"""

from __future__ import annotations

import click

from loratools.cli.app import Group
from loratools.cli.dataset.balance import balance
from loratools.cli.dataset.edit import edit
from loratools.cli.dataset.import_sidecars import import_
from loratools.cli.dataset.look import look
from loratools.cli.dataset.prepare import prepare
from loratools.cli.dataset.tag import tag


@click.group("dataset", cls=Group)
def command() -> None:
    """Make a set of training pictures of a folder; your own files are never changed but for captions.

    \b
      loratools dataset look downloads --html look.html
      loratools dataset import downloads
      loratools dataset prepare downloads -o pictures
      loratools dataset tag pictures --tagger SmilingWolf/wd-swinv2-tagger-v3
      loratools dataset edit pictures prune --junk --overlaps
      loratools dataset balance pictures -o training
    """


_SUBCOMMANDS: tuple[click.Command, ...] = (look, import_, prepare, tag, edit, balance)
for _more in _SUBCOMMANDS:
    command.add_command(_more)
