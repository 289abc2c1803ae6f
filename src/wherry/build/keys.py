"""What a step's result hangs on, as one digest. Pure.

The layers below are in it by content, so a step that ran again and made the same layer changes nothing for
those after it. Values of secrets, limits and the names of stages are not in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, cast

from wherry.build.steps import AddStep, CopyStep, LayerStep, RunStep, WorkdirStep
from wherry.model.ids import Digest

_VERSION = 1
"""Changes whenever the same key would give another result."""


def step_key(
    step: LayerStep,
    parent: Sequence[Digest],
    inputs: Mapping[str, str],
    *,
    epoch: int | None,
    network: str = "",
    hosts: Sequence[str] = (),
) -> str:
    """Return the key of `step` over the layers `parent`.

    `inputs` are digests of what it reads beside them, by name; `epoch` is what was asked for, not what
    a context says of itself.
    """
    facts: dict[str, Any] = {"v": _VERSION, "kind": type(step).__name__, "in": dict(inputs)}
    if epoch is not None:
        facts["epoch"] = epoch
    top = str(parent[-1]) if parent else ""
    match step:
        case RunStep():
            facts |= {
                "on": top,
                "argv": step.argv,
                "env": step.key_env,
                "cwd": step.working_dir,
                "user": step.user,
                "network": step.network if step.network != "default" else network,
                "insecure": step.insecure,
                "hosts": list(hosts),
                "mounts": [_plain(mount) for mount in step.mounts],
                "scripts": [(script.name, script.content) for script in step.scripts],
                "for": step.architecture,
            }
            # A stage's number is no part of what it holds: `inputs` has its digest.
            for mount in facts["mounts"]:
                mount.pop("origin", None)
        case CopyStep() | AddStep():
            # With --link the layer is the same whatever is below it, unless names must be looked up there.
            free = step.link and _numeric(step.chown)
            facts |= {"on": "" if free else top, "to": step.destination, "link": step.link}
        case WorkdirStep():
            facts |= {"on": top, "path": step.path, "user": step.common.config.user}
    data = json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
    return sha256(data).hexdigest()


def _numeric(owner: str) -> bool:
    return all(part.isdecimal() for part in owner.split(":") if part)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in cast("Sequence[object]", value)]
    return value
