"""Limits to files, golden for both versions; device rules against a plain reading of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import Conflict, Invalid, Unsupported
from wherry.model.resources import (
    ALL_DEVICES,
    DEFAULT_DEVICES,
    DENY_ALL,
    DeviceRate,
    DeviceRule,
    HugepageLimit,
    Limits,
    check_update,
    parse_cpu_list,
    validate,
    with_defaults,
)
from wherry.runtime.cgroups import device_program, plan_v1, plan_v2
from wherry.runtime.cgroups.devices import reduce
from wherry.runtime.cgroups.plan import blkio_to_io_weight, shares_to_weight
from wherry.testing.bpf import run_device

MB = 1 << 20
EVERYTHING = Limits(
    memory=64 * MB,
    memory_swap=96 * MB,
    memory_reservation=32 * MB,
    memory_swappiness=10,
    oom_kill_disable=True,
    nano_cpus=1_500_000_000,
    cpu_shares=512,
    cpu_rt_period=1_000_000,
    cpu_rt_runtime=1000,
    cpuset_cpus="0-1",
    cpuset_mems="0",
    pids_limit=50,
    blkio_weight=300,
    blkio_weight_devices=(DeviceRate(254, 0, 200),),
    blkio_device_read_bps=(DeviceRate(254, 0, 1048576),),
    blkio_device_write_iops=(DeviceRate(254, 0, 100),),
    devices=DEFAULT_DEVICES,
    hugepages=(HugepageLimit("2MB", 4 * MB),),
)


def lines(limits: Limits, version: int, memsw_now: int | None = None) -> list[str]:
    writes = plan_v1(limits, memsw_now=memsw_now) if version == 1 else plan_v2(limits)
    return [write.describe() for write in writes]


def test_v1_golden() -> None:
    assert lines(EVERYTHING, 1) == [
        "cpu.shares = 512",
        "cpu.cfs_period_us = 100000",
        "cpu.cfs_quota_us = 150000",
        "cpu.rt_period_us = 1000000",
        "cpu.rt_runtime_us = 1000",
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
        "memory.limit_in_bytes = 67108864",
        "memory.memsw.limit_in_bytes = 100663296",
        "memory.soft_limit_in_bytes = 33554432",
        "memory.swappiness = 10",
        "memory.oom_control = 1",
        "pids.max = 50",
        "blkio.weight = 300",
        "blkio.weight_device = 254:0 200",
        "blkio.throttle.read_bps_device = 254:0 1048576",
        "blkio.throttle.write_iops_device = 254:0 100",
        "hugetlb.2MB.limit_in_bytes = 4194304",
        "devices.deny = a",
        "devices.allow = c *:* m",
        "devices.allow = b *:* m",
        "devices.allow = c 1:3 rwm",
        "devices.allow = c 1:5 rwm",
        "devices.allow = c 1:7 rwm",
        "devices.allow = c 1:8 rwm",
        "devices.allow = c 1:9 rwm",
        "devices.allow = c 5:0 rwm",
        "devices.allow = c 5:1 rwm",
        "devices.allow = c 5:2 rwm",
        "devices.allow = c 10:200 rwm",
        "devices.allow = c 136:* rwm",
    ]


def test_v2_golden() -> None:
    limits = Limits(
        memory=64 * MB,
        memory_swap=96 * MB,
        memory_reservation=32 * MB,
        nano_cpus=1_500_000_000,
        cpu_shares=512,
        cpuset_cpus="0-1",
        pids_limit=-1,
        blkio_weight=300,
        blkio_device_read_bps=(DeviceRate(254, 0, 1048576),),
        blkio_device_write_iops=(DeviceRate(254, 0, 0),),
        devices=DEFAULT_DEVICES,
        hugepages=(HugepageLimit("2MB", 4 * MB),),
        unified=(("memory.high", "48M"),),
    )
    assert lines(limits, 2) == [
        "cpu.weight = 20",
        "cpu.max = 150000 100000",
        "cpuset.cpus = 0-1",
        "memory.max = 67108864",
        "memory.swap.max = 33554432",
        "memory.low = 33554432",
        "pids.max = max",
        "io.bfq.weight = 300",
        "io.max = 254:0 rbps=1048576",
        "io.max = 254:0 wiops=max",
        "hugetlb.2MB.max = 4194304",
        "memory.high = 48M",
    ]
    assert plan_v2(limits)[7].instead is not None


@pytest.mark.parametrize(
    ("limits", "now", "expected"),
    [
        (Limits(memory=10 * MB, memory_swap=20 * MB), None, ["limit", "memsw"]),
        (Limits(memory=10 * MB, memory_swap=20 * MB), 2**63 - 4096, ["limit", "memsw"]),
        (Limits(memory=10 * MB, memory_swap=20 * MB), 20 * MB, ["limit", "memsw"]),
        (Limits(memory=10 * MB, memory_swap=20 * MB), 15 * MB, ["memsw", "limit"]),
        (Limits(memory=10 * MB, memory_swap=-1), 15 * MB, ["memsw", "limit"]),
        (Limits(memory=-1), 15 * MB, ["memsw", "limit"]),
        (Limits(memory_swap=20 * MB), 15 * MB, ["memsw"]),
    ],
)
def test_memory_before_or_after_swap(limits: Limits, now: int | None, expected: list[str]) -> None:
    files = [write.file for write in plan_v1(limits, memsw_now=now)]
    assert files == [
        {"limit": "memory.limit_in_bytes", "memsw": "memory.memsw.limit_in_bytes"}[name]
        for name in expected
    ]


@given(
    first=st.tuples(st.integers(6, 100), st.integers(0, 100)),
    second=st.tuples(st.integers(6, 100), st.integers(0, 100)),
)
def test_no_update_passes_through_memory_above_the_sum(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    memory, memsw = first[0], sum(first)
    for write in plan_v1(Limits(memory=second[0], memory_swap=sum(second)), memsw_now=memsw):
        if write.file == "memory.limit_in_bytes":
            memory = int(write.value)
        else:
            memsw = int(write.value)
        assert memory <= memsw
    assert (memory, memsw) == (second[0], sum(second))


def test_swap_of_v2_is_the_difference() -> None:
    assert lines(Limits(memory=8 * MB, memory_swap=8 * MB), 2) == [
        "memory.max = 8388608",
        "memory.swap.max = 0",
    ]
    assert lines(Limits(memory=-1), 2) == ["memory.max = max", "memory.swap.max = max"]
    with pytest.raises(Invalid, match="always set the Memory limit"):
        plan_v2(Limits(memory_swap=8 * MB))


def test_conversions_keep_both_ends() -> None:
    assert [shares_to_weight(n) for n in (0, 2, 1024, 262144, 1 << 40)] == [1, 1, 39, 10000, 10000]
    assert [blkio_to_io_weight(n) for n in (10, 1000)] == [1, 10000]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(memory_swappiness=5),
        Limits(oom_kill_disable=True),
        Limits(cpu_rt_runtime=5),
        Limits(cpu_rt_period=5),
    ],
)
def test_what_only_v1_has(limits: Limits) -> None:
    with pytest.raises(Unsupported, match="needs? cgroup v1"):
        plan_v2(limits)


def test_unified_needs_v2_and_a_file_name() -> None:
    with pytest.raises(Unsupported, match=r"memory\.high: `unified` limits need cgroup v2"):
        plan_v1(Limits(unified=(("memory.high", "1"),)))
    for name in ("../x", "", ".", "a/b"):
        with pytest.raises(Invalid, match="is not the name of a cgroup file"):
            plan_v2(Limits(unified=((name, "1"),)))


def test_nothing_said_is_nothing_written() -> None:
    assert plan_v1(Limits()) == plan_v2(Limits()) == ()


RULES = st.builds(
    DeviceRule,
    allow=st.booleans(),
    kind=st.sampled_from("abc"),
    major=st.sampled_from((None, 1, 5)),
    minor=st.sampled_from((None, 3, 200)),
    access=st.sampled_from(("r", "w", "m", "rw", "rm", "wm", "rwm")),
)
ASKED = st.tuples(
    st.sampled_from("bc"), st.integers(1, 7), st.sampled_from((1, 5)), st.sampled_from((3, 200))
)


def plainly(rules: list[DeviceRule], kind: str, access: int, major: int, minor: int) -> bool:
    """Each kind of access by the last rule that covers it, all of them needed."""
    for letter, bit in (("m", 1), ("r", 2), ("w", 4)):
        if not access & bit:
            continue
        answer = False
        for rule in rules:
            if (
                rule.kind in ("a", kind)
                and rule.major in (None, major)
                and rule.minor in (None, minor)
                and letter in rule.access
            ):
                answer = rule.allow
        if not answer:
            return False
    return True


@given(rules=st.lists(RULES, max_size=7), asked=ASKED)
def test_device_programs_never_allow_what_the_rules_do_not(
    rules: list[DeviceRule], asked: tuple[str, int, int, int]
) -> None:
    kind, access, major, minor = asked
    try:
        program = device_program(rules)
    except Unsupported:
        return
    answer = run_device(program, {"b": 1, "c": 2}[kind], access, major, minor)
    single = access in (1, 2, 4)
    # The kernel's v1 table wants one exception to cover all that is asked at once; of separate
    # exceptions for reading and writing neither does. One kind of access is decided exactly.
    if single:
        assert bool(answer) == plainly(rules, kind, access, major, minor)
    elif answer:
        assert plainly(rules, kind, access, major, minor)


def test_the_default_devices() -> None:
    program = device_program(DEFAULT_DEVICES)
    allowed = {
        (major, minor)
        for major in range(256)
        for minor in (*range(12), 200, 229)
        if run_device(program, 2, 6, major, minor)
    }
    tty = {(136, minor) for minor in (*range(12), 200, 229)}
    assert allowed - tty == {(1, n) for n in (3, 5, 7, 8, 9)} | {(5, n) for n in (0, 1, 2)} | {
        (10, 200)
    }
    assert run_device(program, 1, 1, 254, 0) == 1
    assert run_device(program, 1, 2, 254, 0) == 0
    assert run_device(device_program(ALL_DEVICES), 1, 7, 254, 0) == 1
    assert run_device(device_program(DENY_ALL), 2, 2, 1, 3) == 0
    assert run_device(device_program([]), 2, 2, 1, 3) == 0


def test_a_rule_for_both_kinds_is_two_lines() -> None:
    rules = [*DENY_ALL, DeviceRule.parse("a 7:* r")]
    assert lines(Limits(devices=tuple(rules)), 1) == [
        "devices.deny = a",
        "devices.allow = b 7:* r",
        "devices.allow = c 7:* r",
    ]


def test_a_denial_within_a_wider_rule_is_refused_not_lost() -> None:
    narrow = DeviceRule(False, "c", 1, 3)
    with pytest.raises(Unsupported, match=r"'c 1:3 rwm' takes away a part of 'c \*:\* rwm'"):
        reduce([*DENY_ALL, DeviceRule.parse("c *:* rwm"), narrow])
    assert reduce([*ALL_DEVICES, narrow]).exceptions == (narrow,)
    assert reduce([*DENY_ALL, DeviceRule.parse("c 1:3 rw"), narrow]).exceptions == ()


@given(RULES)
def test_device_rules_read_what_they_write(rule: DeviceRule) -> None:
    parsed = DeviceRule.parse(rule.render())
    assert (parsed.kind, parsed.major, parsed.minor) == (rule.kind, rule.major, rule.minor)
    assert set(parsed.access) == set(rule.access)


@pytest.mark.parametrize("text", ["x 1:3 rwm", "c 1:3 rwmz", "c 1 r", "c 1:3", "", "c 1:3 rwm\n"])
def test_bad_device_rules(text: str) -> None:
    with pytest.raises(Invalid, match="invalid device cgroup format"):
        DeviceRule.parse(text)


# The words of Docker Engine 28.5.
@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(memory=MB), "Minimum memory limit allowed is 6MB"),
        (Limits(memory=10 * MB, memory_swap=5 * MB), "Minimum memoryswap limit should be larger"),
        (Limits(memory_swap=50 * MB), "You should always set the Memory limit"),
        (Limits(memory=10 * MB, memory_reservation=20 * MB), "can not be less than memory reserv"),
        (Limits(memory_reservation=MB), "Minimum memory reservation allowed is 6MB"),
        (
            Limits(memory_swappiness=200),
            "Invalid value: 200, valid memory swappiness range is 0-100",
        ),
        (Limits(nano_cpus=10**9, cpu_quota=5000), "Nano CPUs and CPU Quota cannot both be set"),
        (Limits(nano_cpus=10**9, cpu_period=5000), "Nano CPUs and CPU Period cannot both be set"),
        (Limits(nano_cpus=3 * 10**9), "range of CPUs is from 0.01 to 2.00, as there are only 2"),
        (Limits(nano_cpus=-1), "range of CPUs is from 0.01 to 2.00"),
        (Limits(memory=-1), "Minimum memory limit allowed is 6MB"),
        (Limits(cpu_shares=-2), r"invalid CPU shares \(-2\): value must be a positive integer"),
        (Limits(cpu_period=10), "CPU cfs period can not be less than 1ms"),
        (Limits(cpu_quota=100), "CPU cfs quota can not be less than 1ms"),
        (Limits(cpuset_cpus="abc"), "Invalid value abc for cpuset cpus: invalid format: abc"),
        (Limits(cpuset_mems="x"), "Invalid value x for cpuset mems: invalid format: x"),
        (Limits(blkio_weight=5), "Range of blkio weight is from 10 to 1000"),
        (Limits(blkio_weight_devices=(DeviceRate(1, 1, 5),)), "Range of blkio weight"),
    ],
)
def test_contradictions_are_refused_in_dockers_words(limits: Limits, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        validate(limits, cpus=2)


def test_what_docker_takes_is_taken() -> None:
    validate(Limits(memory_swap=-1, cpu_quota=-1, cpu_shares=1, pids_limit=-5), cpus=2)
    validate(Limits(nano_cpus=2 * 10**9, cpuset_cpus="0,1", blkio_weight=10), cpus=2)
    assert with_defaults(Limits(memory=10 * MB)).memory_swap == 20 * MB
    assert with_defaults(Limits(memory=10 * MB, memory_swap=-1)).memory_swap == -1


def test_merging_puts_what_is_said_over_the_rest() -> None:
    merged = Limits(memory=5, pids_limit=3).merged(Limits(pids_limit=7, cpuset_cpus="0"))
    assert merged == Limits(memory=5, pids_limit=7, cpuset_cpus="0")


@pytest.mark.parametrize(
    ("current", "update", "message"),
    [
        (Limits(nano_cpus=1), Limits(cpu_quota=5000), "CPU Quota cannot be updated as NanoCPUs"),
        (Limits(nano_cpus=1), Limits(cpu_period=5000), "CPU Period cannot be updated as NanoCPUs"),
        (Limits(cpu_quota=5000), Limits(nano_cpus=1), "Nano CPUs cannot be updated as CPU Quota"),
        (Limits(cpu_period=5000), Limits(nano_cpus=1), "Nano CPUs cannot be updated as CPU Period"),
        (Limits(), Limits(memory=100 * MB), "update the memoryswap at the same time"),
        (Limits(memory_swap=-1), Limits(memory=100 * MB), "update the memoryswap at the same time"),
        (Limits(memory=50 * MB), Limits(memory=200 * MB), "Memory limit should be smaller than"),
        (Limits(memory=200 * MB), Limits(memory_swap=100 * MB), "Minimum memoryswap limit"),
        (Limits(), Limits(memory_swap=100 * MB), "You should always set the Memory limit"),
    ],
)
def test_updates_that_do_not_go_together(current: Limits, update: Limits, message: str) -> None:
    validate(update, update=True)
    with pytest.raises((Conflict, Invalid), match=message):
        check_update(current, update)


@pytest.mark.parametrize(
    ("current", "update"),
    [
        (Limits(memory=50 * MB), Limits(memory=100 * MB)),
        (Limits(memory=50 * MB), Limits(memory_swap=60 * MB)),
        (Limits(), Limits(memory=50 * MB, memory_swap=50 * MB)),
        (Limits(), Limits(memory_swap=-1)),
        (Limits(memory=50 * MB), Limits(memory_reservation=90 * MB)),
    ],
)
def test_updates_that_go_together(current: Limits, update: Limits) -> None:
    validate(update, update=True)
    check_update(current, update)


@given(st.sets(st.integers(0, 300), max_size=20))
def test_cpu_lists(numbers: set[int]) -> None:
    assert parse_cpu_list(",".join(map(str, sorted(numbers)))) == numbers
    assert parse_cpu_list("0-3, 5".replace(" ", "")) == {0, 1, 2, 3, 5}
    for bad in ("3-1", "1,,2", "-1", "99999999", "0-99999999"):
        with pytest.raises(Invalid):
            parse_cpu_list(bad)
