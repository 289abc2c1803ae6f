"""Seccomp filters: what is compiled says what the profile says, here and in the kernel."""

from __future__ import annotations

import ctypes
import errno
import json
import operator
import os
import platform
import struct
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wherry.model.errors import Invalid, Unsupported
from wherry.runtime.capabilities import ALL, DEFAULT, mask_of
from wherry.runtime.seccomp import (
    Filter,
    compile_filter,
    default_profile,
    default_program,
    kernel_version,
    parse_oci,
    parse_profile,
    resolve,
)
from wherry.runtime.seccomp.architectures import ARCHITECTURES
from wherry.runtime.seccomp.rules import Argument, Op, Rule
from wherry.runtime.seccomp.syscalls import ABIS, X32_BIT, known_names, table
from wherry.testing.bpf import run_classic, seccomp_data

KILL, ERRNO, ALLOW = 0x8000_0000, 0x0005_0000, 0x7FFF_0000
EPERM, ENOSYS = ERRNO | 1, ERRNO | 38
U32, U64 = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF
X86_64, I386, AARCH64, ARM = 0xC000_003E, 0x4000_0003, 0xC000_00B7, 0x4000_0028
KERNEL = (6, 18)
COMPARE: dict[Op, Callable[[int, int], bool]] = {
    Op.NE: operator.ne,
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.EQ: operator.eq,
    Op.GE: operator.ge,
    Op.GT: operator.gt,
}


def naive(filter: Filter, native: str, audit: int, nr: int, args: tuple[int, ...]) -> int:
    """What `filter` says of one call, by looking through its rules one after the other."""
    abi = {X86_64: "x86_64", I386: "i386", AARCH64: "aarch64", ARM: "arm"}.get(audit)
    if audit == X86_64 and X32_BIT <= nr < U32:
        abi = "x32"
    listed = {a.abi for name in filter.architectures if (a := ARCHITECTURES[name])} | {native}
    beyond = ALLOW if filter.default_ret == ALLOW else ENOSYS
    if audit == X86_64 and nr == U32:
        return beyond if listed & {"x86_64", "x32"} else KILL
    if abi not in listed:
        return KILL
    numbers = table(abi)
    names = {name for name, number in numbers.items() if number == nr}
    rules = [rule for rule in filter.rules if names & set(rule.names)]
    for rule in sorted(rules, key=lambda rule: bool(rule.arguments)):
        if all(holds(argument, args, abi, names) for argument in rule.arguments):
            return rule.ret
    named = [numbers[name] for rule in filter.rules for name in rule.names if name in numbers]
    return filter.default_ret if nr <= max(named, default=-1) else beyond


def holds(argument: Argument, args: tuple[int, ...], abi: str, names: set[str]) -> bool:
    bits = U64
    if abi in ("i386", "arm"):
        bits = U32
    if names & {"socket", "socketpair"} and argument.index == 0:
        bits = U32
    actual, value, two = (
        n & bits for n in (args[argument.index], argument.value, argument.value_two)
    )
    if argument.op is Op.MASKED_EQ:
        return actual & value == two & value
    return COMPARE[argument.op](actual, value)


def ask(program: bytes, audit: int, nr: int, *args: int) -> int:
    return run_classic(program, seccomp_data(audit, nr, args))[0]


NAMES = st.sampled_from(
    "read write open close socket personality clone clone3 mount mseal statmount removexattrat "
    "cacheflush socketcall arch_prctl no_such_call".split()
)
EDGES = (0, 1, 40, U32 - 1, U32, U32 + 1, U32 + 41, 1 << 63, U64)
WORDS = st.sampled_from(EDGES) | st.integers(0, U64)
ARGUMENTS = st.builds(Argument, st.integers(0, 5), st.sampled_from(Op), WORDS, WORDS)
RETS = st.sampled_from((ALLOW, EPERM, ENOSYS, ERRNO | 77, KILL, 0, 0x0003_0000, 0x7FFC_0000))
RULES = st.builds(
    Rule,
    names=st.lists(NAMES, min_size=1, max_size=4).map(tuple),
    ret=RETS,
    arguments=st.lists(ARGUMENTS, max_size=3).map(tuple),
)
FILTERS = st.builds(
    Filter,
    default_ret=RETS,
    rules=st.lists(RULES, max_size=8).map(tuple),
    architectures=st.lists(st.sampled_from(sorted(ARCHITECTURES)), max_size=4).map(tuple),
)
NUMBERS = (
    st.sampled_from(sorted({n + d for abi in ABIS for n in table(abi).values() for d in (0, 1)}))
    | st.integers(0, U32)
    | st.sampled_from((X32_BIT - 1, X32_BIT, U32))
)


@settings(max_examples=300)
@given(
    filter=FILTERS,
    native=st.sampled_from(("x86_64", "aarch64")),
    audit=st.sampled_from((X86_64, I386, AARCH64, ARM, 0x1234)),
    numbers=st.lists(NUMBERS, min_size=1, max_size=8),
    args=st.lists(WORDS, min_size=6, max_size=6).map(tuple),
)
def test_compiled_is_what_the_rules_say(
    filter: Filter, native: str, audit: int, numbers: list[int], args: tuple[int, ...]
) -> None:
    program = compile_filter(filter, arch=native)
    named = [table(abi).get(name) for r in filter.rules for name in r.names for abi in ABIS]
    for nr in numbers + [n for n in named if n is not None]:
        assert ask(program, audit, nr, *args) == naive(filter, native, audit, nr, args)


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
@pytest.mark.parametrize("capabilities", [0, DEFAULT, ALL])
def test_the_default_program_for_every_number(arch: str, capabilities: int) -> None:
    resolved = resolve(default_profile(), arch=arch, capabilities=capabilities, kernel=KERNEL)
    program = default_program(capabilities, arch=arch, kernel=KERNEL)
    abis = {"x86_64": (X86_64, I386), "aarch64": (AARCH64, ARM)}[arch]
    samples = [*range(0, 480, 3), X32_BIT, X32_BIT + 514, X32_BIT + 548, 983042, 1 << 29, U32]
    for audit in (*abis, 0):
        for nr in samples:
            for args in ((0,) * 6, (40, *(0,) * 5), (0x1000_0000, *(1,) * 5)):
                assert ask(program, audit, nr, *args) == naive(resolved, arch, audit, nr, args)


def test_the_default_profile_answers_as_dockers_did() -> None:
    """Each line was asked of a container of Docker Engine 28.5, but for the one it got wrong."""
    program = default_program(DEFAULT, arch="x86_64", kernel=KERNEL)
    numbers = table("x86_64")
    asked = {name: ask(program, X86_64, numbers[name]) for name in numbers}
    assert asked["mseal"] == asked["removexattrat"] == asked["getpriority"] == ALLOW
    assert asked["io_uring_setup"] == asked["lsm_list_modules"] == asked["mount"] == EPERM
    assert asked["keyctl"] == asked["uselib"] == asked["create_module"] == EPERM
    assert asked["open_tree_attr"] == asked["clone3"] == ENOSYS
    assert asked["ptrace"] == asked["chroot"] == asked["arch_prctl"] == ALLOW
    personality, socket = numbers["personality"], numbers["socket"]
    tried = {0, 8, *(1 << bit for bit in range(33)), *(8 | 1 << bit for bit in range(4, 33))}
    allowed = sorted(p for p in tried if ask(program, X86_64, personality, p) == ALLOW)
    assert allowed == [0, 8, 0x20000, 0x20008]
    assert ask(program, X86_64, personality, U32) == ALLOW
    assert ask(program, X86_64, socket, 40, 1) == EPERM
    assert ask(program, X86_64, socket, 1, 1) == ALLOW
    # Docker's filter compares all 64 bits and lets this AF_VSOCK socket through.
    assert ask(program, X86_64, socket, 0x1_0000_0028, 1) == EPERM
    assert ask(program, X86_64, 1000) == ask(program, X86_64, U32) == ENOSYS
    assert ask(program, X86_64, X32_BIT + 39) == ALLOW
    assert ask(program, X86_64, X32_BIT + 467) == EPERM
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert ask(program, X86_64, numbers["clone"], flag | 17) == EPERM
    assert ask(program, X86_64, numbers["clone"], 0x3D0F00) == ALLOW


def test_capabilities_and_the_kernel_open_calls() -> None:
    numbers = table("x86_64")

    def allowed(mask: int, kernel: tuple[int, int] = KERNEL) -> set[str]:
        program = default_program(mask, arch="x86_64", kernel=kernel)
        return {name for name, nr in numbers.items() if ask(program, X86_64, nr) == ALLOW}

    nothing = allowed(0)
    admin = allowed(mask_of(["SYS_ADMIN"])) - nothing
    assert {"mount", "unshare", "setns", "clone3", "bpf", "umount2"} < admin
    assert allowed(mask_of(["SYS_CHROOT"])) - nothing == {"chroot"}
    assert allowed(mask_of(["SYS_TIME"])) - nothing == {"clock_settime", "settimeofday"}
    assert nothing - allowed(0, (4, 7)) == {"ptrace", "process_vm_readv", "process_vm_writev"}


def test_compiling_is_quick() -> None:
    resolved = resolve(default_profile(), arch="x86_64", capabilities=DEFAULT, kernel=KERNEL)
    best = min(_timed(lambda: compile_filter(resolved, arch="x86_64")) for _ in range(5))
    assert best < 0.02
    assert default_program(DEFAULT, arch="x86_64", kernel=KERNEL) is default_program(
        DEFAULT, arch="x86_64", kernel=KERNEL
    )


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def test_a_filter_of_more_than_4096_instructions_is_refused() -> None:
    rules = tuple(Rule(("read",), ALLOW, (Argument(1, Op.GT, n << 33),)) for n in range(900))
    with pytest.raises(Invalid, match="the kernel takes 4096"):
        compile_filter(Filter(EPERM, rules), arch="x86_64")


def test_an_unknown_machine_is_refused() -> None:
    with pytest.raises(Unsupported, match="seccomp on riscv64"):
        compile_filter(Filter(ALLOW), arch="riscv64")


def entry(**over: object) -> dict[str, object]:
    return {"names": ["getpriority"], "action": "SCMP_ACT_ERRNO", **over}


def profile(*entries: dict[str, object], **over: object) -> str:
    return json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries, **over})


def told(text: str, nr: int, *args: int, capabilities: int = 0) -> int:
    resolved = resolve(parse_profile(text), arch="x86_64", capabilities=capabilities, kernel=KERNEL)
    return ask(compile_filter(resolved, arch="x86_64"), X86_64, nr, *args)


GETPRIORITY = 140


def args(*pairs: tuple[int, int, str]) -> list[dict[str, object]]:
    return [{"index": i, "value": v, "op": f"SCMP_CMP_{op}"} for i, v, op in pairs]


def test_files_are_read_as_docker_reads_them() -> None:
    conditional = entry(errnoRet=6, args=args((0, 2, "EQ")))
    assert told(profile(entry(errnoRet=5), conditional), GETPRIORITY, 2) == ERRNO | 5
    assert told(profile(conditional, entry(errnoRet=5)), GETPRIORITY, 2) == ERRNO | 5
    assert told(profile(entry(errnoRet=6), entry(errnoRet=5)), GETPRIORITY) == ERRNO | 6
    assert told(profile(conditional), GETPRIORITY, 1) == ALLOW
    either = profile(entry(args=args((0, 0, "GT"), (0, 2, "LT"))))
    assert [told(either, GETPRIORITY, n) for n in range(4)] == [EPERM] * 4
    both = profile(entry(args=args((0, 1, "EQ"), (1, 1, "EQ"))))
    assert [told(both, GETPRIORITY, 1, n) for n in range(2)] == [ALLOW, EPERM]
    masked = args((0, 2, "MASKED_EQ"))
    masked[0]["valueTwo"] = 3
    assert [told(profile(entry(args=masked)), GETPRIORITY, n) for n in (0, 2, 3)] == [
        ALLOW,
        EPERM,
        EPERM,
    ]
    assert told(profile({"name": "getpriority", "action": "SCMP_ACT_ERRNO"}), GETPRIORITY) == EPERM
    assert told(profile(entry(names=["foobar", "getpriority"])), GETPRIORITY) == EPERM
    assert told(profile(entry(), architectures=["SCMP_ARCH_X86"]), GETPRIORITY) == EPERM
    assert told(profile(entry(action="SCMP_ACT_KILL")), GETPRIORITY) == 0
    assert told(profile(entry(action="SCMP_ACT_TRACE", errnoRet=7)), GETPRIORITY) == 0x7FF0_0007


def test_conditions() -> None:
    both = {"caps": ["CAP_CHOWN", "SYS_ADMIN"], "arches": ["amd64"]}
    text = profile(entry(includes=both))
    assert told(text, GETPRIORITY, capabilities=mask_of(["CHOWN"])) == ALLOW
    assert told(text, GETPRIORITY, capabilities=mask_of(["CHOWN", "SYS_ADMIN"])) == EPERM
    text = profile(entry(excludes={"caps": ["CAP_CHOWN", "CAP_SYS_ADMIN"]}))
    assert told(text, GETPRIORITY, capabilities=mask_of(["CHOWN"])) == ALLOW
    assert told(text, GETPRIORITY) == EPERM
    assert told(profile(entry(includes={"arches": ["x86_64", "x86"]})), GETPRIORITY) == ALLOW
    assert told(profile(entry(excludes={"arches": ["amd64"]})), GETPRIORITY) == ALLOW
    assert told(profile(entry(includes={"minKernel": "6.18"})), GETPRIORITY) == EPERM
    assert told(profile(entry(includes={"minKernel": "6.19"})), GETPRIORITY) == ALLOW
    assert told(profile(entry(excludes={"minKernel": "4.8"})), GETPRIORITY) == ALLOW


def test_arch_map_chooses_the_siblings() -> None:
    arch_map = [
        {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
    ]
    parsed = parse_profile(profile(archMap=arch_map))
    for arch, names in (
        ("amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86")),
        ("arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    ):
        resolved = resolve(parsed, arch=arch, capabilities=0, kernel=KERNEL)
        assert resolved.architectures == names
    program = compile_filter(
        resolve(parsed, arch="x86_64", capabilities=0, kernel=KERNEL), arch="x86_64"
    )
    assert ask(program, X86_64, X32_BIT + 39) == KILL


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "Decoding seccomp profile failed"),
        ("[" * 100_000, "Decoding seccomp profile failed"),
        ("[]", "the document: expected an object, found list"),
        ("{}", "no defaultAction"),
        ('{"defaultAction":5}', "defaultAction: expected a string, found int"),
        ('{"defaultAction":"FOO"}', "string FOO is not a valid action for seccomp"),
        (profile(entry(action="FOO")), r"syscalls\[0\].action: string FOO is not a valid action"),
        (profile(entry(args=args((0, 1, "X")))), r"args\[0\].op: string SCMP_CMP_X is not a valid"),
        (profile(entry(args=args((6, 1, "EQ")))), "only have up to 6 arguments"),
        (profile(entry(args=args((0, -1, "EQ")))), "does not fit 64 unsigned bits"),
        (profile(entry(args=args((0, 1 << 64, "EQ")))), "does not fit 64 unsigned bits"),
        (profile(entry(errnoRet=4096)), "errno 4096 is not within 0..4095"),
        (profile(entry(errnoRet=True)), "expected a whole number, found bool"),
        (profile(entry(names="read")), r"names: expected a list, found str"),
        (profile(entry(name="read")), "both 'name' and 'names' are specified"),
        (profile(architectures=["SCMP_ARCH_FOO"]), "string SCMP_ARCH_FOO is not a valid arch"),
        (profile(archMap=[{"architecture": "x"}]), "string x is not a valid arch"),
        (
            profile(architectures=["SCMP_ARCH_X86"], archMap=[{"architecture": "SCMP_ARCH_X86"}]),
            "both 'architectures' and 'archMap' are specified",
        ),
        (profile(flags=["FOO"]), "seccomp flag FOO is not known"),
        (
            profile(entry(includes={"caps": ["FOO"]})),
            r'includes.caps: unknown capability: "CAP_FOO"',
        ),
        (profile(entry(includes={"minKernel": "4"})), 'invalid kernel version: "4"'),
        (profile(entry(includes={"minKernel": "4.8.1"})), 'invalid kernel version: "4.8.1"'),
    ],
)
def test_bad_files_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        parse_profile(text)


def test_what_needs_a_listener_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="SCMP_ACT_NOTIFY"):
        parse_profile(profile(entry(action="SCMP_ACT_NOTIFY")))
    with pytest.raises(Unsupported, match="listenerPath"):
        parse_oci({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/x"})


def test_oci_objects() -> None:
    filter = parse_oci(
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "defaultErrnoRet": 13,
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_MIPS"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
            "syscalls": [{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}],
        }
    )
    assert filter.flag_bits == 6
    program = compile_filter(filter, arch="x86_64")
    assert [ask(program, X86_64, nr) for nr in (0, 1, 2)] == [ALLOW, ALLOW, ENOSYS]
    assert parse_oci({"defaultAction": "SCMP_ACT_ALLOW", "flags": []}).flag_bits == 0
    assert parse_oci({"defaultAction": "SCMP_ACT_ALLOW"}).flag_bits == 4
    with pytest.raises(Invalid):
        parse_oci(None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    "defaultAction syscalls names action args index op value flags architectures".split()
                ),
                inner | st.just("SCMP_ACT_ALLOW"),
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_is_read_or_refused(document: object) -> None:
    for read in (parse_oci, lambda value: parse_profile(json.dumps(value))):
        try:
            compile_filter_of = read(document)
        except (Invalid, Unsupported):
            continue
        assert compile_filter_of is not None


def test_kernel_versions() -> None:
    assert kernel_version("6.18.44-amd64") == (6, 18)
    assert kernel_version("5.4") == (5, 4)
    with pytest.raises(Invalid):
        kernel_version("rolling")


def test_tables_hold_the_newer_calls() -> None:
    assert table("x86_64")["file_setattr"] == table("aarch64")["file_setattr"] == 469
    assert table("x32")["rt_sigaction"] == X32_BIT | 512
    assert table("arm")["cacheflush"] == 0x0F0002
    assert {"mseal", "statmount", "listmount", "map_shadow_stack", "fchmodat2"} < known_names()
    for abi in ABIS:
        numbers = list(table(abi).values())
        assert len(numbers) - len(set(numbers)) <= (2 if abi == "arm" else 0)


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def under(program: bytes, calls: list[tuple[int, ...]]) -> list[int]:
    """The errno (0 for none) of each of `calls`, made in a child that runs under `program`."""
    libc = ctypes.CDLL(None, use_errno=True)
    received, sent = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            fprog = _Program(len(program) // 8, program)
            seccomp = table(platform.machine())["seccomp"]
            libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            if libc.syscall(seccomp, 1, 0, ctypes.byref(fprog)) != 0:
                os._exit(2)
            answers: list[int] = []
            for call in calls:
                ctypes.set_errno(0)
                libc.syscall(*(ctypes.c_long(word) for word in call))
                answers.append(ctypes.get_errno())
            os.write(sent, struct.pack(f"={len(answers)}i", *answers))
            os._exit(0)
        finally:
            os._exit(3)
    os.close(sent)
    with os.fdopen(received, "rb") as stream:
        data = stream.read()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    return list(struct.unpack(f"={len(data) // 4}i", data))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_the_kernel_takes_the_default_program() -> None:
    numbers = table("x86_64")
    calls: list[tuple[int, ...]] = [
        (numbers["getpid"],),
        (numbers["personality"], 0xFFFF_FFFF),
        (numbers["personality"], 0x40000),
        (numbers["socket"], 40, 1, 0),
        (numbers["socket"], 0x1_0000_0028, 1, 0),
        (numbers["socket"], 1, 1, 0),
        (numbers["unshare"], 0),
        (numbers["clone3"], 0, 0),
        (numbers["keyctl"], 0, 0),
        (numbers["mount"], 0, 0, 0, 0, 0),
        (numbers["open_tree_attr"], -1, 0, 0, 0, 0),
        (1000,),
    ]
    answers = under(default_program(0, arch="x86_64", kernel=KERNEL), calls)
    assert answers == [
        0,
        0,
        errno.EPERM,
        errno.EPERM,
        errno.EPERM,
        0,
        errno.EPERM,
        errno.ENOSYS,
        errno.EPERM,
        errno.EPERM,
        errno.ENOSYS,
        errno.ENOSYS,
    ]
    answers = under(
        default_program(mask_of(["SYS_ADMIN"]), arch="x86_64", kernel=KERNEL),
        [(numbers["unshare"], 0), (numbers["clone3"], 0, 0), (numbers["keyctl"], 0, 0)],
    )
    assert answers == [0, errno.EINVAL, errno.EPERM]


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
def test_the_kernel_compares_arguments_as_the_file_says() -> None:
    conditions = [
        (op, entry(errnoRet=99, args=args((1, 0x5_0000_0005, op))))
        for op in ("LT", "LE", "EQ", "GE", "GT", "NE")
    ]
    values = (0, 5, 0x4_0000_0009, 0x5_0000_0004, 0x5_0000_0005, 0x5_0000_0006, 0x6_0000_0000)
    for op, condition in conditions:
        resolved = resolve(
            parse_profile(profile(condition)), arch="x86_64", capabilities=0, kernel=KERNEL
        )
        answers = under(
            compile_filter(resolved, arch="x86_64"), [(GETPRIORITY, 0, value) for value in values]
        )
        wanted = [COMPARE[Op(f"SCMP_CMP_{op}")](value, 0x5_0000_0005) for value in values]
        assert [answer == 99 for answer in answers] == wanted, op
