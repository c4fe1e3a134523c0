"""The server is light: it looks through folders and answers without torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.loras import lora_tensors, save

_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.studio.served import served
here = served(Path(sys.argv[1])).sign_in()
here.studio.index.refresh()
for kind in ("state", "catalog", "loras", "runs", "grids", "recipes", "jobs"):
    answer = here.client.get(f"/api/{kind}")
    assert answer.status_code == 200, answer.text
    for own in answer.json() if isinstance(answer.json(), list) else []:
        assert here.client.get(f"/api/{kind}/{own['id']}").status_code == 200
assert here.client.post("/api/vector", json={"text": "GP1"}).status_code == 200
print([name for name in ("torch", "diffusers", "transformers", "matplotlib", "numpy") if name in sys.modules])
"""


def test_no_answer_but_a_picture_needs_torch_or_numpy(tmp_path: Path) -> None:
    save(tmp_path / "style.safetensors", lora_tensors(rank=2))
    (tmp_path / "mine.yaml").write_text("steps:\n  a: {merge: 'style:1', out: a.safetensors}\n")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(tmp_path), str(root)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stderr[-2000:]
