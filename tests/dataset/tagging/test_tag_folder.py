"""Tagging a folder: captions, thresholds that cost nothing, edits that outlast it, sentences, and bad input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from loratools.dataset.edits.edit import CaptionEditor
from loratools.dataset.edits.log import Edit
from loratools.dataset.edits.operations import Remove, Trigger
from loratools.dataset.tagging import look
from loratools.dataset.tagging.sentences import SentenceRequest
from loratools.dataset.tagging.tag_folder import TagReport, TagRequest, tag_folder
from loratools.dataset.tags.store import DatasetFolder
from loratools.dataset.tags.tag import Tag
from loratools.errors import DatasetError, FileError, OptionError
from tests.dataset.tagging.graphs import wd_tagger

COLOURS = {"1_face/blue": (0, 0, 255), "1_main/red": (255, 0, 0), "1_main/green": (0, 255, 0)}


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(wd_tagger(tmp_path_factory.mktemp("models") / "wd-swinv2-tagger-v3"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, colour in COLOURS.items():
        draw(tmp_path, name, colour)
    return tmp_path


def draw(root: Path, name: str, colour: tuple[int, int, int], caption: str | None = None) -> None:
    path = root / f"{name}.png"
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", (12, 12), colour).save(path)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption, encoding="utf-8")


def tag(root: Path, tagger: str | None = None, *, dry_run: bool = False, **more: object) -> TagReport:
    return tag_folder(DatasetFolder.open(root), TagRequest(tagger=tagger, **more), dry_run=dry_run)  # type: ignore[arg-type]


def captions(root: Path) -> list[str]:
    return [path.read_text(encoding="utf-8").strip() for path in sorted(root.glob("*/*.txt"))]


def edit(root: Path, *edits: Edit) -> None:
    editor = CaptionEditor(DatasetFolder.open(root))
    for each in edits:
        editor.apply(each, editor.plan(each))


def test_captions_with_what_is_known_of_each_tag(folder: Path, tagger: str) -> None:
    report = tag(folder, tagger)
    assert captions(folder) == [
        "1girl, blue hair, long hair",
        "1girl, >_<, long hair",
        "hatsune miku, 1girl, long hair",
    ]
    (first, *_) = DatasetFolder.open(folder).pictures()
    assert first.tags[1] == Tag("blue hair", "general", 0.7, "wd-swinv2-tagger-v3")
    assert [each.name for each in first.set_aside] == ["rating:general"]
    assert (report.pictures, report.looked_at, report.captions, report.threshold) == (3, 3, 3, "0.2653")
    assert report.levels["precise"] == (pytest.approx(0.495, abs=1e-3), pytest.approx(5 / 3 + 1 / 3))
    assert "1girl (3)" in report.text() and "precise   0.495" in report.text()


def test_another_threshold_loads_no_model(folder: Path, tagger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tag(folder, tagger)

    def refuse(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(look, "Tagger", refuse)
    (folder / "1_main").rename(folder / "20_main")  # as a balance does
    report = tag(folder, threshold="precise")
    assert captions(folder) == ["1girl, blue hair", "1girl, >_<", "hatsune miku, 1girl"] and report.looked_at == 0
    tag(folder, tagger, threshold="0.25", character_threshold="0.95")
    assert captions(folder)[2] == "1girl, long hair"
    draw(folder, "1_face/new", (9, 9, 9))
    assert "1 picture is new to wd-swinv2-tagger-v3" in tag(folder, threshold="0.5").notes[0]


def test_captions_of_others_stay_or_are_added_to_or_replaced_as_asked(folder: Path, tagger: str) -> None:
    (folder / "1_face/blue.txt").write_text("mine, 1girl", encoding="utf-8")
    assert tag(folder, tagger).kept == 1 and captions(folder)[0] == "mine, 1girl"
    assert tag(folder, tagger, existing="append").kept == 0
    assert captions(folder)[0] == "mine, 1girl, blue hair, long hair"
    tag(folder, threshold="0.5")  # the tagger's part of it follows the threshold, the person's stays
    assert captions(folder)[0] == "mine, 1girl, blue hair"
    tag(folder, existing="replace")
    assert captions(folder)[0] == "1girl, blue hair, long hair"
    editor = CaptionEditor(DatasetFolder.open(folder))
    for _ in range(4):
        editor.undo()
    assert captions(folder) == ["mine, 1girl"]  # nothing is lost
    with pytest.raises(OptionError, match="write keep, append or replace"):
        tag(folder, tagger, existing="drop")


def test_what_a_person_kept_of_a_taggers_tags_is_the_persons(folder: Path, tagger: str) -> None:
    tag(folder, tagger)
    (folder / "1_face/blue.txt").write_text("long hair, mine")  # of three tags one was kept, and one added
    tag(folder, threshold="0.9", existing="append")
    assert captions(folder)[0] == "long hair, mine, 1girl"


def test_edits_outlast_another_threshold(folder: Path, tagger: str) -> None:
    tag(folder, tagger)
    edit(folder, Edit(Remove(("long hair",)), "blue hair"), Edit(Trigger("ink")))
    assert captions(folder)[0] == "ink, 1girl, blue hair"
    report = tag(folder, threshold="many")
    assert captions(folder)[0] == "ink, 1girl, blue hair" and captions(folder)[1] == "ink, 1girl, >_<, long hair"
    assert len(report.redone) == 2
    (folder / "1_main/red.txt").write_text("by hand")
    assert tag(folder, threshold="0.96").kept == 1
    assert captions(folder) == ["ink", "ink", "by hand"]


def test_new_pictures_alone_are_looked_at(folder: Path, tagger: str) -> None:
    tag(folder, tagger)
    edit(folder, Edit(Trigger("ink")))
    draw(folder, "1_main/new", (0, 0, 250))
    report = tag(folder, tagger)
    assert (report.looked_at, report.captions) == (1, 1)
    assert captions(folder)[2] == "1girl, blue hair, long hair"  # a replay does the edits on it
    editor = CaptionEditor(DatasetFolder.open(folder))
    editor.replay(*editor.plan_replay())
    assert captions(folder)[2] == "ink, 1girl, blue hair, long hair"


def test_a_dry_run_writes_no_caption(folder: Path, tagger: str) -> None:
    report = tag(folder, tagger, dry_run=True)
    assert report.captions == 3 and captions(folder) == []


def test_pictures_that_cannot_be_read_are_told_and_the_rest_goes_on(folder: Path, tagger: str) -> None:
    (folder / "1_main/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    Image.new("CMYK", (9, 5)).save(folder / "1_main/cmyk.jpg")
    (folder / "1_main/green.txt").write_bytes("été".encode("latin-1"))
    report = tag(folder, tagger, existing="replace")
    assert len(report.notes) == 2 and "green.txt is not UTF-8" in report.notes[0] and "broken.png" in report.notes[1]
    assert (folder / "1_main/green.txt").read_bytes() == "été".encode("latin-1")
    assert (folder / "1_main/cmyk.txt").is_file() and not (folder / "1_main/broken.txt").exists()


def test_interrupted_work_goes_on_where_it_was(folder: Path, tagger: str) -> None:
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    request = TagRequest(tagger=tagger, batch_size=1)
    with pytest.raises(KeyboardInterrupt):
        tag_folder(DatasetFolder.open(folder), request, on_progress=stop)
    (kept,) = (folder / ".dataset/probabilities").glob("*.jsonl")
    kept.write_text(kept.read_text()[:-20])  # a line that was cut short
    report = tag(folder, tagger)
    assert report.looked_at == 2 and len(captions(folder)) == 3
    assert len(kept.read_text().splitlines()) == 4


def test_a_full_disk_says_so(folder: Path, tagger: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratools.dataset.tagging import probabilities

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(probabilities, "write_text", full)
    with pytest.raises(FileError, match=r"No space left on device.*goes on from it once there is room"):
        tag(folder, tagger)
    assert captions(folder) == []


def test_without_a_tagger_and_without_kept_probabilities(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"no tagger has looked at .* yet"):
        tag(folder)


SAY = """
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    if "green" in asked["file"]:
        print(json.dumps({"error": "too green"}), flush=True)
    else:
        print(json.dumps({"caption": f"A girl\\nwith {len(asked['tags'])} tags."}), flush=True)
"""


def captioner(tmp_path: Path, text: str = SAY) -> str:
    script = tmp_path / "say.py"
    script.write_text(text)
    return f'"{sys.executable}" "{script}"'


def test_sentences_after_tags_and_in_their_place(
    folder: Path, tagger: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    command = captioner(tmp_path_factory.mktemp("program"))
    report = tag(folder, tagger, sentences=SentenceRequest(command))
    assert captions(folder)[0] == "1girl, blue hair, long hair, A girl with 3 tags."
    assert report.sentences == 2 and report.notes == ("no sentence for 1_main/green.png: too green",)
    tag(folder, threshold="0.5")  # the sentence stays
    assert captions(folder)[0] == "1girl, blue hair, A girl with 3 tags."
    edit(folder, Edit(Trigger("ink")))
    assert captions(folder)[0] == "ink, 1girl, blue hair, A girl with 3 tags."
    CaptionEditor(DatasetFolder.open(folder)).undo()
    tag(folder, existing="replace", sentences=SentenceRequest(command, "instead"))
    assert captions(folder)[0] == "A girl with 3 tags."  # of the same bytes it is not asked again
    script = Path(command.split('"')[3])
    script.write_text(script.read_text(encoding="utf-8").replace("A girl", "A person"), encoding="utf-8")
    tag(folder, existing="replace", sentences=SentenceRequest(command, "instead"))
    assert captions(folder)[0].startswith("A person with")  # an edited program is another one


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("print('hello', flush=True)", "is no JSON"),
        ("print('{\"value\": 3}', flush=True)", "it should write"),
        ("", "ended by itself before it had answered"),
    ],
)
def test_captioners_that_answer_otherwise(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, text: str, message: str
) -> None:
    command = captioner(tmp_path_factory.mktemp("program"), text)
    with pytest.raises(DatasetError, match=message):
        tag(folder, sentences=SentenceRequest(command))
    with pytest.raises(DatasetError, match="cannot be started"):
        tag(folder, sentences=SentenceRequest("no-such-program-here"))


def test_probabilities_are_strict_json_of_what_matters(folder: Path, tagger: str) -> None:
    tag(folder, tagger)
    (kept,) = (folder / ".dataset/probabilities").glob("wd-swinv2-tagger-v3-*.jsonl")
    first, *lines = map(json.loads, kept.read_text().splitlines())
    assert first["family"] == "wd" and len(lines) == 3
    assert lines[0]["tags"]["character"] == {"miku (vocaloid)": 0.06} and "1girl" in lines[0]["tags"]["general"]


def test_another_list_of_tags_is_another_tagger(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = wd_tagger(tmp_path_factory.mktemp("own") / "wd-swinv2-tagger-v3")
    labels = model.with_name("selected_tags.csv")
    tag(folder, str(model))
    assert captions(folder)[0] == "1girl, blue hair, long hair"
    labels.write_text(labels.read_text().replace("blue_hair", "green_hair"))  # the wrong list lay there
    assert tag(folder, str(model)).looked_at == 3 and captions(folder)[0] == "1girl, green hair, long hair"
    assert tag(folder, str(model)).looked_at == 0 and tag(folder, threshold="0.5").looked_at == 0
    assert "blue hair" not in captions(folder)[0]
