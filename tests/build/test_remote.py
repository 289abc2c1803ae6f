"""Files by HTTP and repositories by git, from servers of the test's own."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import socketserver
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.build.copies import add_step, listing, perform
from wherry.build.context.fetched import fetchers
from wherry.build.context.store import ContextStore
from wherry.build.copying import Copying
from wherry.build.remote.git import Git, GitSource, parse_git
from wherry.build.remote.web import Web
from wherry.model.build import ContextKind, ContextRef
from wherry.model.errors import Invalid, NotFound, Unavailable

OLD = 1577836800
SUM = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of `hello`


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    asked: list[str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        match self.path:
            case "/old" | "/odd/":
                self.send_response(200)
                self.send_header("Last-Modified", "Wed, 01 Jan 2020 00:00:00 GMT")
                self.send_header("Content-Disposition", 'attachment; filename="../named"')
                self.send_header("ETag", '"1"')
                self.send_header("Content-Length", "5")
                if self.headers.get("If-None-Match") == '"1"':
                    self.server.asked[-1] += " (not modified)"
                self.end_headers()
                self.wfile.write(b"hello")
            case "/short":
                self.send_response(200)
                self.send_header("Content-Length", "500")
                self.end_headers()
                self.wfile.write(b"hello")
            case "/there" | "/circle" | "/file":
                to = {"/there": "/old", "/circle": "/circle", "/file": "ftp://127.0.0.1/x"}
                self.send_response(302)
                self.send_header("Location", to[self.path])
                self.end_headers()
            case "/broken":
                self.send_error(500)
            case _:
                super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "www").mkdir()
    handler = functools.partial(Handler, directory=str(tmp_path / "www"))
    with Server(("127.0.0.1", 0), handler) as server:
        server.asked = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying(tmp_path / "work")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


class TestWeb:
    @pytest.mark.parametrize(
        ("source", "to", "path"),
        [
            ("/old", "/n/", "n/old"),
            ("/old?a=b", "/x", "x"),
            ("/there", "/n/", "n/there"),
            ("/odd/", "/n/", "n/named"),
        ],
    )
    def test_where_a_file_goes(
        self, copying: Copying, server: Server, root: Path, source: str, to: str, path: str
    ) -> None:
        if "?" in source:
            (root.parent / "www/old").write_text("hello")
        step = add_step(server.url + source, to=to)
        copying.digest(step, None)
        perform(copying, step, None, root)
        assert (root / path).read_text() == "hello"
        assert listing(root)[path] == "-rw------- 0:0"
        if "?" not in source:
            assert (root / path).stat().st_mtime == OLD

    def test_it_is_asked_for_once_a_build(
        self, copying: Copying, server: Server, root: Path
    ) -> None:
        step = add_step(f"{server.url}/old", to="/n", chmod="644", chown="3:4")
        first = copying.digest(step, None)
        perform(copying, step, None, root)
        assert server.asked == ["/old"]
        assert listing(root) == {"n": "-rw-r--r-- 3:4"}
        assert copying.digest(step, None) == first
        assert server.asked == ["/old", "/old (not modified)"]

    def test_checksums(self, copying: Copying, server: Server, root: Path) -> None:
        right = add_step(f"{server.url}/old", to="/n", checksum=SUM)
        wrong = add_step(f"{server.url}/old", to="/n", checksum=SUM[:-1] + "5")
        assert copying.digest(right, None) != copying.digest(wrong, None)
        assert server.asked == []  # what is asked for is known without asking
        perform(copying, right, None, root)
        with pytest.raises(Invalid, match="digest mismatch"):
            perform(copying, wrong, None, root)

    def test_archives_stay_whole_unless_asked(
        self, copying: Copying, server: Server, root: Path
    ) -> None:
        archive(root.parent / "www/x.tar", "in", b"1")
        perform(copying, add_step(f"{server.url}/x.tar", to="/a/"), None, root)
        perform(copying, add_step(f"{server.url}/x.tar", to="/b/", unpack=True), None, root)
        assert set(listing(root)) == {"a", "a/x.tar", "b", "b/in"}

    @pytest.mark.parametrize(
        ("path", "kind", "text"),
        [
            ("/none", NotFound, "none"),
            ("/broken", Unavailable, "500"),
            ("/short", Unavailable, "5 of 500 bytes"),
            ("/circle", Unavailable, "circle"),
            ("/file", Invalid, "ftp://127.0.0.1/x"),
        ],
    )
    def test_what_fails(
        self, tmp_path: Path, server: Server, path: str, kind: type[Exception], text: str
    ) -> None:
        web = Web(tmp_path / "web")
        with pytest.raises(kind, match=text):
            web.get(server.url + path)
        assert list((tmp_path / "web").iterdir()) == []

    def test_nobody_listens(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="refused"):
            Web(tmp_path).get("http://127.0.0.1:1/x")

    def test_contexts(self, tmp_path: Path, server: Server) -> None:
        archive(tmp_path / "www/x.tar", "Dockerfile", b"FROM scratch")
        (tmp_path / "www/file").write_text("FROM alone")
        (tmp_path / "www/name").write_text("FROM alone")
        store = ContextStore(tmp_path / "contexts", fetchers=fetchers(tmp_path / "fetch"))
        for name, text in (("x.tar", b"FROM scratch"), ("name", b"FROM alone")):
            ref = store.fetch(ContextRef(ContextKind.URL, f"{server.url}/{name}"))
            assert store.read(ref.value, "Dockerfile") == text
        again = store.open(ContextRef(ContextKind.URL, f"{server.url}/name"))
        assert again is store.tree(ref.value)


def archive(path: Path, name: str, content: bytes) -> None:
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("https://h/a.git", GitSource("https://h/a.git")),
        ("https://h/a.git#v1:sub/dir", GitSource("https://h/a.git", "v1", "sub/dir")),
        ("git@h:a/b.git#:sub", GitSource("git@h:a/b.git", "", "sub")),
        ("git://h/a#b", GitSource("git://h/a", "b")),
        ("ssh://git@h/a", GitSource("ssh://git@h/a")),
        ("https://h/a.tar.gz", None),
        ("a.git", None),
        ("folder", None),
    ],
)
def test_what_names_a_repository(text: str, source: GitSource | None) -> None:
    assert parse_git(text) == source


def git(folder: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    who = {
        f"GIT_{role}_{what}": "x" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    dates = {"GIT_AUTHOR_DATE": f"{OLD} +0000", "GIT_COMMITTER_DATE": f"{OLD} +0000"}
    environment = {**os.environ, **quiet, **who, **dates}
    command = ["git", "-c", "init.defaultBranch=main", *words]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, capture_output=True, timeout=30
    )
    return done.stdout.decode().strip()


class GitConnection(socketserver.BaseRequestHandler):
    """One connection to `git daemon`, which serves it as inetd's child."""

    base: Path

    def handle(self) -> None:
        words = ["git", "daemon", "--inetd", "--export-all", f"--base-path={self.base}"]
        end = self.request.fileno()
        subprocess.run(words, stdin=end, stdout=end, stderr=subprocess.DEVNULL, timeout=30)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[str]:
    """The URL of a repository: `main` and a tag `v1` before it, a branch `other`."""
    if shutil.which("git") is None:
        pytest.skip("there is no git here")
    top = tmp_path / "repos" / "a"
    (top / "sub/deep").mkdir(parents=True)
    git(top, "init", "--quiet")
    (top / "Dockerfile").write_text("FROM scratch\nCOPY sub /\n")
    (top / "sub/deep/f").write_text("1")
    (top / "sub/link").symlink_to("deep/f")
    (top / "out").symlink_to("/etc")
    git(top, "add", "-A")
    git(top, "commit", "--quiet", "-m", "one")
    git(top, "tag", "-a", "v1", "-m", "one")
    git(top, "branch", "other")
    (top / "sub/deep/f").write_text("2")
    git(top, "commit", "--quiet", "-a", "-m", "two")
    handler = type("Connection", (GitConnection,), {"base": tmp_path / "repos"})
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"git://127.0.0.1:{server.server_address[1]}/a"
        server.shutdown()
        thread.join()


class TestGit:
    @pytest.mark.parametrize(
        ("ref", "text"),
        [("", "2"), ("main", "2"), ("v1", "1"), ("other", "1"), ("refs/tags/v1", "1")],
    )
    def test_refs(self, tmp_path: Path, repository: str, ref: str, text: str) -> None:
        git_ = Git(tmp_path / "work")
        with git_.checkout(GitSource(repository, ref)) as (path, epoch):
            assert (path / "sub/deep/f").read_text() == text
            assert not (path / ".git").exists()
            assert epoch == OLD
        assert list((tmp_path / "work").iterdir()) == []

    def test_a_link_to_where_a_git_folder_is_leads_nowhere(
        self, tmp_path: Path, repository: str
    ) -> None:
        """A link to a submodule has one behind it, one to the machine's folders may."""
        outside = tmp_path / "outside"
        (outside / ".git").mkdir(parents=True)
        (tmp_path / "repos/a/away").symlink_to(outside)
        git(tmp_path / "repos/a", "add", "-A")
        git(tmp_path / "repos/a", "commit", "--quiet", "-m", "a link")
        with Git(tmp_path / "work").checkout(GitSource(repository)) as (path, _):
            assert (path / "away").is_symlink()
            assert not (path / ".git").exists()
        assert (outside / ".git").is_dir()

    def test_a_commit(self, tmp_path: Path, repository: str) -> None:
        commit = git(tmp_path / "repos/a", "rev-parse", "v1^{commit}")
        with Git(tmp_path / "work").checkout(GitSource(repository, commit, "sub")) as (path, _):
            assert set(listing(path)) == {"deep", "deep/f", "link"}

    def test_the_beginning_of_a_commit(self, tmp_path: Path, repository: str) -> None:
        commit = git(tmp_path / "repos/a", "rev-parse", "v1^{commit}")
        tree = git(tmp_path / "repos/a", "rev-parse", "v1^{tree}")
        git_ = Git(tmp_path / "work")
        assert git_.resolve(GitSource(repository, commit[:7])) == commit
        with git_.checkout(GitSource(repository, commit[:9])) as (path, _):
            assert (path / "sub/deep/f").read_text() == "1"
        with pytest.raises(NotFound, match=tree[:12]):
            git_.resolve(GitSource(repository, tree[:12]))
        assert list((tmp_path / "work").iterdir()) == []

    def test_a_checksum_is_the_commit_s(
        self, copying: Copying, tmp_path: Path, repository: str
    ) -> None:
        commit = git(tmp_path / "repos/a", "rev-parse", "v1^{commit}")
        source = f"{repository}#v1"
        assert copying.digest(add_step(source, to="/n", checksum=commit), None)
        with pytest.raises(Invalid, match=f"got {commit}"):
            copying.digest(add_step(source, to="/n", checksum="0" * 40), None)

    @pytest.mark.parametrize(
        ("ref", "folder"), [("none", ""), ("", "none"), ("", "Dockerfile"), ("", "out")]
    )
    def test_what_is_not_there(
        self, tmp_path: Path, repository: str, ref: str, folder: str
    ) -> None:
        with (
            pytest.raises(NotFound),
            Git(tmp_path / "work").checkout(GitSource(repository, ref, folder)),
        ):
            pass
        assert list((tmp_path / "work").iterdir()) == []

    def test_no_server(self, tmp_path: Path) -> None:
        with pytest.raises(Unavailable, match="refused"):
            Git(tmp_path).resolve(GitSource("git://127.0.0.1:1/a"))

    def test_a_file_url_is_no_way_to_the_engines_own_files(
        self, tmp_path: Path, repository: str
    ) -> None:
        del repository
        with pytest.raises(Unavailable, match="not allowed"):
            Git(tmp_path / "work").resolve(GitSource(f"file://{tmp_path}/repos/a"))

    def test_add(self, copying: Copying, repository: str, root: Path) -> None:
        step = add_step(f"{repository}#v1:sub", to="/n", chown="5:6")
        digest = copying.digest(step, None)
        perform(copying, step, None, root)
        assert listing(root / "n") == {
            "deep": "drwxr-xr-x 5:6",
            "deep/f": "-rw-r--r-- 5:6",
            "link": "lrwxrwxrwx 5:6 -> deep/f",
        }
        assert (
            copying.digest(add_step(f"{repository}#main:sub", to="/n", chown="5:6"), None) != digest
        )
        perform(copying, add_step(repository, to="/all", keep_git_dir=True), None, root)
        assert (root / "all/.git").is_dir()

    def test_a_context(self, tmp_path: Path, repository: str) -> None:
        store = ContextStore(tmp_path / "contexts", fetchers=fetchers(tmp_path / "fetch"))
        ref = ContextRef(ContextKind.GIT, f"{repository}#other")
        found = store.fetch(ref)
        assert store.read(found.value, "Dockerfile").startswith(b"FROM scratch")
        tree = store.open(ref)
        assert (tree.digest, tree.epoch) == (store.tree(found.value).digest, OLD)
        assert set(listing(store.tree(found.value).path / "files")) == {
            "Dockerfile", "out", "sub", "sub/deep", "sub/deep/f", "sub/link",
        }  # fmt: skip
        again = store.fetch(ref)
        assert again.value != found.value
        assert store.tree(found.value)  # the first build still holds it
        store.release(found.value)
        store.release(again.value)
        for value in (found.value, again.value):
            with pytest.raises(NotFound):
                store.tree(value)
