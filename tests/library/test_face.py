"""What ``import loratools`` hands on: whole, unchanged unless on purpose, typed, and free until it is used."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import loratools as lt
from tests.library.conftest import save_lora
from tests.library.face import STORED, face


def test_the_face_is_what_is_stored() -> None:
    before, now = STORED.read_text(encoding="utf-8"), face()
    change = "\n".join(difflib.unified_diff(before.splitlines(), now.splitlines(), "face.txt", "now", lineterm="", n=0))
    assert not change, (
        f"what `import loratools` hands on has changed, and people's programs rely on it:\n{change}\nIf it is meant "
        "to, add to it rather than change it, say so in docs/library.md, and write `python -m tests.library.face`"
    )


def test_every_name_is_handed_on_from_where_it_is_made() -> None:
    own = importlib.import_module("loratools")
    assert set(own._MODULES) | {"__version__"} == set(lt.__all__) and sorted(lt.__all__) == lt.__all__
    assert set(lt.__all__) <= set(dir(lt))
    for name, module in own._MODULES.items():
        assert getattr(getattr(lt, name), "__wrapped__", getattr(lt, name)) is getattr(
            importlib.import_module(f"loratools.{module}"), name
        )
    with pytest.raises(AttributeError, match="no attribute 'mrege'"):
        lt.mrege  # type: ignore[attr-defined]  # noqa: B018


def test_the_checker_sees_the_same_names_as_the_program() -> None:
    source = Path(str(lt.__file__)).read_text(encoding="utf-8")
    typed = source[source.index("if TYPE_CHECKING") : source.index("# module -> what of it is handed on")]
    for name, module in importlib.import_module("loratools")._MODULES.items():
        line = next((line for line in typed.splitlines() if f"from loratools.{module} import" in line), "")
        assert name in line.partition(" import ")[2].split(", "), f"{name} is not imported under TYPE_CHECKING"


IMPORTS = [
    "import loratools.NAME.DEEP as deep",
    "from loratools import NAME",
    "import loratools as lt; lt.NAME",
    "import loratools.NAME",
    "import loratools.NAME.DEEP",
    "from loratools.NAME.DEEP import CLASS",
    "from loratools.library import training, tuning",
    "import importlib; importlib.import_module('loratools.NAME.DEEP')",
]


@pytest.mark.parametrize(
    ("name", "deep", "kind"), [("train", "data.buckets", "BucketRules"), ("tune", "problem.request", "TuneRequest")]
)
def test_a_function_and_the_folder_of_its_name_go_together_in_every_order(name: str, deep: str, kind: str) -> None:
    imports = [line.replace("NAME", name).replace("DEEP", deep).replace("CLASS", kind) for line in IMPORTS]
    constants = f"NAME, DEEP, KIND, IMPORTS = {(name, deep, kind, imports)!r}\n"
    code = """
import inspect, pickle, sys
from unittest import mock

for before in IMPORTS:
    for done in [one for one in sys.modules if one.partition(".")[0] == "loratools"]:
        del sys.modules[done]
    for line in (before, *IMPORTS):  # whatever was imported before, everything that follows works
        exec(line, {})
    import loratools as lt
    from loratools.library import training, tuning

    folder, function = getattr(lt, NAME), getattr(training if NAME == "train" else tuning, NAME)
    below = sys.modules[f"loratools.{NAME}.{DEEP}"]
    assert folder is sys.modules[f"loratools.{NAME}"] and folder.__wrapped__ is function, before
    assert callable(folder) and inspect.signature(folder) == inspect.signature(function), before
    assert inspect.getdoc(folder).startswith(inspect.getdoc(function)), before
    assert pickle.loads(pickle.dumps(folder)) is folder, before
    try:
        folder(mistake=1)
    except TypeError as error:  # that of the function itself
        assert f"{NAME}() got an unexpected keyword argument 'mistake'" in str(error), error
    with mock.patch(f"loratools.{NAME}.{DEEP}.{KIND}", 1):
        assert getattr(below, KIND) == 1
    with mock.patch(f"loratools.{NAME}", lambda: "fake"):
        assert getattr(lt, NAME)() == "fake"
    assert getattr(lt, NAME) is folder and callable(folder)
from loratools.train.config.config import TrainConfig
from loratools.tune.problem.request import TuneRequest
assert lt.train.TrainConfig is TrainConfig and lt.tune.TuneRequest is TuneRequest
"""
    run = subprocess.run([sys.executable, "-c", constants + code], check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_every_function_says_what_it_takes_and_raises() -> None:
    text = pydoc.plain(pydoc.render_doc(lt))
    for name in lt.__all__:
        value = getattr(lt, name)
        value = getattr(value, "__wrapped__", value)  # of a folder that is called like a function
        if not inspect.isfunction(value):
            continue
        doc = inspect.getdoc(value) or ""
        assert f"``{name}``" in text, f"the package's own help does not name {name}"
        signature = inspect.signature(value)
        assert "Raises:" in doc or "errors are those of" in doc, f"{name} does not say what it raises"
        kinds = [parameter.kind for parameter in signature.parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds and kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD) <= 3
        assert "--" not in doc, f"{name} speaks of flags"


def test_importing_it_imports_nothing_heavy() -> None:
    code = "import sys, loratools; assert not {'torch', 'numpy', 'pydantic', 'yaml', 'click'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_operations_on_files_need_neither_diffusers_nor_transformers(tmp_path: Path) -> None:
    save_lora(tmp_path / "a.safetensors", 1)
    save_lora(tmp_path / "b.safetensors", 2)
    code = """
import sys
import loratools as lt
report = lt.merge("a:1:GP1,b:-1:GP2", "m.safetensors")
lt.merge("a:1,b:-1").state_dict()
lt.verify("m.safetensors", "a:1:GP1,b:-1:GP2")
lt.subtract("a", "b", "s.safetensors", mode="matched")
lt.resize("a.safetensors", "r.safetensors", rank=1)
lt.convert("a.safetensors", "c.safetensors", to="diffusers")
lt.inspect("m.safetensors"), lt.analyze("a.safetensors", "b.safetensors"), lt.explain_vector("GP1")
heavy = {"diffusers", "transformers", "accelerate", "matplotlib", "click"} & set(sys.modules)
assert not heavy, heavy
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout == run.stderr == "", run.stderr
