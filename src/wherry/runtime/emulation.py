"""Programs of other machines: whether the kernel runs them here, and else what would.

Since Linux 6.7 each user namespace may have a binfmt_misc of its own, so a container's hands its
programs to a qemu of the host's and the host's own one stays as it is: docs/decisions/0024.
Source: Documentation/admin-guide/binfmt-misc.rst, elf(5), qemu's documentation of user mode.
"""

from __future__ import annotations

import os
import platform
import shutil
import struct
from dataclasses import dataclass

from wherry.kernel import mount, paths
from wherry.model.errors import Unsupported
from wherry.model.machines import host_architecture
from wherry.model.oci import Emulator
from wherry.runtime.seccomp import kernel_version
from wherry.runtime.stage import Stage
from wherry.runtime.wire import registered

BINFMT = "/proc/sys/fs/binfmt_misc"
_OWN_SINCE = (6, 7)
_PATH = "/usr/local/bin:/usr/bin"
_MASK = b"\xff" * 7 + b"\x00" + b"\xff" * 8
"""Of an ELF header's beginning, all but the ABI of the operating system."""
_PT_INTERP = 3
_PLAIN = paths.RESOLVE_IN_ROOT | paths.RESOLVE_NO_SYMLINKS


@dataclass(frozen=True, slots=True)
class Machine:
    """What ELF headers of an architecture say (elf(5)), and what qemu calls it."""

    number: int
    qemu: str
    bits: int = 64
    order: str = "<"

    @property
    def magic(self) -> bytes:
        """How an executable begins: e_ident, e_type, e_machine."""
        ident = b"\x7fELF" + bytes((self.bits // 32, 1 if self.order == "<" else 2, 1))
        return struct.pack(self.order + "16sHH", ident, 2, self.number)

    @property
    def mask(self) -> bytes:
        """Which bits of `magic` count: position-independent executables (e_type 3) are meant too."""
        return struct.pack(self.order + "16sHH", _MASK, 0xFFFE, 0xFFFF)


MACHINES = {
    "386": Machine(3, "i386", 32),
    "amd64": Machine(62, "x86_64"),
    "arm": Machine(40, "arm", 32),
    "arm64": Machine(183, "aarch64"),
    "loong64": Machine(258, "loongarch64"),
    "mips": Machine(8, "mips", 32, ">"),
    "mips64": Machine(8, "mips64", 64, ">"),
    "mips64le": Machine(8, "mips64el"),
    "mipsle": Machine(8, "mipsel", 32),
    "ppc64le": Machine(21, "ppc64le"),
    "riscv64": Machine(243, "riscv64"),
    "s390x": Machine(22, "s390x", 64, ">"),
}
"""By the names that images use (GOARCH)."""


def choose_emulator(
    architecture: str, *, own: bool = True, path: str | None = None
) -> Emulator | None:
    """Return what a container has to be given to run programs of `architecture`; None for nothing.

    `own`: whether it has a user namespace of its own. `path` is where to look, $PATH where None. Raises
    Unsupported, with the way out, where such programs cannot run.
    """
    host, _ = host_architecture()
    if not architecture or architecture == host or (host, architecture) == ("amd64", "386"):
        return None
    if emulated(architecture):
        return None
    machine = MACHINES.get(architecture)
    reason = f"this machine runs linux/{host} and cannot execute programs of linux/{architecture}"
    if machine is None:
        raise Unsupported(reason, hint="no emulator of it is known")
    program = find_program(machine, path)
    named = f"qemu-{machine.qemu}"
    if not own:
        raise Unsupported(
            f"{reason} in the host's user namespace",
            hint=f"there the host's binfmt_misc decides: register {named} with it, with its flag F",
        )
    if kernel_version(platform.release()) < _OWN_SINCE:
        raise Unsupported(
            reason,
            hint=f"register {named} with binfmt_misc, with its flag F (Debian: apt-get install "
            "qemu-user-static); Linux 6.7 and newer need no registration",
        )
    if not program:
        raise Unsupported(
            reason,
            hint=f"install a static {named} (Debian: apt-get install qemu-user-static); it is found by "
            "the engine's PATH and need not be registered with binfmt_misc",
        )
    return Emulator(architecture, program, machine.magic, machine.mask)


def find_program(machine: Machine, path: str | None = None) -> str:
    """Return the absolute path of a static qemu for `machine`, or an empty text."""
    folders = os.environ.get("PATH", "") + f":{_PATH}" if path is None else path
    for name in (f"qemu-{machine.qemu}-static", f"qemu-{machine.qemu}"):
        found = shutil.which(name, path=folders)
        if found and is_static(found):
            return os.path.realpath(found)
    return ""


def is_static(path: str) -> bool:
    """Whether `path` is an ELF executable that needs no loader, which the image would have to hold."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
            if head[:4] != b"\x7fELF" or len(head) < 64:
                return False
            order = "<" if head[5] == 1 else ">"
            wide = head[4] == 2
            (start,) = struct.unpack_from(order + ("Q" if wide else "I"), head, 32 if wide else 28)
            size, count = struct.unpack_from(order + "HH", head, 54 if wide else 42)
            file.seek(start)
            table = file.read(size * count)
    except (OSError, OverflowError):
        return False
    if size < 4 or len(table) < size * count:
        return False
    kinds = (struct.unpack_from(order + "I", table, size * at)[0] for at in range(count))
    return _PT_INTERP not in kinds


def emulated(architecture: str, folder: str = BINFMT) -> bool:
    """Whether the host's binfmt_misc hands programs of `architecture` to an emulator that containers reach.

    An entry is known by what it matches, not by its name; without the flag F its interpreter would have to be
    in the image.
    """
    machine = MACHINES.get(architecture)
    if machine is None:
        return False
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(_takes(f"{folder}/{name}", machine.magic) for name in names)


def _takes(entry: str, header: bytes) -> bool:
    try:
        with open(entry, encoding="ascii") as file:
            lines = [line.strip().partition(" ") for line in file]
        facts = {word: rest for word, _, rest in lines}
        magic = bytes.fromhex(facts.get("magic", ""))
        mask = bytes.fromhex(facts.get("mask", "")) or b"\xff" * len(magic)
    except (OSError, ValueError):
        return False
    if "enabled" not in facts or "F" not in facts.get("flags:", "") or facts.get("offset") != "0":
        return False
    if not magic.startswith(b"\x7fELF") or len(magic) > len(header):
        return False
    return all((a ^ b) & c == 0 for a, b, c in zip(magic, header, mask, strict=False))


def registration(emulator: Emulator, program: str) -> bytes:
    """Return the line that binfmt_misc is told: flags P (argv[0] is kept), O and C (set-user-ID programs
    are what they are), F (the interpreter is opened now, from what is seen now)."""

    def escaped(data: bytes) -> str:
        return "".join(f"\\x{byte:02x}" for byte in data)

    magic, mask = escaped(emulator.magic), escaped(emulator.mask)
    return f":{emulator.architecture}:M::{magic}:{mask}:{program}:POCF".encode()


@registered
@dataclass(frozen=True, slots=True)
class Emulate:
    """Give the user namespace a binfmt_misc of its own, which hands programs to the emulator `index`.

    It counts for as long as it is mounted, so it is, read-only; the emulator itself is opened here and
    then needs no name.
    """

    emulator: Emulator
    index: int

    def describe(self) -> str:
        return f"have {self.emulator.path} run programs of {self.emulator.architecture}"

    def perform(self, stage: Stage) -> None:
        k = stage.k
        tree = mount.new_filesystem(k, "binfmt_misc")
        try:
            self._register(stage, tree)
            wanted = mount.parse_options(("ro", "nosuid", "nodev", "noexec"))
            mount.change(k, tree, set_=wanted.set_)
            flags = os.O_PATH | os.O_DIRECTORY
            spot = paths.open_in_root(stage.root, BINFMT, flags, resolve=_PLAIN)
            try:
                mount.attach(k, tree, spot)
            finally:
                os.close(spot)
        finally:
            os.close(tree)

    def _register(self, stage: Stage, tree: int) -> None:
        # By a name below the working directory: it is what lists of processes show.
        name = os.path.basename(self.emulator.path)
        flags = os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=stage.home))
        spot = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=stage.home)
        try:
            mount.attach(stage.k, stage.trees[self.index], spot)
        finally:
            os.close(spot)
        os.fchdir(stage.home)
        register = os.open("register", os.O_WRONLY | os.O_CLOEXEC, dir_fd=tree)
        try:
            os.write(register, registration(self.emulator, name))
        except FileExistsError:
            pass  # Of the container whose user namespace was joined.
        finally:
            os.close(register)
            os.chdir("/")
