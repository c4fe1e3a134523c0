from pathlib import Path

import pytest

from loratools.blocks.presets import load_presets
from loratools.errors import BlockError, FileError, FormatError
from loratools.ops.merging.merge_string import parse_merge_string
from loratools.ops.merging.terms import resolve_terms, warnings_of_terms
from tests.loras import TINY_XL, lora_tensors, save

PRESETS = load_presets()
NAMES = ["unet.mid_block.attentions.0.proj_in"]


def test_terms_are_resolved_with_their_strengths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "style.safetensors", lora_tensors(rank=1))
    monkeypatch.chdir(tmp_path)
    (term,) = resolve_terms(parse_merge_string("style:-2:GP1:te=0.5:unet=3"), presets=PRESETS)
    assert term.strength("text_encoder.text_model.encoder.layers.0.mlp.fc1") == -2 * 1.0 * 0.5
    assert term.strength("unet.down_blocks.0.attentions.0.proj_in") == -2 * 0.6 * 3
    assert term.strength("unet.conv_out") == -2 * 3 and term.label == "style"


def test_epochs_are_resolved_and_averaged(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        save(tmp_path / f"ink-{number:06d}.safetensors", lora_tensors(names=NAMES, rank=1, seed=number))

    def resolve(text: str) -> list[tuple[str, float, str]]:
        terms = resolve_terms(parse_merge_string(text), lambda ref: tmp_path, presets=PRESETS, best=lambda run: 2)
        return [(term.label, term.weight, term.adapter.path.name) for term in terms]

    assert resolve("ink@2:3") == [("ink@2", 3, "ink-000002.safetensors")]
    assert resolve("ink") == [("ink@3", 1, "ink-000003.safetensors")] and resolve("ink@best")[0][0] == "ink@2"
    assert resolve("ink@2-3") == [("ink@2", 0.5, "ink-000002.safetensors"), ("ink@3", 0.5, "ink-000003.safetensors")]
    with pytest.raises(FileError, match="no training run"):
        resolve_terms(parse_merge_string("x@2"), lambda ref: tmp_path / "ink-000001.safetensors", presets=PRESETS)


def test_what_to_mind_about_the_best_epoch_is_a_warning_of_the_sum(tmp_path: Path) -> None:
    for number in (1, 2):
        save(tmp_path / f"ink-{number:06d}.safetensors", lora_tensors(names=NAMES, rank=1, seed=number))

    def warnings(text: str, note: str) -> tuple[str, ...]:
        terms = resolve_terms(
            parse_merge_string(text),
            lambda ref: tmp_path,
            presets=PRESETS,
            best=lambda run: 2,
            best_note=lambda run: note,
        )
        return warnings_of_terms(terms)

    assert warnings("ink@best,ink@1:-1", "it is stale") == ("ink@best is ink@2: it is stale",)
    assert warnings("ink@2", "it is stale") == warnings("ink@best", "") == ()


@pytest.mark.parametrize("name", ["ink@2", "ink@1-3", "ink@best", "ink@last"])
def test_a_file_of_that_name_wins_over_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (tmp_path / "ink").mkdir()
    for number in (1, 2, 3):
        save(tmp_path / f"ink/ink-{number:06d}.safetensors", lora_tensors(names=NAMES, rank=1, seed=number))
    (tmp_path / "loras").mkdir()

    def resolve() -> list[tuple[str, str, float]]:
        specs = parse_merge_string(f"{name}:0.5:GP1")
        terms = resolve_terms(specs, lora_dirs=["loras"], presets=PRESETS, best=lambda run: 2)
        return [(term.label, str(term.adapter.path), term.weight) for term in terms]

    monkeypatch.chdir(tmp_path)
    assert all(path.startswith("ink/ink-00000") for _, path, _ in resolve())
    save(tmp_path / f"loras/{name}.safetensors", lora_tensors(names=NAMES, rank=1))
    assert resolve() == [(name, f"loras/{name}.safetensors", 0.5)]


def test_a_short_vector_on_a_locon_says_what_one_and_zero_do(tmp_path: Path) -> None:
    path = save(tmp_path / "locon.safetensors", lora_tensors(rank=1, conv=True))
    specs = parse_merge_string("x:2:GP1")
    with pytest.raises(BlockError, match=r"22 modules .*IN03.*missing: 1 keeps them .* missing: 0 removes them"):
        resolve_terms(specs, lambda ref: path, presets=PRESETS)
    for missing, strength in ((1.0, 2.0), (0.0, 0.0)):
        (term,) = resolve_terms(specs, lambda ref: path, presets=PRESETS, missing=missing)
        assert term.strength("unet.down_blocks.0.downsamplers.0.conv") == strength
        assert term.strength("unet.down_blocks.0.resnets.0.conv1") == 2 * 0.6 and len(term.unlisted()) == 22
    resolve_terms(parse_merge_string("x:1:" + ",".join(["0.5"] * 26)), lambda ref: path, presets=PRESETS)


def test_vectors_of_another_family_and_files_that_are_missing_are_named(tmp_path: Path) -> None:
    path = save(tmp_path / "xl.safetensors", lora_tensors("sdxl", rank=1, sizes=TINY_XL))
    with pytest.raises(BlockError, match="'GP1' is for SD1/SD2"):
        resolve_terms(parse_merge_string("x:1:GP1"), lambda ref: path, presets=PRESETS)
    with pytest.raises(FileError, match="no LoRA 'none'"):
        resolve_terms(parse_merge_string("none:1"), presets=PRESETS)
    (tmp_path / "junk.safetensors").write_bytes(b"junk" * 9)
    with pytest.raises(FormatError, match="junk"):
        resolve_terms(parse_merge_string("junk:1"), lora_dirs=[tmp_path], presets=PRESETS)
