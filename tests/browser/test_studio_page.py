"""The studio's page as a person uses it, in headless Chromium, against a stub that says what a server may say."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chrome import Page

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from loratools.studio.api.words import Failure, plain
from tests.browser.studio_stub import EPOCHS, Stub, job, serve, stack_color

CHOOSE = """code => { const select = [...document.querySelectorAll('select')].find(one =>
  [...one.options].some(option => option.value === 'zh'));
  select.value = code; select.dispatchEvent(new Event('change')); }"""
CHOSEN = "(box => {{ box.value = '{}'; box.dispatchEvent(new Event('change')); }})(document.querySelector('{}'))"
NOW = "figure[data-stream='2']"


@pytest.fixture
def stub() -> Stub:
    return Stub()


@pytest.fixture
def address(stub: Stub) -> Iterator[str]:
    with serve(stub) as url:
        yield url


@pytest.fixture
def page(browser: Page, stub: Stub, address: str) -> Iterator[Page]:
    """A first visit, in English; a script that throws, or a request to anywhere else, fails the test."""
    browser.problems.clear()
    browser.requests.clear()
    browser.visit(address + "#/queue")
    until(lambda: stub.watches)
    browser.js("localStorage.clear()")
    browser.js("localStorage.setItem('loratools.language', '\"en\"')")
    seen = len(stub.watches)
    browser.visit(address)
    browser.wait("document.querySelector('main .panel, main .start') !== null")
    until(lambda: len(stub.watches) > seen)
    yield browser
    problems = list(browser.problems)
    browser.call("Page.navigate", url="about:blank")  # before the server goes
    browser.wait("location.href === 'about:blank'")
    assert problems == []
    hosts = {url.split("/")[2] for url in browser.requests if not url.startswith(("blob:", "data:"))}
    assert hosts <= {address.split("/")[2]}


def take_epoch(page: Page) -> None:
    """The recommended epoch, its blocks on the desk, its whole picture on the screen."""
    page.wait("document.querySelector('#use-best') !== null")
    page.click("#use-best")
    page.wait("document.querySelectorAll('.strip').length === 17")
    page.wait(f"document.querySelector(\"{NOW}\")?.dataset.preview === 'false'")


def weigh_kinds(page: Page) -> None:
    """Several kinds of layers with weights of their own."""
    for rule in ("IN01/attn1", "M00/ff", "M00/proj_", "OUT05/attn1", "OUT05/attn2", "OUT05/ff"):
        page.js(CHOSEN.format(rule, "#add-rule"))
    page.wait("document.querySelectorAll('.rule-chip').length === 6")


def text(page: Page, selector: str) -> str:
    return str(page.js(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))


def color(page: Page) -> list[int]:
    """The middle of the picture Now, as its canvas holds it."""
    canvas = f'document.querySelector("{NOW} canvas")'
    return list(page.js(f"[...{canvas}.getContext('2d').getImageData(32, 32, 1, 1).data].slice(0, 3)"))


def fader(block: str) -> str:
    return f"[data-block='{block}'] .fader"


def value(page: Page, block: str) -> float:
    return float(page.js(f'document.querySelector("{fader(block)}").ariaValueNow'))


def until(condition: Any) -> None:
    deadline = time.monotonic() + 60  # as long as the page itself is waited for
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_newcomer_takes_an_epoch_drags_a_block_and_saves_the_file(page: Page, stub: Stub) -> None:
    assert page.js("location.hash") == "#/epochs"
    page.wait("document.querySelector('#use-best') !== null")
    assert "recommended" in text(page, ".verdict").lower() and "within noise" in text(page, ".verdict")
    assert "1" in text(page, ".guide li.now")
    take_epoch(page)
    assert "2" in text(page, ".guide li.now") and "ink@6" in text(page, ".layer")
    page.drag(fader("OUT03"), 0, 40)
    page.wait("document.querySelector('.guide li.now').innerText.includes('3')")
    page.click("#save")
    page.wait("document.querySelector('#save-dialog .command') !== null")
    assert "loratools merge" in text(page, "#save-dialog")  # before anything is started
    asked = [body for path, body in stub.asked if path == "/api/write"]
    assert asked and all(body.get("dry_run") for body in asked)
    page.click("#save-now")
    page.wait("document.querySelector('#save-dialog .success') !== null")
    written = [body for path, body in stub.asked if path == "/api/write"][-1]
    assert not written.get("dry_run")
    assert written["stack"]["terms"][0]["vector"]["OUT03"] == value(page, "OUT03") < 1
    page.key("Escape")
    page.wait("document.querySelectorAll('.guide li.done').length === 3")


def test_the_picture_on_the_screen_is_that_of_the_last_value(page: Page, stub: Stub) -> None:
    take_epoch(page)
    before = len(stub.draws)
    stub.delay = 0.02
    page.drag(fader("OUT03"), 0, 60, steps=80)
    last = value(page, "OUT03")
    page.wait(f"document.querySelector(\"{NOW}\").dataset.preview === 'false'")
    drawn = [draw for draw in stub.draws[before:] if draw["stream"] == 2]
    until(lambda: drawn[-1]["quality"] == "rest" and len(stub.acks) >= 3)
    assert drawn[-1]["stack"]["terms"][0]["vector"]["OUT03"] == last
    assert color(page) == list(stack_color(drawn[-1]["stack"]))
    assert [draw["seq"] for draw in drawn] == sorted({draw["seq"] for draw in drawn})
    assert len(drawn) < 70  # fewer than there were moves: values in between were dropped
    assert sum(draw["quality"] == "rest" for draw in drawn) <= 2
    assert stub.unacknowledged == 1
    assert {draw["stream"] for draw in stub.draws} == {0, 1, 2}
    assert sum(draw["stream"] == 0 for draw in stub.draws) == 1  # the base is drawn once


def test_a_drag_is_one_step_of_undo(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.drag(fader("IN01"), 0, 30, steps=20)
    dragged = value(page, "IN01")
    page.js("document.activeElement.blur()")
    page.key("z", modifiers=2)
    assert value(page, "IN01") == 1
    page.key("z", modifiers=10)
    assert value(page, "IN01") == dragged
    x, y = page.middle(fader("IN01"))
    for count in (1, 2):
        page.mouse("mousePressed", x, y, button="left", clickCount=count)
        page.mouse("mouseReleased", x, y, button="left", clickCount=count)
    assert value(page, "IN01") == 1


def test_the_keyboard_moves_mutes_and_singles_out_a_block(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.js(f'document.querySelector("{fader("IN02")}").focus()')
    page.key("ArrowDown")
    page.key("ArrowDown", modifiers=8)
    assert value(page, "IN02") == pytest.approx(0.94)
    page.key("m")
    assert "silent" in page.js(f'document.querySelector("{fader("IN02")}").ariaValueText')
    page.key("m")
    page.key("s")
    assert page.js("document.querySelectorAll('.strip.silent').length") == 16
    until(lambda: (stub.draws[-1]["stack"]["terms"] or [{}])[0].get("vector", {}).get("IN04") == 0)
    page.key("s")
    page.key("1")
    assert value(page, "IN02") == 1


def test_shift_is_fine(page: Page) -> None:
    take_epoch(page)
    page.drag(fader("IN01"), 0, 40)
    coarse = 1 - value(page, "IN01")
    page.drag(fader("IN05"), 0, 40, modifiers=8)
    assert 1 - value(page, "IN05") == pytest.approx(coarse / 5, abs=0.02)


def test_a_vector_goes_in_as_text_and_a_fault_is_said_beside_it(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.js("document.querySelector('#vector').focus()")
    page.js("document.querySelector('#vector').value = 'GP1'")
    page.key("Enter")
    page.wait(f"document.querySelector(\"{fader('IN01')}\").ariaValueNow === '0.5'")
    stub.failing["/api/vector"] = Failure(error="a vector has 17 numbers, not 16", remedy="add one")
    page.js("document.querySelector('#vector').focus()")
    page.js("document.querySelector('#vector').value = '1,2'")
    page.key("Enter")
    page.wait("document.querySelector('.vector-text .failure') !== null")
    assert "17 numbers" in text(page, ".vector-text") and "add one" in text(page, ".vector-text")
    assert value(page, "IN01") == 0.5
    page.problems.clear()  # the browser notes the answer's status


def test_a_symptom_runs_a_search_and_shows_its_command(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.wait("document.querySelector('[data-symptom=hands]') !== null")
    page.click("[data-symptom=hands]")
    page.click("#tune")
    page.wait("document.querySelector('.result .command') !== null")
    assert "blocks tune" in text(page, ".result")
    sent = next(body for path, body in stub.asked if path == "/api/symptom")
    assert sent["symptom"] == "hands" and sent["kind"] == "tune" and sent["stack"]["terms"]
    stub.tell_job(stub.jobs[-1].model_copy(update={"state": "done", "can": ["remove"]}))
    page.wait("document.querySelector('.evidence .figures') !== null")
    assert "0.31 ± 0.02" in text(page, ".evidence") and "the style is kept" in text(page, ".evidence")
    page.js("document.querySelector('.evidence .button').click()")
    assert value(page, "IN07") == 0.4


def test_weights_of_another_lora_are_not_put_onto_the_stack(page: Page, stub: Stub) -> None:
    stub.evidence = stub.evidence.model_copy(update={"lora": "another"})
    take_epoch(page)
    page.click("[data-symptom=hands]")
    page.click("#tune")
    until(lambda: any(path == "/api/symptom" for path, _ in stub.asked))
    stub.tell_job(stub.jobs[-1].model_copy(update={"state": "done", "can": ["remove"]}))
    page.wait("document.querySelector('.evidence .figures') !== null")
    assert page.js("document.querySelector('.evidence .button')") is None
    assert "not in the stack" in page.js("document.body.innerText")


def test_kinds_of_layers_that_a_search_weighed_are_listed_edited_and_undone(page: Page, stub: Stub) -> None:
    def listed() -> dict[str, str]:
        chips = "[...document.querySelectorAll('.rule-chip')]"
        return dict(page.js(f"{chips}.map(own => [own.dataset.rule, own.querySelector('input').value])"))

    def drawn() -> dict[str, float]:
        page.wait(f"document.querySelector(\"{NOW}\").dataset.preview === 'false'")
        vector = [draw for draw in stub.draws if draw["stream"] == 2][-1]["stack"]["terms"][0]["vector"]
        return dict(vector or {})  # none until the page has asked for what the search found

    take_epoch(page)
    page.click("[data-symptom=hands]")
    page.js(CHOSEN.format("kinds", "#parts"))
    page.click("#tune")
    until(lambda: any(path == "/api/symptom" for path, _ in stub.asked))
    assert next(body for path, body in stub.asked if path == "/api/symptom")["options"]["parts"] == "kinds"
    stub.tell_job(stub.jobs[-1].model_copy(update={"state": "done", "can": ["remove"]}))
    page.wait("document.querySelector('.evidence .figures') !== null")
    page.js("document.querySelector('.evidence .button').click()")
    page.wait("document.querySelectorAll('.rule-chip').length === 3")
    found = {"OUT05/attn1": "0.3", "OUT05/ff": "-0.2", "OUT08/attn2": "1.4"}
    assert listed() == found and value(page, "IN07") == 0.4
    assert "self-attention" in text(page, ".rules") and "OUT05" in text(page, ".rules")
    assert "2" in page.js("document.querySelector('.strip[data-block=OUT05] .name').title")
    until(lambda: drawn().get("OUT05/ff") == -0.2)
    page.wait("document.querySelector('#vector').value.endsWith('OUT05/attn1=0.3,OUT05/ff=-0.2,OUT08/attn2=1.4')")
    page.js("document.querySelector('[data-rule=\"OUT05/attn1\"] input').focus()")
    page.js("document.activeElement.value = '0.55'")
    page.key("Enter")
    assert listed()["OUT05/attn1"] == "0.55"
    page.js("document.querySelector('[data-rule=\"OUT05/ff\"] button').focus()")
    page.key("Enter")
    page.wait("document.querySelectorAll('.rule-chip').length === 2")
    until(lambda: "OUT05/ff" not in drawn() and drawn().get("OUT05/attn1") == 0.55)
    page.js("document.activeElement.blur()")
    page.key("z", modifiers=2)
    page.key("z", modifiers=2)
    assert listed() == found
    page.js(CHOSEN.format("IN04/ff", "#add-rule"))
    assert listed()["IN04/ff"] == "1"
    page.click("[data-block=OUT08] .mark")
    until(lambda: "OUT08/attn2" not in drawn() and drawn().get("OUT08") == 0)
    page.click("#no-rules")
    page.wait("document.querySelectorAll('.rule-chip').length === 0")


def test_a_rule_moves_the_sliders_at_once_and_remembers_its_turn(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.wait("document.querySelector('[data-symptom=hands]') !== null")
    page.click("[data-symptom=hands]")
    for press in (1, 2):
        page.js("document.querySelector('#fix').click()")
        page.wait(f"document.querySelector(\"{fader('IN05')}\").ariaValueNow === '0.9'")
        page.wait("!document.querySelector('#fix').disabled")
        turns = [body["options"]["turn"] for path, body in stub.asked if path == "/api/symptom"]
        assert turns == list(range(press))


def test_a_search_by_choices_asks_in_the_page_and_goes_on(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.wait("document.querySelector('[data-symptom=hands]') !== null")
    page.click("[data-symptom=hands]")
    page.js("document.querySelector('#votes').click()")
    page.wait("document.querySelector('.result .job-line') !== null")
    asking = stub.jobs[-1].model_copy(update={"state": "paused", "asks": True, "can": ["resume", "remove"]})
    stub.tell_job(asking)
    page.wait("document.querySelector('#choose') !== null")
    assert "0 of 8" in text(page, ".choices") and page.js("document.querySelector('#go-on') === null")
    page.js("document.querySelector('#choose').click()")
    page.wait("document.querySelectorAll('.pair-side').length === 2")
    for answered, key in enumerate(("ArrowLeft", "ArrowRight", "ArrowDown", "1", "2", "0")):
        page.wait(f"document.querySelector('#pairs .hint').innerText.includes('{answered} of 8')")
        page.wait("!document.querySelector('.pair-side').disabled")
        page.key(key)
    page.wait("document.querySelector('#go-on') !== null")
    sent = [body["winner"] for path, body in stub.asked if path.endswith("/round")]
    assert sent == ["left", "right", "none", "left", "right", "none"]
    page.key("Escape")
    page.js("document.querySelector('#go-on').click()")
    until(lambda: (f"/api/jobs/{asking.id}", {"do": "resume"}) in stub.asked)
    assert next(body for path, body in stub.asked if path == "/api/symptom")["options"]["measure"] == ["votes"]
    page.js(f"location.hash = '#/queue/{asking.id}'")
    page.wait("document.querySelector('.job .choices') !== null")  # here as well, after a visit elsewhere


def test_two_stacks_are_flipped_between(page: Page) -> None:
    take_epoch(page)
    page.js("document.querySelectorAll('.slot .button')[0].click()")
    page.drag(fader("IN01"), 0, 40)
    page.js("document.querySelectorAll('.slot .button')[2].click()")
    changed = value(page, "IN01")
    page.js("document.activeElement.blur()")
    page.key("x")
    page.key("x")
    assert value(page, "IN01") == changed
    page.key("x")
    assert value(page, "IN01") == 1


def test_it_comes_back_after_a_lost_connection_with_every_event_once(page: Page, stub: Stub) -> None:
    take_epoch(page)
    stub.tell_job(job(1))
    page.wait("document.querySelector('.badge')?.innerText === '1'")
    stub.hang_up()
    page.wait("document.querySelector('.lost') !== null")
    page.wait("document.querySelector('.lost') === null")
    until(lambda: stub.watches[-1] == 1)
    draws = len(stub.draws)
    stub.tell("job", job(9).model_dump(mode="json"), number=1)  # seen before
    stub.tell_job(job(2))
    page.wait("document.querySelector('.badge')?.innerText === '2'")
    assert draws >= 3  # what was on the screen is asked for again
    assert any(draw["stream"] == 0 for draw in stub.draws[-draws:])


def test_while_the_demo_is_made_its_progress_stands_where_the_epochs_will_be(
    page: Page, stub: Stub, address: str
) -> None:
    stub.empty, stub.jobs = True, [job(1, title="train ink")]
    page.js("localStorage.removeItem('loratools.desk')")
    page.visit(address + "#/queue")
    until(lambda: len(stub.sockets) == 1)
    seen = len(stub.watches)
    page.js("location.hash = '#/'")
    page.reload()
    page.wait("document.querySelector('.making .meter') !== null")
    until(lambda: len(stub.watches) > seen)
    assert "train ink" in text(page, ".making") and page.js("location.hash") == "#/epochs"
    stub.empty = False
    stub.tell("run", {"ids": ["ink"]})
    page.wait("document.querySelector('#use-best') !== null")


def test_a_refused_page_says_where_the_address_is(page: Page, stub: Stub, address: str) -> None:
    stub.failing["/api/state"] = Failure(error="this browser has no key", remedy="open the printed address")
    page.visit(address + "#/blocks")
    page.reload()
    page.wait("document.querySelector('.refused') !== null")
    assert "no key" in text(page, ".refused") and "printed address" in text(page, ".refused")
    page.problems.clear()


def test_a_full_disk_is_one_line_with_its_remedy_and_nothing_is_lost(page: Page, stub: Stub) -> None:
    take_epoch(page)
    page.drag(fader("OUT03"), 0, 40)
    stub.failing["/api/write"] = Failure(error="the disk is full: 1 MB is left", remedy="make room and save again")
    page.click("#save")
    page.wait("document.querySelector('#save-dialog .failure') !== null")
    assert "disk is full" in text(page, "#save-dialog") and "make room" in text(page, "#save-dialog")
    page.key("Escape")
    page.wait("document.querySelector('#save-dialog') === null")
    assert value(page, "OUT03") < 1
    page.problems.clear()


def test_what_was_on_the_desk_is_there_after_a_reload(page: Page, address: str) -> None:
    take_epoch(page)
    page.drag(fader("OUT03"), 0, 40)
    kept = value(page, "OUT03")
    page.visit(address)
    page.wait("document.querySelectorAll('.strip').length === 17")
    assert value(page, "OUT03") == kept and page.js("location.hash") == "#/blocks"


def test_a_thousand_pictures_stand_at_once_and_scroll_without_a_long_task(page: Page) -> None:
    page.wait("document.querySelector('.picks button') !== null")
    shown = "[...document.querySelectorAll('.grid-cell img')].some(image => image.complete && image.naturalWidth)"

    def show() -> None:
        page.js("document.querySelector('.picks button').click()")
        page.wait(shown)

    assert sum(page.tasks(show)) < 1000  # of a processor, so that what else runs on the machine does not count
    assert page.js("document.querySelectorAll('.grid-cell').length") < 120
    assert int(page.js("document.querySelector('.picture-grid').ariaRowCount")) == EPOCHS * 2 * 13 + 1
    scroll = """new Promise(done => { const box = document.querySelector('.picture-grid'); let n = 0;
      const step = () => { box.scrollTop = n * 400; n += 1; n < 60 ? requestAnimationFrame(step) : done(1); };
      step(); })"""
    tasks = page.tasks(lambda: page.js(scroll))
    assert len(tasks) > 60 and max(tasks) < 100, max(tasks)
    page.js("document.querySelector('.picture-grid').scrollTop = 0")
    page.wait("document.querySelector('[data-at=\"0,0\"]') !== null")
    page.js("document.querySelector('[data-at=\"0,0\"]').focus()")
    for _ in range(12):
        page.key("ArrowDown")
        time.sleep(0.05)
    page.wait("document.activeElement.dataset.at === '12,0'")
    page.key("Enter")
    page.wait("document.querySelector('#large') !== null")
    page.key("Escape")
    page.wait("document.querySelector('#large') === null")


def test_a_training_is_started_with_its_command_in_sight(page: Page, stub: Stub) -> None:
    page.wait("document.querySelector('.side .button') !== null")
    page.js("[...document.querySelectorAll('.side .button')].find(one => one.innerText.includes('Train')).click()")
    page.wait("document.querySelector('#train-dialog .command')?.innerText.includes('--name ink_lora')")
    assert "2 of them have no caption" in text(page, "#train-dialog") and "guide 004" in text(page, "#train-dialog")
    page.js("document.querySelector('#train-dialog summary').click()")
    page.wait("document.querySelector('[data-setting=epochs]')?.placeholder === '8'")
    page.js("""(() => { const set = (selector, value, kind) => {
      const field = document.querySelector(selector);
      field.value = value; field.dispatchEvent(new Event(kind)); };
      set('#train-images', 'f2', 'change'); set('[data-setting=epochs]', '4', 'input');
      set('#train-name', 'mine', 'input'); })()""")
    page.wait("document.querySelector('#train-dialog .command')?.innerText.includes('--name mine')")
    page.js("document.querySelector('#train-now').click()")
    page.wait("location.hash.startsWith('#/queue/')")
    sent = next(body for path, body in stub.asked if path == "/api/jobs")
    assert sent["images"] == "f2" and sent["name"] == "mine" and sent["more"] == {"preset": "pocket-style", "epochs": 4}
    stub.failing["/api/jobs/command"] = Failure(
        error="there is a run mine already", remedy="choose another name", key="run.exists", values={"name": "mine"}
    )
    page.js("[...document.querySelectorAll('.button')].find(one => one.innerText.includes('Train')).click()")
    page.wait("document.querySelector('#train-dialog .failure') !== null")
    assert page.js("document.querySelector('#train-now').disabled")
    assert "choose another name" in text(page, "#train-dialog .failure")
    page.problems.clear()  # the browser's own line about the answer
    page.key("Escape")


def test_blind_pairs_are_judged_by_keys(page: Page, stub: Stub) -> None:
    page.wait("document.querySelector('.picks button') !== null")
    page.js("document.querySelector('.picks button').click()")
    page.wait("document.querySelector('#blind') !== null")
    page.js("document.querySelector('#blind').click()")
    page.wait("document.querySelectorAll('.pair-side').length === 2")
    assert "ink" not in text(page, "#pairs")  # nobody may know whose they are
    page.key("ArrowLeft")
    page.wait("document.querySelector('#pairs .figures') !== null")
    assert next(body for path, body in stub.asked if path == "/api/votes")["winner"] == "left"


def test_the_queue_shows_logs_and_stops_a_job(page: Page, stub: Stub) -> None:
    stub.tell_job(job(1))
    page.js("location.hash = '#/queue/job1'")
    page.wait("document.querySelector('.lines')?.innerText.includes('step 59')")
    assert "120 / 800" in text(page, ".job") and "5:41" in text(page, ".job")
    button = "[...document.querySelectorAll('.job .button')].find(one => one.innerText === 'Stop after this epoch')"
    page.js(f"{button}.click()")
    until(lambda: ("/api/jobs/job1", {"do": "stop-after-epoch"}) in stub.asked)
    stub.tell_job(job(1, state="failed", error=plain("the worker died; start it again"), can=["remove"], ended=1.8e9))
    page.wait("document.querySelector('.job .failure')?.innerText.includes('worker died')")


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_hangs_over_the_edge_in_any_language(page: Page, width: int) -> None:
    page.window(width=width)
    take_epoch(page)
    weigh_kinds(page)
    for language in ("zh", "ru", "en"):
        page.js(f"({CHOOSE})('{language}')")
        page.wait(f"document.documentElement.lang === '{language}'")
        for where in ("#/epochs", "#/blocks", "#/queue"):
            page.js(f"location.hash = '{where}'")
            page.wait("document.querySelector('main .panel, main .start') !== null")
            time.sleep(0.1)
            page.wait("document.documentElement.scrollWidth <= innerWidth")  # once all that was loaded stands


def test_a_proxy_may_put_it_at_a_prefix(browser: Page, stub: Stub) -> None:
    browser.problems.clear()
    with serve(stub, "/proxy/8000") as url:
        browser.visit(url)
        browser.js("localStorage.clear()")
        browser.visit(url)
        browser.wait("document.querySelector('#use-best') !== null")
        take_epoch(browser)
        assert len(stub.sockets) == 1
        assert browser.problems == []
        browser.call("Page.navigate", url="about:blank")
        browser.wait("location.href === 'about:blank'")


def test_every_word_can_be_read(page: Page) -> None:
    """WCAG AA: 4.5 to 1 between every text and what is behind it, light and dark."""
    script = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
    take_epoch(page)
    weigh_kinds(page)
    for dark in (False, True):
        page.window(dark=dark)
        for where in ("#/blocks", "#/epochs", "#/queue"):
            page.js(f"location.hash = '{where}'")
            page.wait("document.querySelector('main .panel, main .start') !== null")
            time.sleep(0.2)
            assert page.js(script) == [], (dark, where)
    page.window()


def test_every_control_has_a_name_and_a_size(page: Page) -> None:
    take_epoch(page)
    weigh_kinds(page)
    nameless = page.js("""[...document.querySelectorAll('button, a, input, select, textarea, [role=slider]')]
      .filter(one => one.checkVisibility())
      .filter(one => !(one.ariaLabel || one.innerText?.trim() || one.labels?.length || one.title))
      .map(one => one.outerHTML.slice(0, 120))""")
    assert nameless == []
    small = page.js("""[...document.querySelectorAll('button, a:not(.skip), select, input')]
      .filter(one => one.checkVisibility())
      .map(one => [one.getBoundingClientRect(), one.outerHTML.slice(0, 100)])
      .filter(([box]) => box.width > 1 && (box.height < 24 || box.width < 20)).map(([, text]) => text)""")
    assert small == []


def test_another_lora_shows_its_own_numbers_and_what_is_typed_stays(page: Page, stub: Stub) -> None:
    """One visit for what only a browser can tell: faders of a layer, fields while the page is drawn anew, a dialog."""
    take_epoch(page)
    page.js("document.querySelector('#add-lora').click()")
    page.wait("document.querySelector('#add-dialog .files button') !== null")
    edge = page.js(
        "(({ left, bottom }) => [left + 4, bottom - 4])(document.querySelector('#add-dialog').getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):  # the dialog's own edge is no way out of it
        page.mouse(kind, *edge, button="left", clickCount=1)
    rows = "[...document.querySelectorAll('#add-dialog .files button')]"
    page.js(f"{rows}.find(own => own.innerText.includes('base_style')).click()")
    page.wait("document.querySelectorAll('.layer').length === 2")
    page.js("document.querySelectorAll('.layer-name')[0].click()")
    page.wait("document.querySelector('.layer').classList.contains('current')")
    page.drag(fader("IN01"), 0, 30)
    changed = value(page, "IN01")
    assert changed != 1
    page.js("document.querySelectorAll('.layer-name')[1].click()")
    page.wait(f"document.querySelector(\"{fader('IN01')}\").ariaValueNow === '1'")
    page.drag(".group-head .fader", 300, 0)  # far past its end: the scale does not run away under the hand
    assert float(page.js("document.querySelector('.group-head .fader').ariaValueNow")) <= 1.5
    field = "document.querySelector(\"[data-block='OUT03'] input\")"
    page.js(f"{field}.focus()")
    page.js(f"{field}.value = '0,125'; {field}.dispatchEvent(new Event('input', {{ bubbles: true }}))")
    page.js(f"({CHOOSE})('ru')")  # all that has words is drawn anew
    page.wait("document.documentElement.lang === 'ru'")
    assert page.js(f"{field}.value") == "0,125"
    page.js(f"{field}.blur()")
    page.wait(f"document.querySelector(\"{fader('OUT03')}\").ariaValueNow === '0.125'")
    page.js(f"{field}.focus(); {field}.blur()")  # on the way of the Tab key: nothing is rounded
    assert value(page, "OUT03") == 0.125
    page.js("document.querySelectorAll('.layer-head')[1].querySelectorAll('button')[3].focus()")
    page.key("Enter")  # the layer goes, and the button that had the focus with it
    page.wait("document.querySelectorAll('.layer').length === 1")
    page.wait("document.activeElement.closest('.layer') !== null")
