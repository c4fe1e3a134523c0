import hashlib
import json
import random
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from loratools.adapter.files.file import read
from loratools.adapter.header import LegacyHash, TensorInfo, encode_header, header, legacy_hash, read_header
from loratools.errors import FileError, FormatError, LoratoolsError
from tests.loras import lora_tensors

NAMES = ("unet.mid_block.attentions.0.proj_in", "unet.mid_block.attentions.0.proj_out")
GOOD = save(lora_tensors(names=NAMES, rank=2), {"ss_v2": "False"})
KEY = "lora_unet_mid_block_attentions_0_proj_in.lora_up.weight"


def packed(entries: object, data: bytes = b"") -> bytes:
    raw = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(dtype: object = "F16", shape: object = (2,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_good_header_is_what_the_library_reads(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(GOOD)
    metadata, tensors = header(tmp_path / "a.safetensors")
    assert metadata == {"ss_v2": "False"} and tensors[KEY].shape == (16, 2, 1, 1) and tensors[KEY].dtype == "F16"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\1\2\3", "truncated"),
        (b"Not Found", "is a text file that begins 'Not Found'"),
        (b"PK\x03\x04" + b"0" * 100, "zip archive that was cut off"),
        (b"\x80\x02}q\x00." + b"0" * 100, "pickled torch file"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page that was saved in place of the file; download"),
        (b"\n <html><head><title>Sign in\n to X</title>", r"web page \('Sign in to X'\)"),
        (
            b'{"error":"Unauthorized","message":"log in first"}',
            "JSON, .*'log in first'",
        ),
        (b'[{"code": 5}]', r"is JSON, .*it begins '\[\{"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
            "LFS pointer of 68 .*12345",
        ),
        (b"Access denied by the gateway\n", "text file that begins 'Access denied by the gateway'"),
        ("nicht gefunden, bitte anmelden".encode("utf-16"), "text file that begins 'nicht gefunden"),
        (b"GGUF\3\0\0\0" + b"\0" * 50, "is a GGUF file"),
        (b"PK\x03\x04\x14\0\0\0" + b"0" * 60 + b"x/data.pkl" + b"0" * 60, "pickled torch file"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "picture"),
        (b"\x1f\x8b\x08\0\0\0\0\0" + b"\1" * 700_000, "gzip archive"),
        (b"\0" * 5000, "begins with zero bytes: its download was never finished"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 5000) + b"{}" * 30, "truncated"),
        (packed(b"{not json"), "no JSON"),
        (packed(b"[" * 200_000), "no JSON"),
        (packed(b'{"a":' + b"9" * 5000 + b"}"), "no JSON"),
        (packed(b'{"a": NaN}'), "no JSON"),
        (packed(b"\xff\xfe{}"), "no JSON"),
        (packed([1, 2]), "no JSON object"),
        (packed({"__metadata__": {"a": 1}}), "__metadata__"),
        (packed({"__metadata__": []}), "__metadata__"),
        (packed({"a": 5}), "malformed"),
        (packed({"a": {"dtype": "F16"}}), "malformed"),
        (packed({"a": entry(dtype="F6_E2M3")}, b"0" * 4), "not supported"),
        (packed({"a": entry(shape=[-2])}, b"0" * 4), "impossible shape"),
        (packed({"a": entry(shape=[True, 2])}, b"0" * 4), "impossible shape"),
        (packed({"a": entry(shape=[2**70])}, b"0" * 4), "impossible shape"),
        (packed({"a": entry(shape=[2**40, 2**40])}, b"0" * 4), "declares shape"),
        (packed({"a": entry(offsets=[4, 0])}, b"0" * 4), "impossible"),
        (packed({"a": entry(shape=[3])}, b"0" * 4), "declares shape"),
        (packed({"a": entry(), "b": entry()}, b"0" * 4), "overlapping"),
        (packed({"a": entry(offsets=[4, 8])}, b"0" * 8), "overlapping or missing"),
        (packed({"a": entry()}, b"0" * 2), "truncated"),
        (packed({"a": entry()}, b"0" * 6), "after its last tensor"),
        (packed(b'{"a":1,"a":2}'), "twice"),
        (packed({"a\ud83d": entry()}, b"0" * 4), "no text"),
    ],
)
def test_hostile_headers_are_named_errors(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=message) as caught:
        read_header(path)
    assert "bad.safetensors" in str(caught.value) and "\n" not in str(caught.value)


A = '"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    "text",
    [
        f'{{"__metadata__":null,{A}}}',
        f'{{"__metadata__":{{"x":"1","x":"2"}},{A}}}',
        f"{{{A},{A}}}",
        '{"a":["F16",[2],[0,4]]}',
        '{"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4],"more":1}}',
        f" {{{A}}}\n",
        *(
            f'{{"a":{{"dtype":"{dtype}","shape":[{count}],"data_offsets":[0,4]}}}}'
            for dtype, count in (("F4", 8), ("F8_E8M0", 4), ("F8_E4M3FNUZ", 4), ("F8_E5M2FNUZ", 4), ("U16", 2))
        ),
    ],
)
def test_what_the_library_reads_is_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(packed(text.encode(), b"0" * 4))
    try:
        with safe_open(path, "pt") as file:
            names, metadata = list(file.keys()), dict(file.metadata() or {})
    except SafetensorError:
        assert "F4" in text or "F8_" in text
        pytest.skip("an older safetensors, which has not heard of this type")
    assert list(read_header(path).tensors) == names == ["a"] and dict(read_header(path).metadata) == metadata


def test_a_zip_is_told_by_what_is_in_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(FormatError, match="pickled torch file"):
        read_header(path)
    for inside, message in (("b/style.safetensors", "give 'b/style.safetensors'"), ("readme.txt", "no .safetensors")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(inside, "x")
        with pytest.raises(FormatError, match=f"is a zip archive.*{message}"):
            read_header(path)


def test_missing_files_and_folders_are_file_errors(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        read_header(tmp_path / "none.safetensors")
    with pytest.raises(FileError, match="is a folder"):
        read_header(tmp_path)


@given(st.integers(0, len(GOOD) - 1))
@settings(max_examples=60, deadline=None)
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    path = tmp_path_factory.mktemp("cut") / "cut.safetensors"
    path.write_bytes(GOOD[:length])
    with pytest.raises(FormatError):
        read(path)


@given(st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=150, deadline=None)
def test_damaged_bytes_give_a_value_or_a_named_error(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    path = tmp_path_factory.mktemp("fuzz") / "fuzz.safetensors"
    path.write_bytes(data)
    try:
        adapter = read(path)
        for name in adapter:
            assert torch.isfinite(adapter[name].dense()).all()
    except LoratoolsError as error:
        assert "fuzz.safetensors" in str(error)


HALVES = dict.fromkeys(range(0xD800, 0xE000), "?")  # of surrogate pairs
TEXTS = st.text(st.characters(exclude_categories=()), max_size=12)


@given(st.dictionaries(TEXTS, TEXTS, max_size=4))
@settings(max_examples=100, deadline=None)
def test_any_text_is_written_as_a_header_that_the_library_reads(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, str]
) -> None:
    path = tmp_path_factory.mktemp("any") / "any.safetensors"
    tensors = {"a": TensorInfo("F16", (2, 1), 0, 4)}
    path.write_bytes(encode_header(metadata, tensors) + b"0" * 4)
    assert path.stat().st_size % 8 == 4
    with safe_open(path, "pt") as file:
        stored = dict(file.metadata() or {})
    assert stored == {key.translate(HALVES): text.translate(HALVES) for key, text in metadata.items()}
    assert read_header(path).metadata == stored and read_header(path).tensors == tensors


@given(st.integers(0, 40), st.lists(st.integers(0, 600_000), max_size=6), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_the_old_hash_is_that_of_the_second_mebibytes_first_64_kib(
    tmp_path_factory: pytest.TempPathFactory, head: int, pieces: list[int], skip: int
) -> None:
    whole = random.Random(0).randbytes(head + sum(pieces))
    wanted = hashlib.sha256(whole[0x100000:0x110000]).hexdigest()[:8]
    legacy, at = LegacyHash(whole[:head]), head
    for size in pieces:
        legacy.update(memoryview(whole)[at : at + size])
        at += size
    assert legacy.hexdigest() == wanted
    path = tmp_path_factory.mktemp("old") / "a.bin"
    path.write_bytes(b"x" * skip + whole[head:])
    assert legacy_hash(path, head=whole[:head], skip=skip) == wanted
