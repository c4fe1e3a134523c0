"""The steps of the data room: tag, edit and balance; five more pictures cost their own work alone and lose no edit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Add, Remove
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import DatasetError, FileError, RecipeError
from loratools.recipe.plan.context import RunContext
from loratools.recipe.run.runner import make_planner, run_steps
from tests.dataset.tagging.graphs import wd_tagger

RECIPE = """\
version: 1
base: pocket
steps:
  tagged:
    tag:
      {images: raw, tagger: wd-swinv2-tagger-v3/model.onnx, threshold: 0.25, character_threshold: 0.6, existing: append}
  edited:
    edit_tags:
      images: tagged
      edits:
        - {remove: "signature, long hair", where: "blue hair or 1girl"}
        - {prune: [junk, overlaps]}
        - {trigger: ink}
  set: {balance: {images: edited}}
"""


def draw(name: str, colour: tuple[int, int, int], caption: str | None = None) -> None:
    path = Path("raw") / f"{name}.png"
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (12, 12), colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


@pytest.fixture
def folder(here: Path) -> Path:
    wd_tagger(here / "wd-swinv2-tagger-v3")
    for number in range(8):
        draw(f"1_main/{number}", (200 + number, 0, 0))
    for number in range(4):
        draw(f"1_face/{number}", (0, 0, 200 + number), "highres, mine")
    return here


def run(text: str = RECIPE, **context: bool) -> dict[str, tuple[bool, dict[str, object]]]:
    """step -> (whether it was cached, its facts)."""
    Path("r.yaml").write_text(text, encoding="utf-8")
    planner = make_planner("r.yaml", Path("out"))
    results = run_steps(planner.plan(), Path("out"), RunContext(device="cpu", **context))  # type: ignore[arg-type]
    return {each.planned.name: (each.cached, dict(each.record.facts)) for each in results}


def captions(step: str = "edited") -> dict[str, str]:
    root = Path("out") / step
    return {
        path.relative_to(root).with_suffix("").as_posix(): path.read_text("utf-8").strip()
        for path in sorted(root.glob("*/*.txt"))
    }


def hats(step: str) -> int:
    return sum(caption.endswith(", hat") for caption in captions(step).values())


def edit(folder: str, what: Edit) -> None:
    editor = CaptionEditor(DatasetFolder.open(folder))
    editor.apply(what, editor.plan(what))


def test_from_raw_pictures_to_a_balanced_set(folder: Path) -> None:
    facts = run()
    assert (
        facts["tagged"][1]["looked_at"] == 12
        and captions("tagged")["1_face/0"] == "highres, mine, 1girl, blue hair, long hair"
    )
    assert (
        captions()["1_face/0"] == "ink, mine, 1girl, blue hair" and captions()["1_main/0"] == "ink, hatsune miku, 1girl"
    )
    folders = {path.name: len(list(path.glob("*.png"))) for path in Path("out/set").iterdir() if path.name[0] != "."}
    assert folders == {"25_main": 8, "13_face": 4}
    assert captions("set")["13_face/0"] == captions()["1_face/0"]
    assert all(cached for cached, _ in run().values())


def test_five_more_pictures_cost_their_own_work_and_every_edit_stays(folder: Path) -> None:
    run()
    edit("out/edited", Edit(Add(("hat",)), "hatsune miku"))
    edit("out/edited", Edit(Remove(("mine",)), "file:1_face/*"))
    Path("out/edited/1_main/3.txt").write_text("by hand\n")
    kept = {path: path.stat().st_mtime_ns for path in Path("out/tagged").glob("*/*.png")}
    for number in range(5):
        draw(f"1_main/new{number}", (255, number, 0))
    facts = run()
    assert facts["tagged"][1]["looked_at"] == 5 and facts["tagged"][1]["copied"] == 5
    assert facts["edited"][1]["copied"] == 5 and facts["edited"][1]["by_hand"] == 1
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    after = captions()
    assert after["1_main/0"] == "ink, hatsune miku, 1girl, hat" == after["1_main/new0"]
    assert after["1_main/3"] == "by hand" and after["1_face/0"] == "ink, 1girl, blue hair"
    assert all(cached for cached, _ in run().values())
    CaptionEditor(DatasetFolder.open("out/edited")).undo()  # the last edit, in the step's own folder
    assert run()["edited"][0] is False
    assert captions()["1_face/0"] == "ink, mine, 1girl, blue hair" and captions()["1_main/3"] == "by hand"


def test_another_recipe_edit_keeps_what_was_done_by_hand(folder: Path) -> None:
    run()
    Path("out/edited/1_main/3.txt").write_text("by hand")
    edit("out/edited", Edit(Add(("hat",)), "file:0.png"))
    run(RECIPE.replace("trigger: ink", "trigger: oil"))
    assert captions()["1_main/3"] == "by hand" and captions()["1_main/0"] == "oil, hatsune miku, 1girl, hat"
    Path("out/edited/1_main/3.txt").unlink()  # and is the step's again
    run(RECIPE.replace("trigger: ink", "trigger: oil"))
    assert captions()["1_main/3"] == "oil, hatsune miku, 1girl"


def test_what_a_person_changes_in_the_taggers_folder_stays_and_what_follows_sees_it(folder: Path) -> None:
    run()
    Path("out/tagged/1_main/3.txt").write_text("by hand")
    edit("out/tagged", Edit(Add(("hat",)), "file:0.png"))
    for _ in range(2):
        run()
        assert captions("tagged")["1_main/3"] == "by hand" and captions()["1_main/3"] == "ink, by hand"
        assert captions("tagged")["1_main/0"].endswith(", hat") and hats("set") == hats("tagged")
        draw("1_main/8", (255, 255, 0))


def test_what_a_person_changed_in_the_balanced_folder_is_not_written_over(folder: Path) -> None:
    run()
    Path("out/set/25_main/0.txt").write_text("by hand")
    draw("1_main/8", (255, 255, 0))
    with pytest.raises(FileError, match=r"0\.txt changed since .*force=True"):
        run()
    assert captions("set")["25_main/0"] == "by hand"
    run(force=True)


def test_a_step_that_is_killed_while_it_writes_makes_no_persons_captions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    with monkeypatch.context() as patched:
        patched.setattr("loratools.dataset.tags.store.DatasetFolder._write_record", _killed)
        with pytest.raises(KeyboardInterrupt):
            run(RECIPE.replace("trigger: ink", "trigger: oil"))
    assert captions()["1_main/0"].startswith("oil, ")
    assert run(RECIPE.replace("trigger: ink", "trigger: tea"))["edited"][1]["by_hand"] == 0
    assert captions()["1_main/0"].startswith("tea, ")


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


def test_pictures_that_are_gone_go(folder: Path) -> None:
    run()
    Path("raw/1_face/3.png").unlink()
    Path("raw/1_face/3.txt").unlink()
    run()
    assert "1_face/3" not in captions() and not Path("out/tagged/1_face/3.png").exists()
    assert "1_face/3.png" not in DatasetFolder.open("out/edited").recorded()


def test_another_threshold_looks_at_nothing_again(folder: Path) -> None:
    run()
    facts = run(RECIPE.replace("threshold: 0.25", "threshold: precise"))
    assert facts["tagged"][1]["looked_at"] == 0 and captions("tagged")["1_main/0"] == "hatsune miku, 1girl"


def test_a_log_and_a_table_are_inputs(folder: Path) -> None:
    edit("raw", Edit(Remove(("mine",))))
    CaptionEditor(DatasetFolder.open("raw")).undo()
    edit("raw", Edit(Add(("bow",))))
    Path("table.csv").write_text("bow,ribbon\n")
    text = """\
version: 1
base: pocket
steps:
  edited:
    edit_tags:
      images: raw
      edits:
        - {add: ribbon}
        - {prune: junk, implications: table.csv}
        - {prune: core, core: 60%, core_all: true, keep: mine}
      log: raw/.dataset/operations.jsonl
"""
    run(text)
    assert captions()["1_main/0"] == "bow"  # of the log; ribbon is in all of them, so that it is core
    assert captions()["1_face/0"] == "mine, bow"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("images: raw", "images: none", "'none' is no step"),
        ("images: raw", "images: r.yaml", "is a file"),
        ("threshold: 0.25", "threshold: strict", "write precise"),
        ("/model.onnx", "/other.onnx", "there is no tagger"),
        ("trigger: ink", "triger: ink", "did you mean 'trigger'"),
        ("blue hair or 1girl", "(blue hair", "a closing bracket is missing"),
        ("[junk, overlaps]", "[junk, nonsense]", "junk, overlaps, contradictions and core"),
        ("{images: edited}", "{images: edited, rule: guide-005}", "guide-004"),
        ("{images: edited}", "{images: nothing}", "no step"),
    ],
)
def test_mistakes_have_their_place(folder: Path, before: str, after: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        run(RECIPE.replace(before, after))
    assert "r.yaml, line " in str(caught.value)


def test_what_cannot_be_read_stops_the_step(folder: Path) -> None:
    Path("raw/1_face/0.txt").write_bytes("été".encode("latin-1"))
    with pytest.raises(DatasetError, match=r"0\.txt is not UTF-8"):
        run()
    Path("raw/1_face/0.txt").write_text("mine")
    Path("raw/1_face/0.png").write_bytes(b"broken")
    with pytest.raises(DatasetError, match=r"0\.png cannot be read"):
        run()


def test_a_folder_of_another_is_not_overwritten(folder: Path) -> None:
    Path("out/edited").mkdir(parents=True)
    Path("out/edited/mine.txt").touch()
    with pytest.raises(FileError, match="was not written by this step"):
        run()
    assert Path("out/edited/mine.txt").exists()


def test_an_edited_captioner_makes_the_step_anew(folder: Path) -> None:
    script = Path("says.py")
    text = RECIPE.replace("existing: append", f"existing: append, captioner: '{sys.executable} says.py'")
    for word in ("calm", "loud"):
        script.write_text(f"import sys\nfor line in sys.stdin:\n    print('\"A {word} one.\"', flush=True)\n")
        facts = run(text)
        assert not facts["tagged"][0] and captions("tagged")["1_main/0"].endswith(f"A {word} one.")


def test_what_a_person_changed_of_drawings_is_not_drawn_over(here: Path) -> None:
    text = "version: 1\nbase: pocket\nsteps:\n  pics: {draw: {style: ink, count: 2, size: 32}}\n"
    run(text)
    caption = Path("out/pics/0001.txt")
    caption.write_text("by hand")
    for _ in range(2):
        with pytest.raises(FileError, match=r"0001\.txt was changed since it was drawn.*force=True"):
            run(text)
    assert caption.read_text() == "by hand"
    run(text, force=True)
    assert caption.read_text() != "by hand"
    caption.unlink()  # what is gone is drawn again
    assert not run(text)["pics"][0] and caption.exists()
