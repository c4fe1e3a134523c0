"""One ONNX file, ready to run: what its input wants, its metadata, and arrays in and out.

Taggers, detectors and upscalers all go through this; ``onnxruntime`` is imported when the first of them is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from loratools.digests import file_digest
from loratools.errors import FormatError, UnavailableError

Values = npt.NDArray[Any]
_GPU = ("CUDAExecutionProvider", "ROCMExecutionProvider", "CoreMLExecutionProvider")


class OnnxModel:
    """An ONNX graph with one input.

    Attributes:
        path: its file.
        input_shape: of the input; None where the graph leaves a size open.
        output_names: of the outputs, in order.
        metadata: the graph's own key and value texts.
    """

    def __init__(self, path: str | Path, device: str = "auto", *, extra: str = "tag") -> None:
        """Open the file.

        Args:
            device: ``auto`` (a GPU, where this onnxruntime has one), ``cpu`` or ``cuda``.
            extra: the extra of loratools that brings onnxruntime, for the message where it is missing.
        Raises:
            UnavailableError: if onnxruntime is not installed, or has no such device.
            FormatError: if the file is no ONNX graph that it can run, or has several inputs.
        """
        self.path = Path(path)
        self._session = _session(self.path, device, extra)
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            raise FormatError(f"{path} takes {len(inputs)} inputs, and a model of one picture is needed; name another")
        self._input: str = inputs[0].name
        self.input_shape = tuple(side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape)
        self._half = inputs[0].type == "tensor(float16)"
        self.output_names: tuple[str, ...] = tuple(output.name for output in self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    @property
    def identity(self) -> str:
        """Its file's name and a digest of its bytes: on the hub, every detector is called ``model.onnx``."""
        return f"{self.path.name} {file_digest(self.path)[:12]}"

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return bool(self._session.get_providers()[0] != "CPUExecutionProvider")

    def run(self, values: Values) -> list[Values]:
        """The outputs for an input array, which is brought to the graph's number type.

        Raises:
            FormatError: if the graph does not take an input of this shape, or fails on it.
        """
        given = np.ascontiguousarray(values, dtype=np.float16 if self._half else np.float32)
        try:
            outputs: list[Values] = self._session.run(None, {self._input: given})
        except _run_errors() as error:
            first = " ".join(str(error).split())[:200]
            raise FormatError(f"{self.path} cannot run on an input of {given.shape} ({first}); name another") from error
        return outputs


def _session(path: Path, device: str, extra: str) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UnavailableError(
            f"onnxruntime, which runs {path.name}, is not installed; pip install 'loratools[{extra}]' "
            "(on a GPU: pip install onnxruntime-gpu)"
        ) from error
    if not path.is_file():
        raise FormatError(f"there is no file {path}; name an .onnx file")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=_providers(onnxruntime, device))
    except _run_errors() as error:
        first = " ".join(str(error).split())[:200]
        raise FormatError(
            f"{path} is no ONNX model that onnxruntime {onnxruntime.__version__} can run ({first})"
        ) from error


def _providers(onnxruntime: Any, device: str) -> list[str]:
    gpu = [name for name in _GPU if name in onnxruntime.get_available_providers()]
    kind = device.partition(":")[0]
    if kind not in ("auto", "cpu", "mps") and not gpu:
        raise UnavailableError(
            f"this onnxruntime has no GPU, and device={device} asks for one; pip install onnxruntime-gpu, "
            "or use `device=cpu`"
        )
    return ["CPUExecutionProvider"] if kind == "cpu" else [*gpu, "CPUExecutionProvider"]


def _run_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises: its own classes have no base but Exception's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, RuntimeError, ValueError)
