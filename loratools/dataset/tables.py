"""CSV as people's programs write it: between commas, or between semicolons where commas stand in numbers, or tabs."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Final

from loratools.dataset.encodings import TextReader

_LOOKED_AT: Final = 50  # lines that say what stands between cells
_DECIMAL = re.compile(r"\d,\d")


def read_table(path: Path) -> list[list[str]]:
    """The rows of a CSV, in whatever encoding and with whatever between its cells.

    Raises:
        DatasetError: if it cannot be read, or its encoding is not known.
    """
    return table_rows(TextReader().read(path))


def table_rows(text: str) -> list[list[str]]:
    """The rows of a CSV's text; empty lines are empty rows."""
    lines = text.splitlines()
    return list(csv.reader(lines, delimiter=_delimiter(lines)))


def _delimiter(lines: list[str]) -> str:
    """What stands between cells: a comma, unless there is none but in numbers such as 0,35."""
    some = [line for line in lines if line.strip()][:_LOOKED_AT]
    if any("," in _DECIMAL.sub("", line) for line in some):
        return ","
    return next((mark for mark in ("\t", ";") if some and all(mark in line for line in some)), ",")
