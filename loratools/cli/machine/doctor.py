"""``loratools doctor``"""

from __future__ import annotations

import click

from loratools.cli.app import FAILED, Command
from loratools.cli.options import json_option, print_json


@click.command("doctor", cls=Command)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Look at this machine, and say what is wrong with it and the command that mends each thing.

    It looks at Python, torch's build beside the graphics card and its driver, the packages of each extra, memory, disk,
    folders that cannot be written to, and Windows' long paths. Nothing is changed and nothing is sent. It exits with 1
    where something is wrong.

    \b
      loratools doctor
      loratools doctor --json
    """
    from loratools.doctor.checks import findings
    from loratools.doctor.gather import gather
    from loratools.doctor.report import lines

    facts = gather()
    found = findings(facts)
    if as_json:
        print_json({"machine": facts.as_json(), "findings": [own.as_json() for own in found]})
    else:
        for line in lines(facts, found):
            click.echo(line)
    if any(own.level == "wrong" for own in found):
        ctx.exit(FAILED)
