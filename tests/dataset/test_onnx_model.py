"""An ONNX file is opened and run, and a file that is none is named."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from loratools.dataset.onnx_model import OnnxModel
from loratools.errors import FormatError, UnavailableError
from tests.dataset.onnx_graphs import node, save_graph


def _doubling(path: Path) -> Path:
    two = np.array(2, np.float32)
    nodes = [node("Mul", ["input", "two"], ["output"])]
    return save_graph(path, nodes, [None, 3], {"two": two}, {"output": [None, 3]}, {"names": "{0: 'x'}"})


def test_a_graph_says_what_it_wants_and_runs(tmp_path: Path) -> None:
    model = OnnxModel(_doubling(tmp_path / "m.onnx"), "cpu")
    assert model.input_shape == (None, 3) and model.metadata == {"names": "{0: 'x'}"} and not model.on_gpu
    (output,) = model.run(np.arange(6).reshape(2, 3))
    assert np.array_equal(output, np.arange(6).reshape(2, 3) * 2)
    with pytest.raises(FormatError, match=r"m\.onnx cannot run on an input of \(2, 4\)"):
        model.run(np.zeros((2, 4)))


def test_what_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    with pytest.raises(FormatError, match="is no ONNX model"):
        OnnxModel(tmp_path / "m.onnx")
    with pytest.raises(FormatError, match="there is no file"):
        OnnxModel(tmp_path / "none.onnx")


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UnavailableError, match=r"pip install 'loratools\[face\]'"):
        OnnxModel(tmp_path / "m.onnx", extra="face")


def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has a GPU")
    with pytest.raises(UnavailableError, match="`device=cpu`"):
        OnnxModel(_doubling(tmp_path / "m.onnx"), "cuda:0")
