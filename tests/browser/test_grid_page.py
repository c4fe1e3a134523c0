"""``grid.html`` as a person uses it, in headless Chromium from ``file://``."""

from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratools.measures.votes.votes_file import read_votes, standings
from loratools.preview.page import draw_view, write_page
from tests.browser.chrome import Page
from tests.preview.page.pages import EVIL, page_grid, page_view

FOCUS = "document.activeElement.ariaLabel"


def shown(page: Page) -> int:
    return int(page.js("document.querySelectorAll('#table .cell:not(.off)').length"))


def focus(page: Page) -> str:
    page.js("document.querySelector('#table .cell[tabindex=\"0\"]').focus()")
    return str(page.js(FOCUS))


def color(page: Page, selector: str, folder: Path) -> tuple[int, ...]:
    """What the screen shows in the middle of an element."""
    page.js("Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 1)")
    page.js("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done))).then(() => 1)")
    data = page.screenshot(folder / "screen.png").read_bytes()
    x, y = page.middle(selector)
    pixel = Image.open(BytesIO(data)).convert("RGB").getpixel((int(x), int(y)))
    assert isinstance(pixel, tuple)
    return pixel


def near(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return all(abs(a - b) <= 3 for a, b in zip(left, right, strict=True))


def test_arrows_move_along_the_axes_and_stop_at_the_ends(page: Page) -> None:
    assert focus(page) == "base, prompt prompt0"
    page.key("ArrowRight")
    assert page.js(FOCUS) == "ink@1 × 0.5, prompt prompt0"
    page.key("ArrowRight")
    page.key("ArrowRight")  # the end
    assert page.js(FOCUS) == "ink@1 × 1, prompt prompt0, 0.93"
    page.key("ArrowDown")
    page.key("PageDown")
    assert page.js(FOCUS) == "ink@2 × 1, prompt prompt1"
    page.key("ArrowLeft")
    page.key("ArrowUp")
    page.key("PageUp")
    assert page.js(FOCUS) == "ink@1 × 0.5, prompt prompt0"
    assert page.js("document.querySelectorAll('#table [tabindex=\"0\"]').length") == 1
    assert "<lora:ink:0.5>" in page.js("document.getElementById('info').textContent")


def test_the_third_axis_turns_pages_when_one_value_is_shown(page: Page) -> None:
    assert shown(page) == 12
    choose = "document.querySelector('#axes select')"
    page.js(f"{choose}.value = '1'; {choose}.dispatchEvent(new Event('change'))")
    assert shown(page) == 6 and focus(page) == "base, prompt prompt1"
    page.key("PageUp")
    assert shown(page) == 6 and page.js(FOCUS) == "base, prompt prompt0"
    assert page.js(f"{choose}.value") == "0"


def test_zoom_and_pan_are_one_for_all_cells(page: Page) -> None:
    where = "[...document.querySelectorAll('.frame .shot')].map(image => getComputedStyle(image).transform)"
    parts = "(list => [new Set(list).size, new DOMMatrix(list[0]).a, new DOMMatrix(list[0]).e])"
    assert page.js(f"{parts}({where})") == [1, 1, 0]
    x, y = page.middle("#table tr:nth-child(2) td:nth-child(3) .frame")
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200)  # a plain wheel scrolls and does not zoom
    assert page.js(f"{parts}({where})")[1] == 1
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-200, modifiers=2)
    page.wait(f"{parts}({where})[1] > 1")
    alike, zoom, before = page.js(f"{parts}({where})")
    assert alike == 1 and before < 0
    page.mouse("mousePressed", x, y, button="left", clickCount=1)
    for step in range(1, 4):
        page.mouse("mouseMoved", x - 8 * step, y, button="left", buttons=1)
    page.mouse("mouseReleased", x - 24, y, button="left", clickCount=1)
    alike, same, after = page.js(f"{parts}({where})")
    assert (alike, same) == (1, zoom) and after < before
    assert not page.js("document.getElementById('light').open")  # a drag is not a click
    focus(page)
    page.key("0")
    assert page.js(f"{parts}({where})") == [1, 1, 0]


def test_a_held_key_flips_to_the_base_or_to_the_pinned_cell(page: Page, tmp_path: Path) -> None:
    focus(page)
    page.key("ArrowRight")
    page.key("Enter")
    stage = "#stage figure:last-child"
    assert near(color(page, stage, tmp_path), (40, 120, 60))
    page.key(" ", hold=True)
    assert near(color(page, stage, tmp_path), (200, 200, 40))
    assert page.js("document.getElementById('caption').textContent").startswith("base")
    page.release(" ")
    assert near(color(page, stage, tmp_path), (40, 120, 60))
    page.key("p")
    page.key("ArrowDown")
    assert near(color(page, stage, tmp_path), (100, 120, 60))
    page.key(" ", hold=True)
    assert near(color(page, stage, tmp_path), (40, 120, 60))  # the pinned cell
    page.release(" ")
    page.key("b", hold=True)
    assert near(color(page, stage, tmp_path), (200, 200, 40))
    page.release("b")
    page.key("Escape")
    page.wait(f"{FOCUS} === 'ink@2 × 0.5, prompt prompt0'")  # the dialog's close event comes a moment later


def test_the_difference_is_a_heat_map_that_is_black_where_cells_are_equal(page: Page, tmp_path: Path) -> None:
    focus(page)
    page.key("d")
    base, other = "#table tr:first-child td.base .frame", "#table tbody tr:first-child td:nth-child(3) .frame"
    assert max(color(page, base, tmp_path)) < 12
    strong = color(page, other, tmp_path)
    assert max(strong) > 100
    for _ in range(4):
        page.key(",")
    weak = color(page, other, tmp_path)
    assert sum(weak) < sum(strong)
    assert page.js("document.getElementById('diff').getAttribute('aria-pressed')") == "true"
    page.key("d")
    assert near(color(page, other, tmp_path), (40, 120, 60))


def test_stars_survive_a_reload_and_are_exported(page: Page, tmp_path: Path) -> None:
    focus(page)
    page.key("ArrowRight")
    page.key("4")
    page.key("ArrowDown")
    page.key("5")
    page.key("2")
    page.open(tmp_path / "grid.html")
    assert page.js("[...document.querySelectorAll('.stars')].map(mark => mark.textContent)") == ["4★", "2★"]
    page.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path / "downloads"))
    focus(page)
    page.key("e")
    saved = tmp_path / "downloads" / "votes.json"
    for _ in range(600):  # a download is renamed into place when it is whole
        if saved.exists() and saved.stat().st_size:
            break
        page.js("new Promise(done => setTimeout(done, 50)).then(() => 1)")
    votes = read_votes(saved)
    assert [(one.at, one.stars) for one in standings(votes, ["adapter"])] == [(("ink@1",), 4.0), (("ink@2",), 2.0)]


def test_votes_are_kept_under_a_value_s_own_name_whatever_it_is_called(page: Page, tmp_path: Path) -> None:
    write_page(tmp_path, page_grid(tmp_path).relabelled({"ink@1": "the first"}))
    page.open(tmp_path / "grid.html")
    assert page.js("document.querySelector('#table tbody th').textContent").startswith("the first")
    focus(page)
    page.key("ArrowRight")
    page.key("4")
    saved = page.js("JSON.parse(Object.entries(localStorage).find(([key]) => key.includes('votes'))[1])")
    assert [cell["at"]["adapter"] for cell in saved["cells"].values()] == ["ink@1"]


def import_votes(page: Page, content: dict[str, Any]) -> None:
    """As if the file had been chosen in the dialog of Import."""
    page.js(f"""(() => {{
        const carrier = new DataTransfer(), input = document.getElementById("import-file");
        carrier.items.add(new File([{json.dumps(json.dumps(content))}], "votes.json"));
        input.files = carrier.files;
        input.dispatchEvent(new Event("change"));
    }})()""")


def test_imported_votes_join_and_rank_as_the_reader_ranks_them(page: Page, tmp_path: Path) -> None:
    grid = page_grid(tmp_path)
    keys = {(p.row, p.weight): p.key for p in grid.pictures if p.prompt == 0}
    cells = {keys[r, w]: {"at": {"adapter": f"ink@{r + 1}", "weight": f"{w:g}"}} for r in (0, 1) for w in (0.5, 1.0)}
    games = [(0, 0.5, 1, 0.5, "left"), (0, 0.5, 0, 1.0, "left"), (1, 1.0, 0, 0.5, "right"), (0, 1.0, 1, 0.5, "tie")]
    pairs = [
        {"left": keys[a, b], "right": keys[c, d], "won": won, "when": str(n)}
        for n, (a, b, c, d, won) in enumerate(games)
    ]
    content = {"format": "loratools votes 1", "cells": cells, "stars": {keys[1, 0.5]: 3}, "pairs": pairs}
    (tmp_path / "votes.json").write_text(json.dumps(content))
    for _ in range(2):  # the second time changes nothing
        import_votes(page, content)
        page.wait("document.getElementById('status').textContent === 'Votes taken over'")
        page.js("document.getElementById('status').textContent = ''")
    focus(page)
    page.key("r")
    rows = page.js(
        "[...document.querySelectorAll('#standings-table tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    expected = standings(read_votes(tmp_path / "votes.json"), ["adapter", "weight"])
    assert [row[0] for row in rows] == [" × ".join(one.at) for one in expected]
    for row, one in zip(rows, expected, strict=True):
        assert float(row[1]) == pytest.approx(one.rating, abs=0.51) and float(row[2]) == one.wins
    import_votes(page, {"format": "other"})
    page.wait("document.getElementById('status').textContent.startsWith('Not imported')")


def test_blind_pairs_hide_labels_and_end_in_standings(page: Page) -> None:
    focus(page)
    page.key("v")
    title = "document.getElementById('blind')"
    for key in ("ArrowLeft", "ArrowRight", "ArrowDown", "ArrowLeft"):
        shown = page.js(
            f"{title}.innerText + [...{title}.querySelectorAll('[aria-label], [title], img')]"
            ".map(one => one.ariaLabel + one.title + one.alt).join()"
        )
        assert "ink@" not in shown and "0.5" not in shown
        before = page.js("document.getElementById('vote-count').textContent")
        page.key(key)
        page.wait(f"document.getElementById('vote-count').textContent !== '{before}'")
        page.wait("!document.querySelector('#blind .won')")
        page.wait(f"document.getElementById('blind-caption').textContent.includes('{int(before or 0) + 1} judged')")
    page.key("u")
    page.key("Escape")
    page.wait("document.getElementById('sheet-dialog').open")
    saved = page.js("JSON.parse(Object.entries(localStorage).find(([key]) => key.includes('votes'))[1])")
    assert [pair["won"] for pair in saved["pairs"]] == ["left", "right", "tie"]
    for pair in saved["pairs"]:
        left, right = saved["cells"][pair["left"]]["at"], saved["cells"][pair["right"]]["at"]
        assert left["prompt"] == right["prompt"] and left != right and "base" not in (left["weight"], right["weight"])


def test_pairs_that_are_asked_for_come_in_their_order_until_all_are_answered(page: Page, tmp_path: Path) -> None:
    view = page_view(tmp_path)
    keys = [shot.key for shot in view.shots[:4]]
    asked = ((keys[0], keys[1]), (keys[3], keys[2]), (keys[0], keys[2]))
    (tmp_path / "asked.html").write_text(
        draw_view(replace(view, pairs=asked, question="Which has the better hands?")), encoding="utf-8"
    )
    page.open(tmp_path / "asked.html")
    caption = "document.getElementById('blind-caption').textContent"
    assert page.js("document.getElementById('blind').open"), "it asks at once"
    assert "Which has the better hands?" in page.js(caption) and "0 of 3 answered" in page.js(caption)
    for number, key in enumerate(("ArrowLeft", "ArrowRight")):
        page.key(key)
        page.wait(f"{caption}.includes('{number + 1} of 3 answered')")
        page.wait("!document.querySelector('#blind .won')")
    page.key("u")
    page.wait(f"{caption}.includes('1 of 3 answered')")
    page.open(tmp_path / "asked.html")
    page.wait(f"{caption}.includes('1 of 3 answered')")
    for number, key in enumerate(("ArrowDown", "ArrowRight")):
        page.key(key)
        page.wait(f"{caption}.includes('{number + 2} of 3') || !document.getElementById('blind').open")
        page.wait("!document.querySelector('#blind .won')")
    page.wait("!document.getElementById('blind').open")
    assert "export votes.json" in page.js("document.getElementById('status').textContent")
    assert not page.js("document.getElementById('sheet-dialog').open"), "no standings of what is not labelled"
    saved = page.js("JSON.parse(Object.entries(localStorage).find(([key]) => key.includes('asked.html'))[1])")
    answers = [(pair["left"], pair["right"], pair["won"]) for pair in saved["pairs"]]
    assert answers == [(*asked[0], "left"), (*asked[1], "tie"), (*asked[2], "right")]


def test_filters_hide_rows_columns_and_cells(page: Page) -> None:
    focus(page)
    page.key("/")
    page.call("Input.insertText", text="ink@2 prompt1")
    assert shown(page) == 3 and page.js("document.querySelectorAll('#table tbody tr').length") == 1
    page.call("Input.insertText", text=" nothing")
    assert shown(page) == 0 and not page.js("document.getElementById('none').hidden")
    page.key("Escape")
    assert shown(page) == 12
    page.js("document.querySelector('#axes .menu input').click()")  # the first weight: the base
    assert shown(page) == 8 and not page.js("document.querySelector('td.base')")
    focus(page)
    page.key("5")
    page.js("document.getElementById('filter').focus()")
    page.call("Input.insertText", text="stars:4")
    assert shown(page) == 1


def test_the_difference_and_the_focus_outlive_a_filter(page: Page) -> None:
    focus(page)
    page.key("ArrowDown")
    page.key("d")
    page.key("/")
    page.call("Input.insertText", text="ink@2")
    assert page.js("document.querySelectorAll('#table .frame.diff').length") == 6
    assert focus(page) == "base, prompt prompt0"


def test_side_by_side_shows_both(page: Page) -> None:
    focus(page)
    page.key("ArrowRight")
    page.key("Enter")
    page.key("s")
    captions = "[...document.querySelectorAll('#stage figcaption')].map(one => one.textContent)"
    assert page.js(captions) == ["base", "ink@1 × 0.5"]
    page.key("ArrowRight")
    assert page.js(captions) == ["base", "ink@1 × 1"]
    page.key("Enter")
    page.wait(f"{FOCUS}.startsWith('ink@1 × 1')")


def test_hostile_labels_are_only_text(browser: Page, tmp_path: Path) -> None:
    grid = page_grid(tmp_path, labels=(EVIL, "b"))
    write_page(tmp_path, replace(grid, title=EVIL, prompts=(EVIL, "b"), badges={(0, 1.0): EVIL}))
    browser.problems.clear()
    browser.open(tmp_path / "grid.html")
    focus(browser)
    for key in ("ArrowRight", "ArrowRight", "Enter", "s", "d", "p", "Escape", "3", "r", "Escape", "?", "Escape", "v"):
        browser.key(key)
    assert browser.js("document.getElementById('title').textContent") == EVIL
    assert not browser.js("window.hurt") and not browser.js("document.querySelector('img[src=x]')")
    assert browser.problems == []


def test_a_script_that_slips_in_does_not_run(page: Page) -> None:
    page.js("document.body.insertAdjacentHTML('beforeend', '<b id=late onclick=\"window.hurt = 1\">x</b>')")
    page.js("document.getElementById('late').click()")
    assert not page.js("window.hurt")
    assert any("Content Security Policy" in problem for problem in page.problems)
    page.problems.clear()


def test_five_hundred_cells_load_only_what_is_seen(browser: Page, tmp_path: Path) -> None:
    grid = page_grid(tmp_path, labels=tuple(f"ink@{n}" for n in range(84)), side=16)
    write_page(tmp_path, grid)
    browser.problems.clear()
    browser.open(tmp_path / "grid.html")
    assert shown(browser) == 504
    loaded = browser.js("[...document.querySelectorAll('#table .shot')].filter(image => image.complete).length")
    assert 0 < loaded < 300
    focus(browser)
    for _ in range(83):
        browser.key("ArrowDown")
    assert browser.js(FOCUS) == "base, prompt prompt0"
    browser.wait("[...document.querySelectorAll('#table tr:last-child .shot')].every(image => image.complete)")
    assert browser.problems == []


def test_embedded_pictures_show(browser: Page, tmp_path: Path) -> None:
    write_page(tmp_path, page_grid(tmp_path), embed=True)
    for picture in (tmp_path / "cells").iterdir():
        picture.unlink()
    browser.problems.clear()
    browser.open(tmp_path / "grid.html")
    assert near(color(browser, "#table tbody tr:first-child td:nth-child(3) .frame", tmp_path), (40, 120, 60))
    assert browser.problems == []


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Page, tmp_path: Path) -> None:
    write_page(tmp_path, page_grid(tmp_path))
    browser.open(tmp_path / "grid.html")
    browser.js("localStorage.clear()")
    browser.open(tmp_path / "grid.html", dark=True)
    assert browser.js("document.documentElement.dataset.theme") == "dark"
    focus(browser)
    browser.key("t")
    browser.open(tmp_path / "grid.html", dark=True)
    assert browser.js("document.documentElement.dataset.theme") == "light"


def test_three_axes_with_verdicts_and_scores_and_without_a_base(browser: Page, tmp_path: Path) -> None:
    (tmp_path / "grid.html").write_text(draw_view(page_view(tmp_path)), encoding="utf-8")
    browser.problems.clear()
    browser.open(tmp_path / "grid.html")
    assert shown(browser) == 11
    assert focus(browser) == "Euler a × CFG 4, steps 10, underfit"
    browser.key("PageDown")
    browser.key("ArrowDown")
    browser.key("ArrowRight")  # there is no such cell
    assert browser.js(FOCUS) == "DDIM × CFG 4, steps 20, passes at 0.9"
    marks = "[...document.querySelectorAll('td .verdict')].slice(0, 3).map(mark => mark.textContent)"
    assert browser.js(marks) == ["underfit", "passes at 0.9", "overfit"]
    strips = "[...document.querySelectorAll('td .strip')].map(one => [one.title, one.style.getPropertyValue('--part')])"
    title, part = browser.js(strips)[0]
    assert title == "obedience: 0.1, 0.2, 0.3" and float(part) == pytest.approx(0.2)
    assert "copy" in browser.js("document.getElementById('info').textContent")
    browser.key(" ")
    assert "pin a cell" in browser.js("document.getElementById('status').textContent")
    browser.key("p")
    browser.key("d")  # against the pinned cell at each number of steps; one place has none and takes the pinned one
    assert browser.js("document.querySelectorAll('#table .frame.diff').length") == 11
    box = browser.js("(box => box.width / box.height)(document.querySelector('.frame').getBoundingClientRect())")
    assert box == pytest.approx(1.5, abs=0.02)
    assert browser.problems == []


def test_shift_and_an_arrow_pan_and_a_menu_closes_with_escape(page: Page) -> None:
    where = "getComputedStyle(document.querySelector('.frame .shot')).transform"
    focus(page)
    page.key("+")
    zoomed = page.js(where)
    page.key("ArrowRight", modifiers=8)
    assert page.js(where) != zoomed and page.js(FOCUS).startswith("base")
    page.js("document.querySelector('#axes summary').click(); document.querySelector('#axes input').focus()")
    page.key("Escape")
    assert not page.js("document.querySelector('#axes details').open") and page.js(f"{FOCUS}") is None
