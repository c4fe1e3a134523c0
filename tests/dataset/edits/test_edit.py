"""Edits of a folder: shown, done, undone letter for letter, and done again on pictures that came later."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit, edit_from_json, edits_in
from loratools.dataset.edits.operations import Add, Prune, Remove, Trigger
from loratools.dataset.edits.prune import PruneRules, core_tags
from loratools.dataset.prepare.run import prepare
from loratools.dataset.sidecars.import_folder import import_folder
from loratools.dataset.tags.names import stable_name
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.tags.tag import Tag
from loratools.errors import DatasetError, FileError, HeldError, OptionError

CAPTIONS = {
    "1_face/a.png": "1girl, blue hair, portrait, signature\n",
    "1_main/b.png": "1girl,blue_hair,\nsmile\n",
    "1_main/c.png": "1girl, red hair",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, caption in CAPTIONS.items():
        add(tmp_path, name, caption)
    return tmp_path


def add(root: Path, name: str, caption: str | None) -> None:
    path = root / name
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 12)).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8", newline="")


def captions(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).with_suffix("").as_posix(): path.read_bytes().decode() for path in root.glob("*/*.txt")
    }


def do(root: Path, edit: Edit) -> int:
    editor = CaptionEditor(DatasetFolder.open(root))
    plan = editor.plan(edit)
    before = captions(root)
    assert captions(root) == before  # planning writes nothing
    editor.apply(edit, plan)
    return len(plan.changes)


def undo(root: Path) -> int:
    return CaptionEditor(DatasetFolder.open(root)).undo().restored


def replay(root: Path) -> int:
    editor = CaptionEditor(DatasetFolder.open(root))
    plan, ids = editor.plan_replay()
    editor.replay(plan, ids)
    return len(plan.changes)


def test_edits_and_their_undo_letter_for_letter(folder: Path) -> None:
    before = captions(folder)
    assert do(folder, Edit(Remove(("signature",)))) == 1
    assert do(folder, Edit(Trigger("ink"))) == 3
    assert do(folder, Edit(Add(("hat",)), "1girl and not (smile or portrait)")) == 1
    assert captions(folder) == {
        "1_face/a": "ink, 1girl, blue hair, portrait\n",
        "1_main/b": "ink, 1girl, blue_hair, smile\n",
        "1_main/c": "ink, 1girl, red hair, hat\n",
    }
    assert do(folder, Edit(Remove(("nothing",)))) == 0  # and is not logged
    assert [undo(folder) for _ in range(3)] == [1, 3, 1]
    assert captions(folder) == before
    with pytest.raises(OptionError, match="nothing to undo"):
        undo(folder)


def test_undo_leaves_what_was_edited_by_hand_since(folder: Path) -> None:
    do(folder, Edit(Trigger("ink")))
    (folder / "1_main/b.txt").write_text("ink, mine\n")
    done = CaptionEditor(DatasetFolder.open(folder)).undo()
    assert (done.restored, done.kept) == (2, ("1_main/b.png",))
    assert captions(folder)["1_main/b"] == "ink, mine\n"


def test_undo_gives_back_scores_and_takes_away_a_file_that_was_not_there(folder: Path) -> None:
    store = DatasetFolder.open(folder)
    store.write(picture.with_tags([Tag("hat", "general", 0.7, "wd")]) for picture in store.pictures())
    add(folder, "1_main/d.png", None)
    do(folder, Edit(Remove(("hat",)), "score<0.8"))
    do(folder, Edit(Trigger("ink")))
    undo(folder), undo(folder)
    assert not (folder / "1_main/d.txt").exists()
    assert {picture.tags for picture in store.pictures()} == {(Tag("hat", "general", 0.7, "wd"),), ()}


def test_a_replay_is_for_pictures_that_came_later(folder: Path) -> None:
    do(folder, Edit(Remove(("*hair",)), "share>50%"))  # blue hair is in 2 of 3
    do(folder, Edit(Trigger("ink")))
    do(folder, Edit(Trigger("gone")))
    undo(folder)
    (folder / "1_main/c.txt").write_text("by hand")
    for name in "xyz":
        add(folder, f"1_main/{name}.png", f"blue hair, red hair, {name}")
    (folder / "1_main").rename(folder / "20_main")  # as a balance does
    assert replay(folder) == 3
    after = captions(folder)
    assert after["20_main/x"] == "ink, red hair, x\n"  # the share is that of the time, though red hair is common now
    assert after["20_main/c"] == "by hand" and after["1_face/a"] == "ink, 1girl, portrait, signature\n"
    assert replay(folder) == 0
    assert undo(folder) == 3 and captions(folder)["20_main/x"] == "blue hair, red hair, x"
    assert replay(folder) == 3
    assert [entry.text() for entry in CaptionEditor(DatasetFolder.open(folder)).log.entries()][-3:] == [
        "replay of 1, 2",
        "undo of 5",
        "replay of 1, 2",
    ]


def test_a_filter_must_fit_its_operation(folder: Path) -> None:
    with pytest.raises(OptionError, match="asks for a tag's share"):
        do(folder, Edit(Trigger("ink"), "share>40%"))
    assert do(folder, Edit(Add(("small",)), "height<20 and file:1_main/*")) == 2


def test_core_tags_are_pruned_by_their_list(folder: Path) -> None:
    editor = CaptionEditor(DatasetFolder.open(folder))
    core = core_tags(editor.folder.pictures(), 0.5)
    assert list(core) == ["blue hair"]
    edit = Edit(Prune(PruneRules(core=tuple(core))))
    assert do(folder, edit) == 2 and edit_from_json(edit.json()) == edit
    assert edits_in(folder / ".dataset/operations.jsonl") == [edit]


def test_captions_of_another_encoding_are_read_told_and_given_back(folder: Path) -> None:
    (folder / "1_main/b.txt").write_bytes(russian := "девушка, улыбка".encode("cp1251"))
    editor = CaptionEditor(DatasetFolder.open(folder))
    plan = editor.plan(edit := Edit(Trigger("ink")))
    editor.apply(edit, plan)
    assert captions(folder)["1_main/b"] == "ink, девушка, улыбка\n"
    assert "read as cp1251 (b.txt: девушка, улыбка)" in plan.notes[0]
    assert undo(folder) == 3 and (folder / "1_main/b.txt").read_bytes() == russian


def test_a_caption_that_changes_between_the_plan_and_its_doing_stays(folder: Path) -> None:
    editor = CaptionEditor(DatasetFolder.open(folder))
    plan = editor.plan(edit := Edit(Trigger("ink")))
    (folder / "1_main/b.txt").write_text("by hand")
    editor.apply(edit, plan)
    assert captions(folder)["1_main/b"] == "by hand" and "1_main/b.png was changed in the meantime" in editor.notes[0]
    assert CaptionEditor(DatasetFolder.open(folder)).plan_replay()[0].changes[0].before.file == "1_main/b.png"


def test_captions_of_no_known_encoding_stay_and_the_rest_goes_on(folder: Path) -> None:
    mixed = "café".encode("latin-1")
    (folder / "1_main/b.txt").write_bytes(mixed)
    editor = CaptionEditor(DatasetFolder.open(folder))
    plan = editor.plan(edit := Edit(Trigger("ink")))
    editor.apply(edit, plan)
    assert len(plan.changes) == 2 and "b.txt is not UTF-8" in plan.notes[0]
    assert (folder / "1_main/b.txt").read_bytes() == mixed


def test_a_full_disk_loses_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.dataset.tags import store

    before = captions(folder)
    write = store.write_texts

    def full(files: Sequence[tuple[Path, str]]) -> None:
        write(files[:2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write_texts", full)
    with pytest.raises(FileError, match=r"No space left on device.*undo` takes them back"):
        do(folder, Edit(Trigger("ink")))
    monkeypatch.undo()
    assert undo(folder) == 2 and captions(folder) == before


def test_two_pictures_of_one_caption_are_told(folder: Path) -> None:
    Image.new("RGB", (8, 12)).save(folder / "1_main/c.jpg")
    editor = CaptionEditor(DatasetFolder.open(folder))
    edit = Edit(Add(("jpeg",)), "file:*.jpg")
    editor.apply(edit, editor.plan(edit))
    assert captions(folder)["1_main/c"] == "1girl, red hair, jpeg\n"
    assert len(editor.notes) == 1 and "c.png got the same caption" in editor.notes[0]
    again = CaptionEditor(DatasetFolder.open(folder))
    both = Edit(Add(("more",)), "file:*.jpg or smile")
    again.apply(both, again.plan(both))
    assert len(again.notes) == 1


def test_the_undo_of_a_caption_that_two_pictures_share(folder: Path) -> None:
    """A GIF and a PNG of one name get one caption file, which was not there."""
    for name in ("d.gif", "d.png"):
        Image.new("RGB", (8, 12)).save(folder / f"1_main/{name}")
    before = captions(folder)
    assert do(folder, Edit(Trigger("ink"))) == 5 and (folder / "1_main/d.txt").is_file()
    assert undo(folder) == 5 and captions(folder) == before and not (folder / "1_main/d.txt").exists()
    assert do(folder, Edit(Trigger("ink"))) == 5


def test_an_interrupted_undo_ends_letter_for_letter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "1_main/b.txt").write_bytes(b"1girl,  red_hair\r\n")
    before = captions(folder)
    do(folder, Edit(Trigger("ink")))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CaptionEditor, "_write_raw", killed)
    with pytest.raises(KeyboardInterrupt):
        undo(folder)
    monkeypatch.undo()
    undo(folder)
    assert captions(folder) == before and (folder / "1_main/b.txt").read_bytes() == b"1girl,  red_hair\r\n"


def test_a_broken_log_names_its_line(folder: Path) -> None:
    do(folder, Edit(Trigger("ink")))
    log = folder / ".dataset/operations.jsonl"
    log.write_text(log.read_text() + '{"id": 2, "at": "", "changed": 1, "edit": {"kind": "shrink"}}\n')
    with pytest.raises(DatasetError, match="line 2 is no edit"):
        undo(folder)


def test_names_without_the_numbers_that_a_balance_changes() -> None:
    assert stable_name("20_main/3_a.png") == "main/3_a.png"
    assert stable_name("x/1_face_variants/2_y/a.png") == "x/face_variants/y/a.png"


@pytest.mark.slow
def test_five_thousand_captions_in_two_seconds(tmp_path: Path) -> None:
    tags = ", ".join(f"tag {number}" for number in range(30))
    picture = tmp_path / "0.png"
    Image.new("RGB", (8, 8)).save(picture)
    data = picture.read_bytes()
    for number in range(5000):
        (tmp_path / f"{number}.png").write_bytes(data)
        (tmp_path / f"{number}.txt").write_text(f"{tags}, own {number}\n")
    begun = time.process_time()
    assert do(tmp_path, Edit(Remove(("tag 3", "own *")), "tag 7 and not smile")) == 5000
    assert time.process_time() - begun < 2 * 2  # of a busy machine; the figure is in benchmarks


def test_pictures_whose_folders_differ_in_their_numbers_alone_are_two(tmp_path: Path) -> None:
    add(tmp_path, "5_ink/001.png", "cat, signature")
    add(tmp_path, "10_ink/001.png", "dog, signature")
    before = captions(tmp_path)
    do(tmp_path, Edit(Remove(("signature",))))
    assert undo(tmp_path) == 2 and captions(tmp_path) == before
    do(tmp_path, Edit(Remove(("signature",)), "file:5_ink/*"))
    (tmp_path / "5_ink").rename(tmp_path / "3_ink")  # as a balance does
    assert undo(tmp_path) == 1 and captions(tmp_path)["3_ink/001"] == before["5_ink/001"]


def test_a_picture_that_came_into_a_folder_of_another_number_is_new_to_the_log(tmp_path: Path) -> None:
    add(tmp_path, "5_ink/001.png", "cat")
    do(tmp_path, Edit(Add(("ink",))))
    add(tmp_path, "10_ink/001.png", "dog")
    assert replay(tmp_path) == 1 and captions(tmp_path)["10_ink/001"] == "dog, ink\n"
    assert replay(tmp_path) == 0


def test_an_undo_in_a_folder_of_the_set_takes_back_all_of_an_edit(folder: Path) -> None:
    before = captions(folder)
    assert do(folder, Edit(Add(("hat",)))) == 3
    assert undo(folder / "1_main") == 3 and captions(folder) == before


def test_letters_that_end_lines_elsewhere_do_not_end_those_of_record_and_log(tmp_path: Path) -> None:
    root = tmp_path / "set"
    root.mkdir()
    add(root, "1_main/a\u2028b.png", "1girl, signature")
    do(root, Edit(Remove(("signature",)), 'file:"*\u2028b.png"'))
    assert DatasetFolder.open(root).recorded().keys() == {"1_main/a\u2028b.png"} and undo(root) == 1


def test_whoever_writes_captions_and_record_keeps_others_out(
    tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> None:
    """Of an import and an edit at once, one wrote the record that it had read before the other's."""
    assert do(folder, Edit(Add(("ink",)))) == 3
    add(folder, "1_main/new.png", None)
    (folder / "1_main/new.json").write_text('{"tags": ["1girl"]}')
    before, editor, more = captions(folder), CaptionEditor(DatasetFolder.open(folder)), Edit(Add(("paper",)))
    plan = editor.plan(more)
    originals = tmp_path_factory.mktemp("originals")
    calls: tuple[Callable[[], object], ...] = (
        lambda: import_folder(folder),
        lambda: editor.apply(more, plan),
        lambda: undo(folder),
        lambda: prepare(originals, folder, force=True),
    )
    with DatasetFolder.open(folder).writing():
        for call in calls:
            with pytest.raises(HeldError, match="another loratools process is writing there"):
                call()
        assert import_folder(folder, dry_run=True).pictures == 4
        assert captions(folder) == before
    import_folder(folder)
    assert captions(folder)["1_main/new"] == "1girl\n"
    assert undo(folder) == 3 and captions(folder)["1_main/new"] == "1girl\n"  # which is no edit's


def test_an_import_holds_its_folder_while_it_reads(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(dataset: DatasetFolder, *_: object, **__: object) -> None:
        do(dataset.root, Edit(Add(("ink",))))

    monkeypatch.setattr("loratools.dataset.sidecars.import_folder.read_folder", reading)
    with pytest.raises(HeldError):
        import_folder(folder)
