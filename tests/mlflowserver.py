"""A server on loopback that speaks enough of MLflow's protocol to be read from, and lies where a test tells it to."""

import contextlib
import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass
class Lies:
    """An honest server of one study with one trial, unless a test says otherwise."""

    experiment: str = "golden"
    trial: str = "0123456789abcdef"
    files: dict[str, bytes] = field(default_factory=lambda: {"config.json": b"{}", "measured/cka.parquet": b"cka"})
    announced: int | None = None  # size of every file, whatever it is
    endless: bool = False  # files have no end
    token: str = ""  # the same page again and again
    drip_s: float = 0.0  # seconds between the bytes of every answer
    error: str = ""  # an answer 400 with this text

    def experiments(self) -> dict:
        return {
            "experiments": [
                {"experiment_id": "1", "name": self.experiment, "lifecycle_stage": "active", "artifact_location": "mlflow-artifacts:/"}
            ]
        }

    def run(self, name: str) -> dict:
        info = {"run_id": name, "run_uuid": name, "experiment_id": "1", "status": "RUNNING", "start_time": 1, "lifecycle_stage": "active"}
        tags = {"study.key": f"{self.experiment}:"} if name == "root" else {"study.key": f"{self.experiment}:x", "trial": self.trial}
        info["artifact_uri"] = f"mlflow-artifacts:/{name}"
        return {"info": info, "data": {"tags": [{"key": k, "value": v} for k, v in tags.items()]}}

    def runs(self, asked: dict) -> dict:
        if "LIKE" not in asked["filter"]:
            return {"runs": [self.run("root")]}
        return {"runs": [self.run("root"), self.run("trial")], "next_page_token": self.token}

    def listing(self, path: str) -> dict:
        run, _, folder = path.partition("/")
        if run == "root":
            return {"files": [{"path": "study.json", "is_dir": False, "file_size": 2}]}
        inside = [f.removeprefix(f"{folder}/") for f in self.files if not folder or f.startswith(f"{folder}/")]
        files = [{"path": n, "is_dir": False, "file_size": self.announced or 3} for n in inside if "/" not in n]
        return {"files": files + [{"path": n, "is_dir": True} for n in sorted({n.partition("/")[0] for n in inside if "/" in n})]}


@contextlib.contextmanager
def serve(lies: Lies) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            url = urllib.parse.urlparse(self.path)
            query = dict(urllib.parse.parse_qsl(url.query))
            with contextlib.suppress(OSError):
                self.answer(url.path, query, asked)

        do_POST = do_GET

        def answer(self, path: str, query: dict, asked: dict) -> None:
            if lies.error:
                self.send(json.dumps({"error_code": "INTERNAL_ERROR", "message": lies.error}).encode(), 400)
            elif path.endswith("/experiments/search"):
                self.send(json.dumps(lies.experiments()).encode())
            elif path.endswith("/runs/search"):
                self.send(json.dumps(lies.runs(asked)).encode())
            elif path.endswith("/mlflow-artifacts/artifacts"):
                self.send(json.dumps(lies.listing(query.get("path", ""))).encode())
            elif "/mlflow-artifacts/artifacts/" in path:
                run, _, name = path.partition("/artifacts/")[2].partition("/")
                self.send(b"{}" if run == "root" else lies.files[name])
            else:
                self.send(b"{}", 404)

        def send(self, data: bytes, code: int = 200) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            endless = lies.endless and "/mlflow-artifacts/artifacts/" in self.path
            if not endless:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            while endless:
                self.wfile.write(b"x" * 2**20)
            for k in range(len(data)) if lies.drip_s else []:
                self.wfile.write(data[k : k + 1])
                time.sleep(lies.drip_s)
            if not lies.drip_s:
                self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
