"""A Python with every package of this one that cannot import this project, like a machine that only serves a model."""

import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

WORKER = """
import json, sys
import mlflow, numpy as np
for line in sys.stdin:
    asked = json.loads(line)
    model = mlflow.pyfunc.load_model(asked["model"])
    given = np.array(asked["texts"], dtype=object) if "texts" in asked else np.load(asked["array"])
    frame = model.predict(given)
    print(json.dumps({"classes": list(frame.columns), "rows": frame.to_numpy().tolist(), "ours": "study" in sys.modules}), flush=True)
"""


class Bare:
    """Such a Python with `folder` as its home. Nothing of this project is on its path, in its environment or where it runs."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "elsewhere"
        self.home.mkdir()
        venv.EnvBuilder(symlinks=True).create(folder / "venv")
        self.bin = folder / "venv" / "bin"
        self.python = str(self.bin / "python")
        inside = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder / "venv"), "installed_base": ""}))
        # A path in a .pth file is added as it is: the .pth files that lie there, an editable install of ours among them, are not read.
        (inside / "packages.pth").write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}) + "\n")
        (self.bin / "uvicorn").write_text(f"#!{self.python}\nfrom uvicorn.main import main\nmain()\n")
        (self.bin / "uvicorn").chmod(0o755)
        kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV") and not k.startswith("STUDY_")}
        self.env = {**kept, "PATH": f"{self.bin}:{os.environ['PATH']}"}
        tried = subprocess.run([self.python, "-c", "import study"], env=self.env, cwd=self.home, capture_output=True, text=True)
        assert tried.returncode == 1 and "No module named 'study'" in tried.stderr, tried.stderr
        self.process: subprocess.Popen[str] | None = None

    def ask(self, model: str, **given: Any) -> dict[str, Any]:
        """Load the model in a process of its own, kept for the next question, and predict `texts` (base64) or `array` (an .npy file)."""
        if self.process is None:
            command = [self.python, "-c", WORKER]
            self.process = subprocess.Popen(
                command, env=self.env, cwd=self.home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.process.stdin.write(json.dumps({"model": model, **given}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, self.process.stderr.read()
        return json.loads(answer)

    def close(self) -> None:
        if self.process is not None:
            self.process.communicate()
