"""What create accepts and refuses. The messages are what Docker Engine 28.5 answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.containers.fakes import House, make_image, spec
from wherry.model.containers import (
    ContainerSpec,
    DeviceSpec,
    HealthSpec,
    LogConfig,
    MountKind,
    MountSpec,
    Namespaces,
    RestartPolicy,
    Security,
    Ulimit,
)
from wherry.model.errors import Invalid, NotFound, Unsupported, WherryError
from wherry.model.resources import Limits
from wherry.model.views import Created


def bind(source: str, target: str, **more: Any) -> MountSpec:
    return MountSpec(MountKind.BIND, target, source, **more)


def legacy(text: str, **more: Any) -> MountSpec:
    source, target = text.split(":")[:2]
    return bind(source, target, legacy_bind=True, bind_text=text, **more)


def modes(**wanted: str) -> Namespaces:
    return Namespaces(**({"network": "none"} | wanted))


def log(driver: str, **options: str) -> LogConfig:
    return LogConfig(driver, tuple((k.replace("_", "-"), v) for k, v in options.items()))


REFUSED: list[tuple[dict[str, Any], type[WherryError], str]] = [
    ({"limits": Limits(memory=1000)}, Invalid, "Minimum memory limit allowed is 6MB"),
    (
        {"limits": Limits(nano_cpus=9 * 10**9)},
        Invalid,
        "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available",
    ),
    (
        {"security": Security(cap_add=("FOO",))},
        Invalid,
        'invalid CapAdd: unknown capability: "CAP_FOO"',
    ),
    ({"security": Security(options=("foo=bar",))}, Invalid, 'invalid --security-opt 2: "foo=bar"'),
    ({"security": Security(options=("foo",))}, Invalid, 'invalid --security-opt 1: "foo"'),
    (
        {"security": Security(options=("no-new-privileges=x",))},
        Invalid,
        'invalid --security-opt 2: "no-new-privileges=x"',
    ),
    ({"security": Security(options=("seccomp={bad",))}, Invalid, "decoding seccomp profile failed"),
    ({"security": Security(options=("apparmor=x",))}, Unsupported, "apparmor=x is not in"),
    ({"sysctls": (("kernel.foo", "1"),)}, Invalid, "sysctl kernel.foo is not in a separate"),
    ({"sysctls": (("vm.swappiness", "1"),)}, Invalid, "sysctl vm.swappiness is not in a separate"),
    (
        {"sysctls": (("net.core.somaxconn", "1"),), "namespaces": Namespaces(network="host")},
        Invalid,
        "not allowed in host network namespace",
    ),
    ({"ulimits": (Ulimit("foo", 1, 1),)}, Invalid, "invalid ulimit type: foo"),
    ({"ulimits": (Ulimit("nofile", 10, 1),)}, Invalid, "soft limit must be less than or equal"),
    (
        {"restart": RestartPolicy("always"), "auto_remove": True},
        Invalid,
        "can't create 'AutoRemove' container with restart policy",
    ),
    (
        {"restart": RestartPolicy("foo")},
        Invalid,
        "invalid restart policy: unknown policy 'foo'; use one of 'no', 'always', 'on-failure', or "
        "'unless-stopped'",
    ),
    (
        {"restart": RestartPolicy("always", 3)},
        Invalid,
        "invalid restart policy: maximum retry count can only be used with 'on-failure'",
    ),
    (
        {"restart": RestartPolicy("on-failure", -3)},
        Invalid,
        "invalid restart policy: maximum retry count cannot be negative",
    ),
    (
        {"mounts": (legacy("/x:y"),)},
        Invalid,
        "invalid volume specification: '/x:y': invalid mount config for type \"bind\": invalid mount "
        "path: 'y' mount path must be absolute",
    ),
    ({"mounts": (legacy("/tmp:/y"), legacy("/etc:/y"))}, Invalid, "Duplicate mount point: /y"),
    ({"mounts": (legacy("/tmp:/y/"), legacy("/etc:/y"))}, Invalid, "Duplicate mount point: /y"),
    ({"mounts": (legacy("/tmp:/"),)}, Invalid, "invalid specification: destination can't be '/'"),
    ({"mounts": (legacy("/tmp:/a/.."),)}, Invalid, "destination can't be '/'"),
    (
        {"mounts": (bind("/nonexist", "/y"),)},
        Invalid,
        'invalid mount config for type "bind": bind source path does not exist: /nonexist',
    ),
    (
        {"mounts": (bind("rel", "/y"),)},
        Invalid,
        "invalid mount config for type \"bind\": invalid mount path: 'rel' mount path must be absolute",
    ),
    (
        {"mounts": (bind("/tmp", ""),)},
        Invalid,
        'invalid mount config for type "bind": field Target must not be empty',
    ),
    (
        {"mounts": (MountSpec(MountKind.TMPFS, "/y", "/tmp"),)},
        Invalid,
        'invalid mount config for type "tmpfs": field Source must not be specified',
    ),
    (
        {"mounts": (MountSpec(MountKind.TMPFS, "rel", legacy_tmpfs=True),)},
        Invalid,
        "invalid mount path: 'rel' mount path must be absolute",
    ),
    (
        {"mounts": (MountSpec(MountKind.TMPFS, "/x", legacy_tmpfs=True, tmpfs_options="foo=1"),)},
        Invalid,
        'invalid tmpfs option "foo"',
    ),
    (
        {"mounts": (MountSpec(MountKind.VOLUME, "/x", "d/a"),)},
        Invalid,
        'create d/a: "d/a" includes invalid characters',
    ),
    ({"image_volumes": ("/x/..",)}, Invalid, "destination can't be '/'"),
    ({"image_volumes": ("/a\0b",)}, Invalid, "holds a NUL character"),
    ({"volumes_from": ("other",)}, Invalid, "No such container: other"),
    ({"volumes_from": ("other:xx",)}, Invalid, "invalid mode: xx"),
    ({"namespaces": modes(pid="foo")}, Invalid, "invalid PID mode: foo"),
    ({"namespaces": modes(ipc="foo")}, Invalid, "invalid IPC mode: foo"),
    ({"namespaces": modes(uts="foo")}, Invalid, "invalid UTS mode: foo"),
    ({"namespaces": modes(cgroup="foo")}, Invalid, "invalid cgroup namespace mode: foo"),
    ({"namespaces": modes(pid="container:nope")}, Invalid, "No such container: nope"),
    ({"published": (("80/tcp", "", "x"),)}, Invalid, 'invalid port specification: "x"'),
    ({"published": (("80/tcp", "", "9-8"),)}, Invalid, 'invalid port specification: "9-8"'),
    ({"published": (("80/tcp", "zz", "80"),)}, Invalid, "invalid IP address: zz"),
    ({"published": (("80-81/tcp", "", "80"),)}, Invalid, 'invalid port specification: "80-81"'),
    ({"links": ("a:b:c",)}, Invalid, "bad format for links: a:b:c"),
    ({"links": ("nope:b",)}, Invalid, "could not get container for nope: No such container: nope"),
    (
        {"namespaces": modes(uts="host"), "hostname": "x"},
        Invalid,
        "conflicting options: hostname and the UTS mode",
    ),
    (
        {"namespaces": modes(network="container:z"), "hostname": "x"},
        Invalid,
        "conflicting options: hostname and the network mode",
    ),
    (
        {"log": log("foo")},
        Invalid,
        'error looking up logging plugin foo: plugin "foo" not found',
    ),
    (
        {"log": log("json-file", foo="x")},
        Invalid,
        "unknown log opt 'foo' for json-file log driver",
    ),
    ({"log": log("local", foo="x")}, Invalid, "unknown log opt 'foo' for log driver local"),
    ({"log": log("json-file", max_size="x")}, Invalid, "invalid size for max-size: 'x'"),
    ({"log": log("json-file", mode="x")}, Invalid, "logger: logging mode not supported: x"),
    (
        {"log": log("json-file", max_buffer_size="1m")},
        Invalid,
        "logger: max-buffer-size option is only supported with 'mode=non-blocking'",
    ),
    ({"log": log("json-file", tag="{{.No}}")}, Invalid, "log-opt tag: there is no field No"),
    (
        {"oom_score_adj": 5000},
        Invalid,
        "Invalid value 5000, range for oom score adj is [-1000, 1000]",
    ),
    ({"shm_size": -5}, Invalid, "SHM size can not be less than 0"),
    (
        {"devices": (DeviceSpec("/dev/nope", "/dev/nope"),)},
        Invalid,
        'error gathering device information while adding custom device "/dev/nope"',
    ),
    ({"devices": (DeviceSpec("/dev/null", "/dev/x", "x"),)}, Invalid, "invalid device mode: x"),
    ({"device_cgroup_rules": ("foo",)}, Invalid, "invalid device cgroup format 'foo'"),
    (
        {"working_dir": "rel"},
        Invalid,
        "the working directory 'rel' is invalid, it needs to be an absolute path",
    ),
    ({"stop_signal": "FOO"}, Invalid, "invalid signal: FOO"),
    ({"env": ("=x",)}, Invalid, "invalid environment variable: =x"),
    ({"env": ("",)}, Invalid, "invalid environment variable: "),
    ({"extra_hosts": ("foo",)}, Invalid, 'bad format for add-host: "foo"'),
    ({"extra_hosts": ("foo:notip",)}, Invalid, 'invalid IP address in add-host: "notip"'),
    ({"runtime": "foo"}, Invalid, "unknown or invalid runtime name: foo"),
    (
        {"storage_options": (("size", "1g"),)},
        Unsupported,
        "--storage-opt is supported only for overlay over xfs",
    ),
    (
        {"health": HealthSpec(("CMD", "x"), interval=5)},
        Invalid,
        "Interval in Healthcheck cannot be less than 1ms",
    ),
    (
        {"annotations": (("", "x"),)},
        Invalid,
        "invalid Annotations: the empty string is not permitted as an annotation key",
    ),
    ({"cgroup_parent": "/a/../b"}, Invalid, "invalid cgroup parent"),
    ({"init": True}, Unsupported, "--init needs an init binary, and there is none here"),
]


@pytest.fixture
def create(tmp_path: Path) -> Callable[..., Created]:
    """A function that creates a container of a fresh house."""

    def run(wanted: ContainerSpec, name: str = "", house: House | None = None) -> Created:
        async def main() -> Created:
            async with (house or House(tmp_path)).open() as service:
                return await service.create(wanted, name)

        return asyncio.run(main())

    return run


@pytest.mark.parametrize(
    ("changes", "kind", "message"), REFUSED, ids=[message[:40] for *_, message in REFUSED]
)
def test_refused(
    create: Callable[..., Created], changes: dict[str, Any], kind: type[WherryError], message: str
) -> None:
    with pytest.raises(kind) as refused:
        create(spec("true", **changes))
    assert message in refused.value.message


def test_a_volume_where_something_is_mounted_is_none(
    tmp_path: Path, create: Callable[..., Created]
) -> None:
    mounts = (
        legacy(f"{tmp_path}:/data"),
        MountSpec(MountKind.TMPFS, "/x", legacy_tmpfs=True),
    )
    house = House(tmp_path)
    house.images.image = make_image(volumes=("/data", "/kept"))
    create(spec("true", image_volumes=("/data", "/x/"), mounts=mounts), house=house)
    (container,) = house.store
    assert [(m.target, m.kind) for m in container.mounts] == [
        ("/data", MountKind.BIND),
        ("/x", MountKind.TMPFS),
        ("/kept", MountKind.VOLUME),
    ]
    assert [kind for kind, _ in house.seen] == ["create", "create"]


def test_nothing_is_left_of_what_was_refused(
    tmp_path: Path, create: Callable[..., Created]
) -> None:
    with pytest.raises(NotFound, match="No such image: nope:x"):
        create(ContainerSpec("nope:x", command=("true",)))
    with pytest.raises(Invalid, match=r"Invalid container name \(x\)"):
        create(spec("true"), "x")
    house = House(tmp_path)
    house.images.image = make_image(command=None)
    with pytest.raises(Invalid, match="no command specified"):
        create(ContainerSpec("bb", namespaces=modes()), house=house)
    assert len(house.store) == 0


def test_warnings_name_what_is_missing(tmp_path: Path, create: Callable[..., Created]) -> None:
    house = House(tmp_path)
    house.images.image = make_image(volumes=("/data",))
    made = create(ContainerSpec("bb", command=("true",)), house=house)
    assert made.warnings == ()
    assert create(spec("true")).warnings == ()


def test_missing_sources_of_minus_v_are_no_mistake(create: Callable[..., Created]) -> None:
    create(spec("true", mounts=(legacy("/nonexist/some/where:/y"),)))


def test_what_is_kept(tmp_path: Path, create: Callable[..., Created]) -> None:
    house = House(tmp_path)
    house.images.image = make_image(
        entrypoint=("/entry",),
        command=("a",),
        env=("PATH=/p", "X=1"),
        labels=(("l", "i"),),
        user="5",
    )
    create(
        ContainerSpec("bb", env=("X=2",), labels=(("m", "c"),), namespaces=modes()), "web", house
    )
    kept = house.store.resolve("web")
    assert kept.argv == ("/entry", "a")
    assert kept.env == ("X=2", "PATH=/p")
    assert dict(kept.labels) == {"l": "i", "m": "c"}
    assert (kept.user, kept.stop_signal, kept.hostname) == ("5", "SIGTERM", kept.id[:12])
    assert (kept.spec.entrypoint, kept.spec.command) == (("/entry",), ("a",))
    assert kept.spec.log == LogConfig("json-file")


@pytest.mark.parametrize(
    ("entrypoint", "command", "argv"),
    [
        (None, None, ("/entry", "a")),
        (None, ("b",), ("/entry", "b")),
        (("e",), None, ("e",)),
        (("e",), ("b",), ("e", "b")),
        (("",), ("b",), ("b",)),
    ],
)
def test_entrypoint_and_command(
    tmp_path: Path, create: Callable[..., Created], entrypoint: Any, command: Any, argv: Any
) -> None:
    house = House(tmp_path)
    house.images.image = make_image(entrypoint=("/entry",), command=("a",))
    wanted = ContainerSpec("bb", command=command, entrypoint=entrypoint, namespaces=modes())
    create(wanted, "web", house)
    assert house.store.resolve("web").argv == argv


def test_the_image_s_shell_is_for_builds(tmp_path: Path, create: Callable[..., Created]) -> None:
    house = House(tmp_path)
    house.images.image = make_image(command=("a",), shell=("/bin/bash", "-c"))
    create(ContainerSpec("bb", namespaces=modes()), "web", house)
    assert house.store.resolve("web").spec.shell == ()
