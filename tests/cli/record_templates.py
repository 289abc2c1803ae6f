"""Records what the real `docker inspect --format` makes of every template of templates.txt.

`python -m tests.cli.record_templates` rewrites golden/templates.jsonl.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cli.fake_engine import Answer, FakeEngine
from tests.cli.record_commands import ENVIRONMENT

HERE = Path(__file__).parent / "golden"
TEMPLATES = (HERE / "templates.txt").read_text().splitlines()
RECORDED = HERE / "templates.jsonl"
CONTAINER: dict[str, Any] = json.loads((HERE / "container.json").read_text())


def docker_rendered(template: str) -> dict[str, Any]:
    """Return what the real client makes of `template`."""
    with tempfile.TemporaryDirectory() as text:
        with FakeEngine(Path(text) / "s") as engine:
            engine.route("GET", "/containers/x/json", Answer.of(CONTAINER))
            done = subprocess.run(
                ["docker", "-H", engine.url, "inspect", "-f", template, "x"],
                capture_output=True,
                text=True,
                timeout=30,
                env=ENVIRONMENT,
            )
    return {"code": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


def main() -> None:
    """Rewrite the recording."""
    with RECORDED.open("w") as out:
        for template in TEMPLATES:
            record = {"template": template, **docker_rendered(template)}
            out.write(json.dumps(record, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
