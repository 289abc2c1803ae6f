"""The daemon's own log: a line of key=value pairs to standard error, as dockerd writes it."""

from __future__ import annotations

import json
import logging
import sys
import time

_NAMES = {"WARNING": "warning", "CRITICAL": "fatal"}
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{plain}"' if not plain or any(c in ' ="' or c < " " for c in text) else plain


class Line(logging.Formatter):
    """Renders one record as one line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `time="…" level=info msg="…" module=…`."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        level = _NAMES.get(record.levelname, record.levelname.lower())
        line = (
            f'time="{moment}.{int(record.msecs):03d}Z" level={level}'
            f" msg={_quoted(record.getMessage())} module={record.name.removeprefix('wherry.')}"
        )
        if record.exc_info:
            line += f" error={_quoted(self.formatException(record.exc_info))}"
        return line


class Json(logging.Formatter):
    """Renders one record as one JSON object, for `--log-format json`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return `{"time":…,"level":…,"msg":…,"module":…}`."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        fields = {
            "level": _NAMES.get(record.levelname, record.levelname.lower()),
            "module": record.name.removeprefix("wherry."),
            "msg": record.getMessage(),
            "time": f"{moment}.{int(record.msecs):03d}Z",
        }
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps(fields)


def set_up_log(form: str = "text") -> None:
    """Send everything to standard error, as `text` or `json`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Json() if form == "json" else Line())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # These cost time for each record and are shown nowhere.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def set_level(level: str, *, debug: bool) -> None:
    """Show records of `level` (Docker's word) and above."""
    logging.getLogger().setLevel(logging.DEBUG if debug else _LEVELS[level])
    logging.getLogger("asyncio").setLevel(logging.WARNING)
