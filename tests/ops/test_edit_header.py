"""A header edited: tensors byte for byte, every hash true, whole or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import loratools as lt
from loratools import files
from loratools.errors import FileError, FormatError, OptionError
from loratools.imaging.thumbnail import MOST, thumbnail_url
from loratools.ops.edit_header import HeaderEdit, edit_header


def lora(path: Path, size: int = 64, **texts: str) -> Path:
    """A plain LoRA file of the safetensors library; ``size`` of a large one passes the old hash's window."""
    torch.manual_seed(0)
    stem = "lora_unet_mid_block_attentions_0_proj_in"
    factors = {f"{stem}.lora_up.weight": torch.randn(size, 4), f"{stem}.lora_down.weight": torch.randn(4, size)}
    save_file(factors, path, texts or None)
    return path


def header_of(path: Path) -> dict[str, str]:
    with safe_open(path, "pt") as opened:  # type: ignore[no-untyped-call]
        return dict(opened.metadata() or {})


def after_header(path: Path) -> bytes:
    data = path.read_bytes()
    return data[8 + struct.unpack("<Q", data[:8])[0] :]


def oracle_hashes(path: Path) -> tuple[str, str]:
    """sha256 after the header; and the old WebUI's as sd-scripts takes it, of a file with the ``ss_*`` texts only."""
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8 : 8 + length])
    facts = {key: text for key, text in entries.pop("__metadata__", {}).items() if key.startswith("ss_")}
    raw = json.dumps({"__metadata__": facts, **entries}, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    whole = struct.pack("<Q", len(raw)) + raw + data[8 + length :]
    return hashlib.sha256(data[8 + length :]).hexdigest(), hashlib.sha256(whole[0x100000:0x110000]).hexdigest()[:8]


def picture(path: Path, size: tuple[int, int] = (640, 480), mode: str = "RGBA") -> Path:
    Image.effect_noise(size, 90).convert(mode).save(path)
    return path


@pytest.mark.parametrize("size", [64, 40000])
def test_only_the_header_changes_and_its_hashes_are_true(tmp_path: Path, size: int) -> None:
    path = lora(tmp_path / "a.safetensors", size, ss_seed="7", sshs_model_hash="wrong", other="é ok")
    before, tensors = after_header(path), load_file(path)
    entries = {"ss_clip_skip": "2"}
    done = lt.edit_header(path, title="Ink 2", trigger="inkstyle, 線画", tags="style, ink", entries=entries)
    texts = header_of(path)
    assert after_header(path) == before and done.written and done.digest == hashlib.sha256(before).hexdigest()
    assert texts["modelspec.title"] == "Ink 2" and texts["modelspec.trigger_phrase"] == "inkstyle, 線画"
    assert (texts["modelspec.tags"], texts["ss_clip_skip"], texts["ss_seed"]) == ("style, ink", "2", "7")
    assert texts["other"] == "é ok" and texts["modelspec.sai_model_spec"] == "1.0.1"
    model, legacy = oracle_hashes(path)
    assert texts["sshs_model_hash"] == model and texts["modelspec.hash_sha256"] == f"0x{model}"
    assert texts["sshs_legacy_hash"] == legacy
    assert all(torch.equal(tensor, tensors[key]) for key, tensor in load_file(path).items())
    assert done.changed["sshs_model_hash"] == ("wrong", model) and done.changed["modelspec.title"] == (None, "Ink 2")
    assert "tensors as they were" in done.text() and done.json()["changed"]["ss_clip_skip"] == {"from": None, "to": "2"}
    state = path.stat()
    again = lt.edit_header(path, title="Ink 2")
    assert not again.written and "nothing to change" in again.text() and path.stat().st_mtime_ns == state.st_mtime_ns
    gone = lt.edit_header(path, tags="", remove="modelspec.trigger_phrase")
    assert gone.changed["modelspec.trigger_phrase"] == ("inkstyle, 線画", None) and len(gone.changed) == 2
    assert "modelspec.tags" not in header_of(path)


def test_what_loratools_wrote_stays_readable_and_reproducible(tmp_path: Path) -> None:
    path = lora(tmp_path / "a.safetensors")
    merged = lt.merge(f'"{path}":0.5', tmp_path / "m.safetensors")
    made = lt.inspect(merged.path).made
    lt.edit_header(merged.path, title="Ink")
    facts = lt.inspect(merged.path)
    assert facts.made == made and facts.model_hash == merged.digest == facts.metadata["sshs_model_hash"]
    assert lt.merge(f'"{path}":0.5', tmp_path / "m.safetensors").digest == merged.digest  # still its own file


def test_a_preview_becomes_a_small_jpeg_without_text(tmp_path: Path) -> None:
    path = lora(tmp_path / "a.safetensors")
    lt.edit_header(path, preview=picture(tmp_path / "p.png"))
    url = header_of(path)["modelspec.thumbnail"]
    kind, _, text = url.partition(",")
    assert kind == "data:image/jpeg;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(text)))
    assert (shown.size, shown.format, shown.mode) == ((256, 192), "JPEG", "RGB")
    for mode in ("L", "P", "RGB"):
        assert (
            len(base64.b64decode(thumbnail_url(picture(tmp_path / "q.png", (300, 300), mode)).partition(",")[2]))
            <= MOST
        )
    clear = Image.new("RGBA", (20, 10), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.webp")
    small = Image.open(io.BytesIO(base64.b64decode(thumbnail_url(tmp_path / "clear.webp").partition(",")[2])))
    assert small.size == (20, 10) and min(small.getpixel((3, 3))) > 250  # type: ignore[arg-type]
    (tmp_path / "no.png").write_text("no picture")
    for name, says in (("no.png", "no picture that can be read; give a PNG"), ("absent.png", "does not exist")):
        before = path.read_bytes()
        with pytest.raises(FileError, match=says):
            lt.edit_header(path, preview=tmp_path / name)
        assert path.read_bytes() == before


def test_another_file_is_written_beside_and_strangers_stay(tmp_path: Path) -> None:
    path = lora(tmp_path / "a.safetensors")
    before = path.read_bytes()
    out = tmp_path / "deep" / "b.safetensors"
    assert lt.edit_header(path, out, title="B").path == out and path.read_bytes() == before
    assert after_header(out) == after_header(path)
    assert lt.edit_header(path, out, title="C").written  # the same tensors: nothing but texts is lost
    assert header_of(out)["modelspec.title"] == "C"
    stranger = lora(tmp_path / "stranger.safetensors", 32)
    kept = stranger.read_bytes()
    with pytest.raises(FileError, match="holds other tensors"):
        lt.edit_header(path, stranger, title="D")
    (tmp_path / "text.safetensors").write_text("mine")
    with pytest.raises(FileError, match="holds other tensors"):
        lt.edit_header(path, tmp_path / "text.safetensors", title="D")
    assert stranger.read_bytes() == kept
    lt.edit_header(path, stranger, title="D", force=True)
    assert after_header(stranger) == after_header(path)
    with pytest.raises(FileError, match="end it in"):
        lt.edit_header(path, tmp_path / "b.png", title="D")


def test_a_stop_in_the_middle_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = lora(tmp_path / "a.safetensors")
    before = path.read_bytes()
    original = files.replacing

    @contextmanager
    def stopped(target: Path) -> Iterator[Path]:
        with original(target) as part:
            yield part
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "replacing", stopped)
    with pytest.raises(KeyboardInterrupt):
        lt.edit_header(path, title="B")
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        ({}, "nothing to change"),
        ({"title": "two\nlines"}, "title has several lines"),
        ({"entries": {"modelspec.titel": "x"}}, "no modelspec entry 'titel' .did you mean 'title'"),
        ({"entries": {"sshs_model_hash": "x"}}, "computed from the file"),
        ({"entries": {"ss_network_dim": "8"}}, "computed from the file"),
        ({"entries": {"loratools": "{}"}}, "computed from the file"),
        ({"remove": ("modelspec.hash_sha256",)}, "computed from the file"),
        ({"entries": {"Title": "x"}}, "begins with modelspec. or ss_"),
    ],
)
def test_what_cannot_be_set_is_said(tmp_path: Path, edit: dict[str, object], says: str) -> None:
    path = lora(tmp_path / "a.safetensors")
    with pytest.raises(OptionError, match=says):
        edit_header(path, HeaderEdit(**edit))  # type: ignore[arg-type]


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(FormatError, match=r"x\.safetensors"):
        lt.edit_header(tmp_path / "x.safetensors", title="x")
    with pytest.raises(FileError, match=r"no LoRA '.*y\.safetensors'"):
        lt.edit_header(tmp_path / "y.safetensors", title="x")
    with pytest.raises(FileError, match=r"holds no epoch files .*, but 1 LoRA file \(x\.safetensors\)"):
        lt.edit_header(tmp_path, title="x")
