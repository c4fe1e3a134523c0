"""Which Pythons and versions of packages loratools was run with: ``python -m tools.compatibility``::

    run --python 3.13 --resolution lowest    a new environment by uv, a part of the tests, and the record of it
    table                                    the records into docs/compatibility.md

It needs uv on PATH (or ``--uv``), and takes about three minutes of one core and 6 GB of disk a run.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.compatibility import environment, page, record, suite


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        prog="compatibility", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="write docs/compatibility.md from the records")
    run = commands.add_parser("run", help="make an environment, run the tests, keep the record")
    run.add_argument("--python", default="3.11", help="a version that uv finds, or an interpreter's path")
    run.add_argument("--resolution", choices=[*environment.RESOLUTIONS], default="lowest")
    run.add_argument("--uv", default=shutil.which("uv"), help="uv's path (default: the one on PATH)")
    run.add_argument("--folder", type=Path, help="where the environment is made (default: a temporary folder)")
    options = parser.parse_args()
    if options.command == "table":
        page.write(record.read())
    elif options.uv is None:
        parser.error("there is no uv on PATH: python -m pip install uv, or name one with --uv")
    else:
        _run(options)


def _run(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="loratools-compatibility-") as temporary:
        folder = options.folder or Path(temporary) / "venv"
        made = environment.make(options.uv, folder, options.python, options.resolution)
        modules, unimported = suite.import_all(made.python)
        outcome = suite.run_tests(made.python)
        own = record.Record(
            python=_output(str(made.python), "-c", "import platform; print(platform.python_version())"),
            resolution=options.resolution,
            system=f"{platform.system()} {platform.machine()}",
            commit=commit(),
            date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
            versions=made.versions(environment.package_names()),
            modules=modules,
            passed=outcome.passed,
            skipped=outcome.skipped,
            failed=unimported + outcome.failed,
            seconds=outcome.seconds,
        )
    record.keep(own)
    print(f"{own.name}: {own.modules} modules, {own.passed} passed, {len(own.failed)} failed")
    sys.exit(1 if own.failed else 0)


def commit() -> str:
    """The tree's commit, with a ``+`` where it has changes other than the records."""
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ".", f":!{record.RUNS}")
    return _output("git", "rev-parse", "--short=8", "HEAD") + ("+" if changed else "")


def _output(*command: str) -> str:
    done = subprocess.run(command, cwd=environment.ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return done.stdout.strip()


if __name__ == "__main__":
    main()
