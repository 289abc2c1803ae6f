"""`--change`: each instruction, as a Dockerfile means it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from wherry.images.changes import apply_changes
from wherry.model.containers import HealthSpec
from wherry.model.errors import Invalid
from wherry.model.images import ImageConfig

BASE = ImageConfig(env=("A=1", "B=2"), labels=(("x", "y"),), working_dir="/srv")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('CMD ["a", "b c"]', {"command": ("a", "b c")}),
        ("cmd echo hi", {"command": ("/bin/sh", "-c", "echo hi")}),
        ("CMD [not json", {"command": ("/bin/sh", "-c", "[not json")}),
        ('ENTRYPOINT ["/init"]', {"entrypoint": ("/init",)}),
        ("ENTRYPOINT []", {"entrypoint": ()}),
        ("ENV A=3", {"env": ("A=3", "B=2")}),
        (
            'ENV C=d E="f g" H=\'i"j\' K=l\\ m',
            {"env": ("A=1", "B=2", "C=d", "E=f g", 'H=i"j', "K=l m")},
        ),
        ("ENV C all the rest = this", {"env": ("A=1", "B=2", "C=all the rest = this")}),
        ("ENV C=", {"env": ("A=1", "B=2", "C=")}),
        ("LABEL a=b \"c d\"='e f'", {"labels": (("a", "b"), ("c d", "e f"), ("x", "y"))}),
        (
            "EXPOSE 80 53/udp 8000-8002",
            {"exposed_ports": ("53/udp", "80/tcp", "8000/tcp", "8001/tcp", "8002/tcp")},
        ),
        ("VOLUME /data /logs", {"volumes": ("/data", "/logs")}),
        ('VOLUME ["/a b"]', {"volumes": ("/a b",)}),
        ("WORKDIR app/../web", {"working_dir": "/srv/web"}),
        ("WORKDIR /", {"working_dir": "/"}),
        ("USER nobody:users", {"user": "nobody:users"}),
        ("STOPSIGNAL SIGUSR1", {"stop_signal": "SIGUSR1"}),
        ("ONBUILD RUN make", {"on_build": ("RUN make",)}),
        ("HEALTHCHECK NONE", {"health": HealthSpec(test=("NONE",))}),
        (
            "HEALTHCHECK --interval=1m30s --timeout=500ms --retries=3 CMD curl -f localhost",
            {
                "health": HealthSpec(
                    test=("CMD-SHELL", "curl -f localhost"),
                    interval=90 * 10**9,
                    timeout=500 * 10**6,
                    retries=3,
                )
            },
        ),
    ],
)
def test_instructions(change: str, expected: dict[str, object]) -> None:
    changed = apply_changes(BASE, [change])
    for name, value in expected.items():
        assert getattr(changed, name) == value
    untouched = {"env", "labels", "working_dir", "command", "user"} - set(expected)
    assert all(getattr(changed, name) == getattr(BASE, name) for name in untouched)


def test_several_lines_and_continuations() -> None:
    changed = apply_changes(
        replace(BASE, shell=("s",)), ["USER me\n# a remark\nENV X=1 \\\n  Y=2", "", "CMD run"]
    )
    assert changed.user == "me"
    assert changed.env == ("A=1", "B=2", "X=1", "Y=2")
    assert changed.command == ("s", "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM debian", "FROM is not a valid change command"),
        ("RUN true", "RUN is not a valid change command"),
        ("CMD", "requires at least one argument"),
        ("ENV A", "must have two arguments"),
        ("ENV A=1 B", "can't find ="),
        ("ENV =1", "can not be blank"),
        ("EXPOSE 0", "Invalid containerPort"),
        ("EXPOSE 90-80", "Invalid containerPort"),
        ("EXPOSE 70000", "Invalid containerPort"),
        ("EXPOSE 80/xyz", "Invalid containerPort"),
        ("ONBUILD FROM x", "isn't allowed"),
        ("ONBUILD ONBUILD RUN x", "isn't allowed"),
        ('SHELL ["s"]', "SHELL is not a valid change command"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL nonsense", "invalid signal: nonsense"),
        (" \n# a remark", "file with no instructions"),
        ("HEALTHCHECK RUN x", "Unknown type"),
        ("HEALTHCHECK --wrong=1 CMD x", "Unknown flag"),
        ("HEALTHCHECK --interval=soon CMD x", "invalid duration"),
        ("LABEL a='b", "unterminated quote"),
        ('VOLUME [""]', "can not be an empty string"),
    ],
)
def test_what_is_refused(change: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        apply_changes(BASE, [change])
