"""``grid.html``: one page beside the cells that works offline, with no other file but the pictures."""

from __future__ import annotations

import html
import json
from pathlib import Path
from string import Template
from urllib.parse import quote

from loratools.base.infotext import number
from loratools.files import write_text
from loratools.preview.grid import Grid
from loratools.preview.sheet import arrange

_TEMPLATE = Path(__file__).with_name("page.html")


def write_page(folder: Path, grid: Grid) -> None:
    """Write ``grid.html`` from the grid's record; pictures are linked by relative paths."""
    write_text(folder / "grid.html", draw_page(grid))


def draw_page(grid: Grid) -> str:
    """The page's HTML; every text of the user is escaped."""
    columns = range(len(grid.weights))
    cells = [
        [
            [
                {"file": quote(picture.file), "prompt": picture.prompt, "seed": picture.seed}
                for picture in grid.cell(row, grid.weights[column])
            ]
            for column in columns
        ]
        for row in range(len(grid.rows))
    ]
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(grid.title),
        size=_size(grid),
        about=_about(grid),
        chooser=_chooser(grid),
        table=_head(grid) + _body(grid),
        cells=_script(cells),
        rows=_script([row.label for row in grid.rows]),
        weights=_script([number(weight) for weight in grid.weights]),
        prompts=_script(list(grid.prompts)),
    )


def _size(grid: Grid) -> int:
    """A first width for pictures: the whole grid in view on a common screen, within reason."""
    across, _ = arrange(len(grid.prompts), len(grid.seeds))
    room = 1100 // (across * len(grid.weights))
    return max(64, min(room, max(grid.settings.size[1], 128), 320))


def _about(grid: Grid) -> str:
    lines = [f"prompt {i}: {text}" for i, text in enumerate(grid.prompts[:12], start=1)]
    if len(grid.prompts) > 12:
        lines.append(f"and {len(grid.prompts) - 12} more prompts")
    if grid.settings.negative:
        lines.append(f"negative: {grid.settings.negative}")
    lines.append(f"seeds: {', '.join(str(seed) for seed in grid.seeds)}")
    return "\n".join(f"<p>{html.escape(line)}</p>" for line in lines)


def _chooser(grid: Grid) -> str:
    if len(grid.prompts) < 2:
        return ""
    options = "".join(f'<option value="{i}">{html.escape(text[:80])}</option>' for i, text in enumerate(grid.prompts))
    return f'<label>prompt <select id="prompt"><option value="">all</option>{options}</select></label>'


def _head(grid: Grid) -> str:
    names = ['<th class="base">base</th>' if w == 0 else f"<th>{number(w)}</th>" for w in grid.weights]
    return f"<thead><tr><th></th>{''.join(names)}</tr></thead>\n"


def _body(grid: Grid) -> str:
    return "<tbody>\n" + "\n".join(_row(grid, row) for row in range(len(grid.rows))) + "\n</tbody>"


def _row(grid: Grid, row: int) -> str:
    info = grid.rows[row]
    note = f"<small>{html.escape(info.note)}</small>" if info.note else ""
    tip = html.escape(info.provenance[:500] or info.digest)
    cells = "".join(_cell(grid, row, column) for column in range(len(grid.weights)))
    return f'<tr><th title="{tip}"><div>{html.escape(info.label)}{note}</div></th>{cells}</tr>'


def _cell(grid: Grid, row: int, column: int) -> str:
    weight = grid.weights[column]
    across, _ = arrange(len(grid.prompts), len(grid.seeds))
    name = "base" if weight == 0 else f"{grid.rows[row].label} × {number(weight)}"
    height, width = grid.settings.size
    buttons = []
    for place, picture in enumerate(grid.cell(row, weight)):
        tip = html.escape(f"{name}\nseed {picture.seed}\n{grid.prompts[picture.prompt]}")
        image = (
            f'<img src="{quote(picture.file)}" width="{width}" height="{height}" loading="lazy" alt="{tip}" '
            f'title="{tip}">'
        )
        data = f'data-row="{row}" data-column="{column}" data-picture="{place}"'
        buttons.append(f"<button {data}>{image}</button>")
    badge = grid.badges.get((row, weight), "")
    under = f'<div class="badge">{html.escape(badge)}</div>' if badge else ""
    kind = ' class="base"' if weight == 0 else ""
    tile = f'<div class="tile" style="grid-template-columns: repeat({across}, max-content)">{"".join(buttons)}</div>'
    return f"<td{kind}>{tile}{under}</td>"


def _script(value: object) -> str:
    """JSON that cannot end the script element it stands in."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
