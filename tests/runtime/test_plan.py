"""The plan of a start is data: its text is golden, and it survives the way to the supervisor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Invalid
from wherry.model.oci import (
    DEFAULT_MASKED_PATHS,
    DEFAULT_READONLY_PATHS,
    HOST,
    Device,
    Emulator,
    IdMap,
    Mount,
    NamespaceSet,
    OverlayRoot,
    PathRoot,
    Process,
    Rlimit,
    RuntimeSpec,
    User,
)
from wherry.model.resources import Limits
from wherry.runtime import steps, wire
from wherry.runtime.plan import Plan, SlotProfile, Tree, plan_guard, plan_launch, plan_slot

SPEC = RuntimeSpec(
    id="c" * 64,
    process=Process(("sh", "-c", "true"), ("A=b",), "/srv", User("bob:wheel")),
    root=OverlayRoot(("/d/layers/2", "/d/layers/1"), "/d/upper", "/d/work"),
    hostname="box",
    mounts=(
        Mount("/data", "bind", "/srv/data", ("rbind", "ro")),
        Mount("/scratch", "tmpfs", "tmpfs", ("nosuid", "size=1m")),
    ),
    devices=(Device("/dev/fuse", "/dev/fuse"),),
    masked_paths=DEFAULT_MASKED_PATHS,
    readonly_paths=DEFAULT_READONLY_PATHS,
    cgroup_path="wherry/e/c",
    sysctls=(("net.ipv4.ip_forward", "1"),),
    read_only_root=True,
)
GOLDEN = """\
host: cgroup wherry/e/c
host: overlay of 2 layers, upper /d/upper
host: open /srv/data (rbind,ro)
host: device /dev/fuse as /dev/fuse
child: move the furnished /proc onto the root
child: move the furnished /sys onto the root
child: move the furnished /dev onto the root
child: attach /srv/data on /data
child: mount a new tmpfs on /scratch (nosuid,size=1m)
child: set the host name box
child: set the sysctl net.ipv4.ip_forward to 1
child: enter the root read-only (rprivate)
child: become bob:wheel in /srv
child: exec sh -c true
"""


def test_text_of_a_plan() -> None:
    text = plan_launch(SPEC).describe()
    assert text[text.index("host:") :] == GOLDEN
    assert "slot: mask /proc/kcore" in text


def test_usual_profile_is_the_warm_one() -> None:
    assert plan_launch(SPEC).profile == SlotProfile()
    host = replace(SPEC, namespaces=NamespaceSet(network=HOST, user=HOST))
    assert plan_launch(host).profile != SlotProfile()


def test_masks_come_after_everything_that_is_furnished() -> None:
    """A mask made before /sys is mounted would hide nothing."""
    profile = SlotProfile()
    assert not any(isinstance(step, steps.Mask) for step in plan_slot(profile))
    assert all(isinstance(step, (steps.Mask, steps.ReadOnly)) for step in plan_guard(profile))


def test_host_network_in_a_user_namespace_binds_the_hosts_sys() -> None:
    profile = SlotProfile(namespaces=NamespaceSet(network=HOST))
    assert steps.BindHost("/sys", "/sys", ("rbind", "rro")) in plan_slot(profile)


def test_plan_survives_the_wire() -> None:
    plan = plan_launch(replace(SPEC, root=PathRoot("/r"), limits=Limits(memory=1 << 30)))
    assert Plan.from_wire(plan.to_wire()) == plan


def test_an_emulator_is_handed_over_as_the_hosts_own() -> None:
    emulator = Emulator("arm64", "/usr/bin/qemu-aarch64-static", b"\x7fELF", b"\xff" * 4)
    plan = plan_launch(replace(SPEC, emulator=emulator))
    assert plan.trees[-1] == Tree(emulator.path, ("ro",), foreign=True)
    said = plan.describe().splitlines()
    at = said.index("child: have /usr/bin/qemu-aarch64-static run programs of arm64")
    # /proc is there, and the host can still be seen.
    assert said.index("child: move the furnished /proc onto the root") < at
    assert at < said.index("child: enter the root read-only (rprivate)")
    assert Plan.from_wire(plan.to_wire()) == plan
    with pytest.raises(Invalid, match="user namespace"):
        plan_launch(replace(SPEC, emulator=emulator, namespaces=NamespaceSet(user=HOST)))


_TEXT = st.text(max_size=20)
_PROCESSES = st.builds(
    Process,
    st.lists(_TEXT, min_size=1, max_size=4).map(tuple),
    st.lists(_TEXT, max_size=4).map(tuple),
    _TEXT,
    st.builds(User, _TEXT, st.integers(0, 2**31), st.integers(0, 2**31)),
    st.booleans(),
    bounding=st.integers(0, 2**41 - 1),
    seccomp=st.binary(max_size=64),
    rlimits=st.lists(st.builds(Rlimit, _TEXT, st.integers(), st.integers()), max_size=3).map(tuple),
)


@given(_PROCESSES)
def test_decode_undoes_encode(process: Process) -> None:
    assert wire.decode(wire.encode(process)) == process


@given(st.lists(st.builds(IdMap, st.integers(), st.integers(), st.integers())).map(tuple))
def test_tuples_stay_tuples(lines: tuple[IdMap, ...]) -> None:
    assert wire.decode(wire.encode(lines)) == lines


@pytest.mark.parametrize(
    "data", [{"@": "Popen", "args": ["x"]}, {"@": "Plan", "id": 1}, {"@": "User", "nam": "x"}]
)
def test_unknown_types_and_fields_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        wire.decode(data)


def test_a_device_outside_of_dev_is_made_in_dev_and_moved() -> None:
    devices = (Device("/dev/fuse", "/dev/fuse"), Device("/opt/x/../nul", "/dev/null"))
    plan = plan_launch(replace(SPEC, devices=devices))
    made = Device("/dev/.elsewhere-1", "/dev/null")
    assert plan.devices == (devices[0], made)
    move = steps.MoveNode(made.path, "/opt/nul")
    order = [type(step).__name__ for step in plan.steps]
    assert plan.steps[order.index("MoveNode")] == move
    assert order.index("AttachTree") < order.index("MoveNode") < order.index("EnterRoot")
