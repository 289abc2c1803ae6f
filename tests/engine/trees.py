"""Small Dockerfiles whose results are compared with BuildKit's, file by file, and their context.

docker buildx build … > recorded/build_trees.json        python -m tests.engine.trees HOST BUILDX, once
wherry build … = recorded/build_trees.json               test_build_trees
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from hashlib import sha256
from pathlib import Path

RECORDED = Path(__file__).with_name("recorded") / "build_trees.json"
_SHELL = 'FROM scratch AS sh\nCOPY tools /bin\nSHELL ["/bin/sh", "-c"]\n'

CASES = {
    "copy a file": "FROM scratch\nCOPY a.txt /\n",
    "copy to another name": "FROM scratch\nCOPY a.txt /deep/er/b\n",
    "copy a folder's content": "FROM scratch\nCOPY sub /s\n",
    "copy several": "FROM scratch\nCOPY a.txt sub/x.txt link /many/\n",
    "copy all": "FROM scratch\nCOPY . /all\n",
    "copy patterns": "FROM scratch\nCOPY *.txt s?b/d*p /p/\n",
    "chown by numbers": "FROM scratch\nCOPY --chown=7:8 sub /s\n",
    "chmod": "FROM scratch\nCOPY --chmod=0640 a.txt sub /s/\n",
    "link": "FROM scratch\nCOPY --link --chown=3 a.txt /l/\nCOPY --link sub /l/s\n",
    "add an archive": "FROM scratch\nADD archive.tar /un/\n",
    "copy an archive": "FROM scratch\nCOPY archive.tar /kept/\n",
    "add packed": "FROM scratch\nADD archive.tar.gz /un/\n",
    "heredoc": "FROM scratch\nARG V=1\nCOPY <<one <<'two' /h/\nv=$V\none\nv=$V\ntwo\n",
    "workdir": "FROM scratch\nWORKDIR /w/x\nWORKDIR y\nCOPY a.txt ./\n",
    "workdir of a user": "FROM scratch\nUSER 9:10\nWORKDIR /u/v\nCOPY a.txt .\n",
    "stages": (
        "FROM scratch AS one\nCOPY sub /s\nFROM scratch\n"
        "COPY --from=one /s/deep /d\nCOPY --from=0 --chown=1:2 /s/x.txt /x\n"
    ),
    "onto what is there": "FROM scratch\nCOPY --chmod=700 sub /s\nCOPY a.txt /s/x.txt\nCOPY sub /s\n",
    "through a link": "FROM scratch\nADD archive.tar /\nCOPY a.txt /to-dir/new\n",
    "run": f"{_SHELL}RUN echo hi >/f && mkdir -m 1777 /t && ln -s f /g && chown 4:5 /f\n",
    "run removes": f"{_SHELL}COPY sub /s\nRUN rm -r /s/deep && mkdir /s/deep && rm /s/x.txt\n",
    "run as a user": f"{_SHELL}WORKDIR /w\nRUN chown 6:7 /w\nUSER 6:7\nRUN umask 027; echo 1 >n; mkdir m\n",
    "run hard links": f"{_SHELL}RUN mkdir /h && echo 1 >/h/a && ln /h/a /h/b && chmod 4755 /h/a\n",
    "run with mounts": (
        f"{_SHELL}RUN --mount=type=bind,target=/ctx --mount=type=tmpfs,target=/tmp/t "
        "--mount=type=cache,target=/var/c echo c >/var/c/x; echo t >/tmp/t/x; cat /ctx/a.txt >/out\n"
    ),
    "run heredoc": f"{_SHELL}RUN <<E\necho 1 >/one\necho 2 >/two\nE\n",
    "several to what is no folder": "FROM scratch\nCOPY a.txt sub/x.txt /d\n",
    "several to a folder": "FROM scratch\nWORKDIR /d\nCOPY a.txt sub/x.txt /d\nCOPY no sub /e\n",
    "exclude": (
        "FROM scratch\nCOPY --exclude=*.txt --exclude=deep sub /a\nCOPY --exclude=** --exclude=!**/*.sh sub /b\n"
        "COPY --exclude=/deep sub /c\nCOPY --exclude=sub/deep s* /d/\nADD --exclude=a.txt a.txt no /e/\n"
    ),
    "chmod by letters": (
        "FROM scratch\nCOPY --chmod=u=rwX,go=rX sub /a/\nCOPY --chmod=a-x,u+X sub /b\n"
        "COPY --chmod=u+s,g-r,+t sub /c/\nCOPY --chmod=go=u-w sub /d\nCOPY --chmod=7777 a.txt /e/f/\n"
    ),
    "chown by names": (
        "FROM scratch\nCOPY <<e /etc/passwd\nbob:x:77:88::/:/x\ne\nCOPY <<e /etc/group\nst:x:99:\ne\n"
        "COPY --chown=bob a.txt /1\nCOPY --chown=bob:st a.txt /2\nCOPY --chown=:st a.txt /3\n"
        "COPY --chown=bob: a.txt /4\nCOPY --chown=5:st --link sub /5\n"
    ),
    "variables": (
        "FROM scratch\nARG x=1 e= p=a/b/ca/a\nCOPY <<E /v\n"
        "${x:-d} ${x:+s} ${x-d} ${x+s} ${u:-d} ${u:+s} ${u-d} ${u+s} ${e:-d} ${e-d} ${e:+s} ${e+s}\n"
        "${p#*/} ${p##*/} ${p%/*} ${p%%/*} ${p/a/X} ${p//a/X} ${p#b} ${p%?c*} ${x:-${u:-${p}}} \\$x \"$x\" '$x'\nE\n"
    ),
    "arguments": (
        "ARG v=g w=1$v\nFROM scratch AS sh\nCOPY tools /bin\nARG w\n"
        "RUN echo $v $w >/o\nARG v\nRUN echo $v >>/o\nENV v=e\nRUN echo $v >>/o\nARG v=late u\n"
        "RUN echo $v ${u-none} >>/o\nENV x=1\nRUN echo $v >>/o\nENV v=f\nRUN echo $v >>/o\n"
        "FROM sh\nARG w=2\nRUN echo $v $w >>/o\n"
    ),
    "environment": f"{_SHELL}ENV a=1 \\\n# no\n  b='x\"y' c=\\$d\nENV a=2 e=$a\nRUN busybox env | busybox sort >/o\n",
    "proxies": (
        f"{_SHELL}ENV http_proxy=mine\nRUN busybox env | busybox sort >/o\n"
        "ARG no_proxy\nRUN busybox env | busybox sort >>/o\n"
    ),
    "heredocs": (
        f"{_SHELL}ARG x=1\nRUN <<A cat >/o && cat <<-'B' >>/o\na $x\nA\n\tb $x\n\tB\n"
        "RUN <<E\n#!/bin/cat\n$x\nE\nRUN <<E cat >>/o\ncat <<F\nF\nE\nCOPY --chmod=751 <<E a.txt /d/\n\nE\n"
    ),
    "triggers": (
        f"{_SHELL}WORKDIR /w\nONBUILD ARG q=5\nONBUILD RUN echo $q >o\nONBUILD WORKDIR x\nONBUILD COPY a.txt .\n"
        "FROM sh AS one\nRUN pwd >p\nFROM one\nRUN pwd >>p\n"
    ),
    "shell": f'{_SHELL}SHELL ["/bin/busybox", "env", "A=b", "/bin/sh", "-xc"]\nRUN echo $A >/o 2>&1\n',
    "secrets": (
        f"{_SHELL}RUN --mount=type=secret,id=s cat /run/secrets/s >/o\n"
        "RUN --mount=type=secret,id=s,target=/x/y,uid=5,gid=6,mode=0444 cat /x/y >>/o\n"
        "RUN --mount=type=secret,id=s,env=T echo $T >>/o\nRUN --mount=type=secret,id=none echo none >>/o\n"
        "RUN --mount=type=ssh echo $SSH_AUTH_SOCK >>/o\n"
    ),
    "caches": (
        f"{_SHELL}FROM scratch AS src\nCOPY sub /s\nFROM sh\nWORKDIR /w\n"
        "RUN --mount=type=cache,target=c,from=src,source=/s,id=trees-7 cat c/x.txt >o; echo n >c/n\n"
        "RUN --mount=type=cache,target=/c,from=src,source=/s,id=trees-7,ro cat /c/n >>o; (echo >/c/m) 2>>o; true\n"
        "RUN --mount=type=cache,target=/c,id=trees-7,sharing=locked echo 1 >/c/1; cat /c/* >>o\n"
        "RUN --mount=type=cache,target=/c,id=trees-7,uid=5,mode=0700 echo 2 >/c/2; cat /c/* >>o\n"
        "USER 5:6\nRUN --mount=type=cache,target=/c,id=trees-7,uid=5,mode=0700 echo 3 >/c/3\nUSER 0:0\n"
        "RUN --mount=type=cache,target=/c,id=trees-7,uid=5,mode=0700 cat /c/* >>o\n"
    ),
    "binds": (
        f"{_SHELL}FROM sh\nRUN --mount=target=/c,rw echo q >/c/q && cat /c/q >/o\n"
        "RUN --mount=target=/c cat /c/q 2>>/o; true\n"
        "RUN --mount=source=sub/x.txt,target=/f cat /f >>/o\n"
        "RUN --mount=from=sh,source=/bin,target=/b,ro=false rm /b/sh\n"
        "WORKDIR /w\nRUN --mount=target=.,rw,ro (echo >r) 2>>/o; true\n"
    ),
    "no network": f"{_SHELL}RUN --network=none cat /proc/net/dev >/n; rm /n\n",
}  # fmt: skip
OPTIONS = {
    "arguments": ("--build-arg", "u=given"),
    "proxies": ("--build-arg", "HTTP_PROXY=h", "--build-arg", "no_proxy=n"),
    "secrets": ("--secret", "id=s,src={}/a.txt"),
}
"""What else is said to `build`; `{}` is the context."""


def words(name: str, folder: str) -> list[str]:
    """Return the words after `build` of a case, the Dockerfile coming on standard input."""
    more = [word.format(folder) for word in OPTIONS.get(name, ())]
    return ["-q", "-f", "-", "-o", "type=tar,dest=-", *more, folder]


def make_context(folder: Path) -> None:
    """Fill `folder`; the same everywhere, whatever the umask."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, mode, link in (
            ("dir", tarfile.DIRTYPE, 0o750, ""),
            ("dir/f", tarfile.REGTYPE, 0o4711, ""),
            ("dir/same", tarfile.LNKTYPE, 0o4711, "dir/f"),
            ("to-dir", tarfile.SYMTYPE, 0o777, "dir"),
            ("fifo", tarfile.FIFOTYPE, 0o600, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mode, member.linkname = kind, mode, link
            member.uid, member.gid, member.mtime = 5, 6, 10**9
            content = b"f\n" if kind == tarfile.REGTYPE else b""
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = buffer.getvalue()
    contents: dict[str, tuple[int, bytes]] = {
        "a.txt": (0o644, b"a\n"),
        "sp ace.txt": (0o640, b"s\n"),
        ".hidden": (0o600, b"h\n"),
        "x.log": (0o644, b"ignored\n"),
        "no/not": (0o644, b"ignored\n"),
        "no/keep": (0o644, b"kept\n"),
        "sub/x.txt": (0o600, b"x\n"),
        "sub/deep/y.sh": (0o755, b"#!/bin/sh\n"),
        "archive.tar": (0o644, archive),
        "archive.tar.gz": (0o644, gzip.compress(archive, mtime=0)),
        ".dockerignore": (0o644, b"*.log\nno/*\n!no/keep\ntools\n!tools/*\n"),
    }
    for name, (mode, content) in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    (folder / "sub/empty").mkdir()
    (folder / "link").symlink_to("a.txt")
    (folder / "tools").mkdir()
    shutil.copy("/bin/busybox", folder / "tools/busybox")
    for name in ("sh", "cat", "chmod", "chown", "ln", "mkdir", "rm"):
        (folder / "tools" / name).symlink_to("busybox")
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)


def entries(archive: bytes) -> list[str]:
    """Return the files of a tar as lines, sorted: path, type, mode, owners, target or size and digest."""
    found: list[str] = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = tar.getmembers()
        for one in members:
            name = one.name.strip("./") if one.name in (".", "./") else one.name.removeprefix("./")
            if not name or "busybox" in name:
                continue
            content = tar.extractfile(one) if one.isfile() or one.islnk() else None
            data = content.read() if content is not None else b""
            what = one.linkname if one.issym() else f"{len(data)} {sha256(data).hexdigest()[:16]}"
            kind = "0" if one.islnk() else one.type.decode()
            shown = what if one.issym() or content is not None else "-"
            found.append(f"{name} {kind} {one.mode & 0o7777:o} {one.uid}:{one.gid} {shown}")
    return sorted(found)


def main() -> int:
    """Record what BuildKit makes of the cases."""
    host, buildx = sys.argv[1:]
    recorded: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_context(Path(folder))
        for name, text in CASES.items():
            done = subprocess.run(
                [buildx, "build", "--no-cache", *words(name, folder)],
                input=text.encode(),
                env={**os.environ, "DOCKER_HOST": host},
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, (name, done.stderr.decode())
            recorded[name] = entries(done.stdout)
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
