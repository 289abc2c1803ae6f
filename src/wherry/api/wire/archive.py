"""`X-Docker-Container-Path-Stat`, the header of `docker cp`."""

from __future__ import annotations

import base64

import msgspec

from wherry.model.moments import render_rfc3339
from wherry.model.views import PathStat


def render_path_stat(stat: PathStat) -> str:
    """Return the stat as base64 of JSON."""
    answer = {
        "name": stat.name,
        "size": stat.size,
        "mode": stat.mode,
        "mtime": render_rfc3339(stat.mtime),
        "linkTarget": stat.link_target,
    }
    try:
        text = msgspec.json.encode(answer)
    except UnicodeEncodeError:
        for name in ("name", "linkTarget"):
            raw = str(answer[name]).encode("utf-8", "surrogateescape")
            answer[name] = raw.decode("utf-8", "replace")
        text = msgspec.json.encode(answer)
    return base64.b64encode(text).decode()
