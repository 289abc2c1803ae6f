"""Debian and Ubuntu images through mmdebstrap, from the package mirror that the machine is configured with.

mmdebstrap runs with namespaces of its own, so that its mounts and processes go with it however it
ends, and its archive goes straight into the layer:

    setpriv --pdeathsig KILL     it does not outlive the thread that started it
      unshare --mount --pid      its mounts are seen by nobody, and end with its first process
        mmdebstrap --mode=root   > archive on stdout, progress on stderr
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from wherry.images.bootstrap.dates import read_release_date
from wherry.images.bootstrap.settings import read_settings
from wherry.images.bootstrap.sources import Source, choose_sources, read_release, read_sources
from wherry.images.making import NewImage
from wherry.kernel.paths import remove_path
from wherry.model.errors import Invalid, Unavailable, Unsupported
from wherry.model.ids import DEFAULT_TAG, Reference
from wherry.model.images import ImageConfig
from wherry.model.moments import render_rfc3339
from wherry.model.views import Progress

DISTRIBUTIONS = ("debian", "ubuntu")
_SHELLS = {"debian": ("bash",), "ubuntu": ("/bin/bash",)}
_NUMBERS = {
    "11": "bullseye",
    "12": "bookworm",
    "13": "trixie",
    "14": "forky",
    "20.04": "focal",
    "22.04": "jammy",
    "24.04": "noble",
}
_DEFAULT_SUITES = {"debian": "stable", "ubuntu": "noble"}
_SUITE = re.compile(r"[a-z][a-z0-9.-]*")
_WORDS = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:_,=/~?-]*")
_PATH_TEXT = re.compile(r"/[A-Za-z0-9+.:_,=/~-]+")
_VARIANTS = ("minbase", "essential", "apt", "required", "important", "standard", "buildd")
_OPTIONS = frozenset({"variant", "mirror", "include", "components", "keyring"})
_COMPONENTS = {"debian": ("main",), "ubuntu": ("main", "universe")}
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Ubuntu's own images leave these out too ("minimized"), under every tag.
_SLIM = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/groff/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/linda/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
# How this machine reaches its mirror (apt's proxy, for one) holds while the image is made, and no longer.
_MACHINE_CONF = "etc/apt/apt.conf.d/00machine"
_REACH = f'printf %s "$WHERRY_APT_SETTINGS" >"$1/{_MACHINE_CONF}"'
# As in the distributions' own images: a step `apt-get install` of a build keeps no packages in its layer,
# and the recipe that wants them in a cache mount removes a file of this name.
_CLEAN = (
    """printf 'APT::Keep-Downloaded-Packages "false";\\n' >"$1/etc/apt/apt.conf.d/docker-clean\""""
)
# What the machine, not the distribution, put there, and what differs from run to run.
_TIDY = (
    f'rm -rf "$1/{_MACHINE_CONF}" "$1/etc/hostname" "$1/etc/resolv.conf" "$1/var/cache/ldconfig/aux-cache"'
    ' "$1/var/cache/debconf/"*-old "$1/var/lib/dpkg/"*-old "$1"/var/log/*.log'
    ' "$1/var/log/apt/"*'
)
# There init-system-helpers wants `usrmerge | usr-is-merged`, and apt takes the first with all of perl
# (47 MB) where /usr is not merged yet. The hook merges it before anything is unpacked, as debootstrap
# does for the distributions' own images. mmdebstrap before 1.0 does not have it. No other suite has that
# choice: jammy's base-files needs usrmerge, and noble's base-files merges by itself.
_MERGE_FIRST = {"bookworm": Path("/usr/share/mmdebstrap/hooks/merged-usr")}
_PROGRAMS = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "setpriv": "util-linux"}
_STEPS = (
    "running apt-get update",
    "downloading packages",
    "extracting archives",
    "installing essential",
    "installing remaining",
    "cleaning package",
    "creating tarball",
)
_LINES_KEPT = 12
_CHUNK = 1 << 20
_CHECK_MS = 200
_SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Wanted:
    """A bootstrap planned: what to run, and the image that comes of it."""

    argv: tuple[str, ...]
    epoch: int
    """Seconds; no file is younger."""
    settings: str
    """apt's configuration for as long as it is made."""
    new: NewImage


def plan_debian(reference: Reference, options: Mapping[str, str]) -> Wanted:
    """Return what makes `debian:SUITE[-slim]`. Raises Invalid, Unsupported. Asks the mirror for its date."""
    for option in options:
        if option not in _OPTIONS:
            raise Invalid(f"{option!r} is no option of bootstrap", hint=", ".join(sorted(_OPTIONS)))
    for program, package in _PROGRAMS.items():
        if shutil.which(program) is None:
            raise Unsupported(
                f"{program} is not installed", hint=f"install it: apt-get install {package}"
            )
    distribution = reference.familiar_repository
    slim = reference.tag.endswith("-slim") or reference.tag == "slim"
    suite = _suite(distribution, reference.tag.removesuffix("slim").removesuffix("-"))
    sources = _sources(distribution, suite, options)
    settings = read_settings()
    dates = [read_release_date(source, settings.proxies) for source in sources]
    epoch = max(dates)
    variant = options.get("variant", "minbase")
    if variant not in _VARIANTS:
        raise Invalid(f"unknown variant: {variant!r}", hint=", ".join(_VARIANTS))
    argv = [
        *("setpriv", "--pdeathsig", "KILL"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"),
        *("mmdebstrap", "--mode=root", f"--variant={variant}", "--format=tar"),
        "--skip=output/dev,check/signed-by",
        '--aptopt=Acquire::Languages "none"',
        "--dpkgopt=force-unsafe-io",
        f"--setup-hook={_REACH}",
        f"--customize-hook={_CLEAN}",
        f"--customize-hook={_TIDY}",
    ]
    keyring = _keyring(distribution, options.get("keyring", ""))
    if keyring:
        argv.append(f"--keyring={keyring}")
    hook = _MERGE_FIRST.get(suite)
    if hook is not None and hook.is_dir():
        argv.append(f"--hook-dir={hook}")
    argv += [f"--dpkgopt={rule}" for rule in (_SLIM if slim or distribution == "ubuntu" else ())]
    # Ubuntu's apt is not among its required packages, so that the variants up from minbase lack it.
    include = [] if variant == "essential" else ["apt"]
    include += filter(None, [_checked("include", options.get("include", ""))])
    if include:
        argv.append(f"--include={','.join(include)}")
    argv += ["--", suite, "-", *(source.render_line() for source in sources)]
    return Wanted(
        tuple(argv),
        epoch,
        settings.render(),
        NewImage(
            config=ImageConfig(env=(_PATH,), command=_SHELLS[distribution]),
            created=render_rfc3339(epoch * _SECOND),
            created_by=f"wherry image bootstrap {reference.familiar} # {variant}",
            reference=reference,
        ),
    )


def run_mmdebstrap(
    wanted: Wanted,
    scratch: Path,
    out: Callable[[bytes], object],
    report: Callable[[Progress], None],
    check: Callable[[], None],
) -> None:
    """Run it; the archive goes to `out`, a line for each of its steps to `report`.

    Raises Unavailable with its last lines where it fails. Whatever `out`, `report` or `check` (asked
    several times a second) raises ends it and everything that it started.
    """
    folder = tempfile.mkdtemp(prefix="bootstrap-", dir=scratch)
    environment = os.environ | {
        "TMPDIR": folder,
        "SOURCE_DATE_EPOCH": str(wanted.epoch),
        "WHERRY_APT_SETTINGS": wanted.settings,
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    log = _Log(report)
    try:
        with subprocess.Popen(
            wanted.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None and process.stderr is not None
            reader = threading.Thread(target=log.read, args=(process.stderr,), daemon=True)
            reader.start()
            try:
                _copy(process.stdout, out, lambda: (log.check(), check()))
                status = process.wait()
            finally:
                # unshare passes its death on to the namespace's first process, and that to all.
                process.send_signal(signal.SIGKILL)
                process.wait()
                reader.join()
        log.check()
        if status:
            raise Unavailable("mmdebstrap failed:\n" + "\n".join(log.lines), hint=_hint(log.lines))
    finally:
        remove_path(Path(folder))


class _Log:
    """mmdebstrap's stderr: steps to progress, the last lines for an error."""

    def __init__(self, report: Callable[[Progress], None]) -> None:
        self.lines: deque[str] = deque(maxlen=_LINES_KEPT)
        self._report = report
        self._step = 0
        self._problem: BaseException | None = None

    def read(self, stream: IO[bytes]) -> None:
        for raw in stream:
            line = raw.decode(errors="replace").strip()
            if not line:
                continue
            self.lines.append(line)
            text = line.removeprefix("I: ")
            for number, step in enumerate(_STEPS, 1):
                if text.startswith(step):
                    self._step = number
                    self._tell(text.rstrip("."))

    def check(self) -> None:
        """Raise what reporting raised."""
        if self._problem is not None:
            raise self._problem

    def _tell(self, text: str) -> None:
        if self._problem is None:
            try:
                self._report(Progress(text, "bootstrap", self._step, len(_STEPS)))
            except BaseException as problem:  # raised again by check, in the thread that can end
                self._problem = problem


def _hint(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    if "NO_PUBKEY" in text:
        return (
            "install the keys that sign the archive (Debian: ubuntu-archive-keyring; Ubuntu:"
            " debian-archive-keyring), or name the file that has them: --keyring FILE"
        )
    if "is expired (invalid since" in text or "is not valid yet" in text:
        return (
            "is this machine's clock right? apt takes an old mirror with Acquire::Check-Valid-Until"
        )
    return "is the package mirror reachable, and does it have that suite?"


def _keyring(distribution: str, wanted: str) -> str:
    """Return the file of keys that apt needs beside those it trusts here, "" for none."""
    if wanted:
        if not _PATH_TEXT.fullmatch(wanted) or not Path(wanted).is_file():
            raise Invalid(
                f"no file of keys: {wanted!r}", hint="a path on the machine that wherryd runs on"
            )
        return wanted
    if distribution == read_release()[0]:
        return ""  # which may have keys of its own, for mirrors of its own
    known = Path(f"/usr/share/keyrings/{distribution}-archive-keyring.gpg")
    return str(known) if known.is_file() else ""


def _copy(stream: IO[bytes], out: Callable[[bytes], object], check: Callable[[], object]) -> None:
    """Copy to the end. For most of a minute nothing comes, and `check` must be asked all the same."""
    descriptor = stream.fileno()
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while True:
        check()
        if not poll.poll(_CHECK_MS):
            continue
        data = os.read(descriptor, _CHUNK)
        if not data:
            return
        out(data)


def _suite(distribution: str, tag: str) -> str:
    if tag in (DEFAULT_TAG, ""):
        return _DEFAULT_SUITES[distribution]
    suite = _NUMBERS.get(tag, tag)
    if not _SUITE.fullmatch(suite):
        raise Invalid(
            f"not a suite of {distribution}: {tag!r}", hint="as bookworm or bookworm-slim"
        )
    return suite


def _sources(distribution: str, suite: str, options: Mapping[str, str]) -> list[Source]:
    components = tuple(
        _checked("components", options.get("components", "")).replace(",", " ").split()
    )
    mirror = options.get("mirror", "")
    if mirror:
        if "://" not in mirror:
            raise Invalid(f"not a mirror: {mirror!r}", hint="a URL, as apt takes it")
        return [Source(_checked("mirror", mirror), suite, components or _COMPONENTS[distribution])]
    found = choose_sources(read_sources(), distribution, suite, read_release()[1])
    if not components:
        return found
    return [Source(s.uri, s.suite, components, s.signed_by) for s in found]


def _checked(option: str, text: str) -> str:
    if text and not _WORDS.fullmatch(text):
        raise Invalid(f"invalid {option}: {text!r}")
    return text
