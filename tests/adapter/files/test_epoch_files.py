from pathlib import Path

import pytest
import torch

from loratools.adapter.algebra.lowrank import LowRank
from loratools.adapter.files.epoch_files import (
    Epoch,
    Reference,
    epochs,
    find_file,
    find_lora,
    is_run,
    parse_reference,
    select,
)
from loratools.adapter.files.file import write
from loratools.adapter.files.metadata import Provenance
from loratools.errors import FileError, LoraNotFoundError, SeveralRunsError
from tests.loras import lora_tensors, save

NAMES = ["unet.mid_block.attentions.0.proj_in"]


def make(folder: Path, *files: str, metadata: dict[str, str] | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        save(folder / f"{name}.safetensors", lora_tensors(names=NAMES, rank=1), metadata)


def numbers(run: list[Epoch]) -> list[int]:
    return [epoch.number for epoch in run]


def test_epochs_come_in_order_and_a_foreign_last_one_counts(tmp_path: Path) -> None:
    make(tmp_path, "ink-000002", "ink-000010", "ink-000001")
    assert numbers(epochs(tmp_path)) == [1, 2, 10] == numbers(epochs(tmp_path / "ink"))
    make(tmp_path, "ink", metadata={"ss_epoch": "12"})
    assert numbers(epochs(tmp_path)) == [1, 2, 10, 12]
    make(tmp_path, "ink", metadata={"ss_epoch": "3"})
    assert numbers(epochs(tmp_path)) == [1, 2, 10, 11] and is_run(tmp_path)


def test_our_own_results_are_no_epochs(tmp_path: Path) -> None:
    make(tmp_path, "ink-000001")
    delta = LowRank(torch.ones(4, 1), torch.ones(1, 4), (4, 4))
    write({NAMES[0]: delta}, tmp_path / "ink.safetensors", family="sd1", provenance=Provenance({}, "me"))
    assert numbers(epochs(tmp_path)) == [1]


def test_folders_that_are_no_run_or_several_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no epoch files"):
        epochs(tmp_path)
    make(tmp_path, "a", "b")
    with pytest.raises(FileError, match="holds no epoch files"):
        epochs(tmp_path)
    make(tmp_path, "a-000001", "b-000001")
    with pytest.raises(FileError, match=r"several runs \(a, b\)"):
        epochs(tmp_path)
    assert numbers(epochs(tmp_path / "b")) == [1, 2] and not is_run(tmp_path / "c")


def test_a_single_unnumbered_file_is_a_run_of_one(tmp_path: Path) -> None:
    make(tmp_path, "ink", metadata={"ss_epoch": "5"})
    assert numbers(epochs(tmp_path)) == [5]


def test_selectors(tmp_path: Path) -> None:
    make(tmp_path, *(f"ink-{n:06d}" for n in (1, 2, 3, 4)))
    run = epochs(tmp_path)
    assert numbers(select(run, None)) == [4] == numbers(select(run, "last"))
    assert numbers(select(run, "2-3")) == [2, 3] and numbers(select(run, "best", best=lambda: 2)) == [2]
    for selector, message in (
        ("9", "no epoch 9; it has 1 to 4"),
        ("3-5", "no epoch 5"),
        ("3-2", "no epoch"),
        ("best", "needs the run's log"),
    ):
        with pytest.raises(FileError, match=message):
            select(run, selector)


@pytest.mark.parametrize(
    ("text", "name", "selector"),
    [
        ("ink@8", "ink", "8"),
        ("ink@6-8", "ink", "6-8"),
        ("ink@best", "ink", "best"),
        ("me@home", "me@home", None),
        ("a@2.safetensors", "a@2.safetensors", None),
        ("a@1@2", "a@1", "2"),
        ("@2", "@2", None),
    ],
)
def test_references(text: str, name: str, selector: str | None) -> None:
    assert parse_reference(text) == Reference(name, selector)


def test_names_are_found_in_folders_and_near_misses_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "loras", "style")
    make(tmp_path / "runs/ink", "ink-000001")
    monkeypatch.chdir(tmp_path)
    assert find_lora("style", ["loras"]) == Path("loras/style.safetensors") == find_lora("loras/style")
    assert find_lora("style.safetensors", ["loras"]).is_file() and find_lora("runs/ink") == Path("runs/ink")
    with pytest.raises(FileError, match=r"no LoRA 'stlye' \(did you mean 'style'\?\)"):
        find_lora("stlye", ["loras"])


def test_a_folder_that_is_none_is_an_error_though_the_name_is_found_without_it(tmp_path: Path) -> None:
    make(tmp_path / "loras", "ink")
    with pytest.raises(FileError, match=r"looked for in .*nowhere, which is no folder"):
        find_lora("ink", [tmp_path / "loras", tmp_path / "nowhere"])


def test_a_folder_that_is_no_run_says_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "o", "ink-000001", "ink-000002", "wash-000001")
    make(tmp_path / "loras", "a", "b")
    make(tmp_path / "runs/ink", "ink-000001")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SeveralRunsError, match=r"o holds several runs \(ink, wash\); give one, such as o") as caught:
        find_lora("o")
    assert caught.value.names == ("ink", "wash")
    with pytest.raises(FileError, match=r"but 2 LoRA files \(a.safetensors, b.safetensors\)"):
        find_lora("loras")
    with pytest.raises(FileError, match=r"its folders do \(runs.ink\)"):
        find_lora("runs")
    with pytest.raises(FileError, match=r"empty holds no epoch files such as NAME-000001.safetensors; give"):
        find_lora("empty")
    with pytest.raises(LoraNotFoundError, match=r"no LoRA 'o/wosh' \(did you mean 'wash'\?\) in o; give its path"):
        find_lora("o/wosh")
    make(tmp_path / "more", "o")
    assert find_lora("o", ["more"]) == Path("more/o.safetensors")  # a folder of several hides no file of its name


def test_the_one_file_that_a_name_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "o", "ink-000001", "ink-000002", "wash-000001")
    make(tmp_path, "style@8")
    monkeypatch.chdir(tmp_path)
    last = Path("o/ink-000002.safetensors")
    assert find_file("o/ink") == last == find_file("o/ink@last") == find_file("ink@2", ["o"]) == find_file(str(last))
    assert find_file("o/ink@best", best=lambda run: 1) == Path("o/ink-000001.safetensors")
    assert find_file("style@8") == Path("style@8.safetensors")
    for name, message in (
        ("o/ink@1-2", r"'o/ink@1-2' is 2 epochs, and one LoRA is needed here; name one, such as o/ink@2"),
        ("o/ink@7", "o/ink has no epoch 7; it has 1 to 2"),
        ("style@8@1", "is no training run, so it has no epochs; drop the @"),
        ("o", r"several runs \(ink, wash\)"),
        ("o@best", r"several runs \(ink, wash\)"),
    ):
        with pytest.raises(FileError, match=message):
            find_file(name)
