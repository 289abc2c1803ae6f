"""seccomp: Docker's profiles and OCI's `linux.seccomp`, compiled by number to classic BPF.

Owns the default profile, the system call tables and the compiler; all of it is pure. Refuses to
load anything into the kernel (`kernel` does) and to notify a listener. Read `rules` first, then
`profile` (conditions), `oci` (the file format both share), `compile`.

Compiled by number, since libseccomp 2.5 does not know a dozen of the newer calls.
"""

from wherry.runtime.seccomp.compile import compile_filter
from wherry.runtime.seccomp.defaults import default_profile, default_program
from wherry.runtime.seccomp.oci import parse_oci
from wherry.runtime.seccomp.profile import Profile, kernel_version, parse_profile, resolve
from wherry.runtime.seccomp.rules import Filter

__all__ = [
    "Filter",
    "Profile",
    "compile_filter",
    "default_profile",
    "default_program",
    "kernel_version",
    "parse_oci",
    "parse_profile",
    "resolve",
]
