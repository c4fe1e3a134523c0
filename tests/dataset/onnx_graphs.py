"""Small ONNX graphs with outputs that are known, for tests of what reads pictures by ONNX files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
_OPSET = 17


def save_graph(
    path: Path,
    nodes: Sequence[Any],
    input_shape: Sequence[int | str | None],
    constants: Mapping[str, np.ndarray[Any, Any]],
    outputs: Mapping[str, Sequence[int | str | None]],
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Save a graph with the input ``input`` and these outputs (name -> shape), and return ``path``."""
    kind = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        list(nodes),
        "graph",
        [onnx.helper.make_tensor_value_info("input", kind, list(input_shape))],
        [onnx.helper.make_tensor_value_info(name, kind, list(shape)) for name, shape in outputs.items()],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=8)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """One node of a graph."""
    return onnx.helper.make_node(kind, list(inputs), list(outputs), **attributes)


def constant_yolo(path: Path, output: list[list[float]], side: int | None = 64) -> Path:
    """A YOLO graph that says the same of every picture: ``output`` is (4 + classes, N) or (N, 6)."""
    values = np.array([output], np.float32)
    zero = np.array(0, np.float32)
    nodes = [
        node("ReduceMax", ["input"], ["most"], keepdims=0),
        node("Mul", ["most", "zero"], ["nothing"]),
        node("Add", ["values", "nothing"], ["output"]),
    ]
    shape = [1, 3, side, side]
    return save_graph(path, nodes, shape, {"values": values, "zero": zero}, {"output": list(values.shape)})
