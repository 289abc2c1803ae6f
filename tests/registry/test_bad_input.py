"""Clients that lie, stop half-way, or never stop."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.registry.serving import (
    INDEX,
    OCI,
    SECONDS,
    Client,
    descriptor,
    index,
    manifest,
    registry,
    sha256,
)
from wherry.model.ids import Digest
from wherry.registry.media import ACCEPTED
from wherry.registry.server.documents import Document, parse_document
from wherry.registry.server.faults import Fault
from wherry.registry.server.ranges import Unsatisfiable, parse_chunk, parse_page, parse_range
from wherry.registry.server.sweep import reachable
from wherry.registry.server.targets import parse_target

FOREVER = 1 << 62


def ended(stream: socket.socket) -> bytes:
    """Return all that comes until the other side closes."""
    found = b""
    while piece := stream.recv(65536):
        found += piece
    return found


class TestNames:
    @pytest.mark.parametrize(
        "name",
        ["..", "a/..", "../a", "a/../b", "%2e%2e", "a/%2e%2e/b", "%2e", "a%2fb", "a%00b", "%00", "A", "a//b"]
        + ["a%0ab", "a b".replace(" ", "%20"), "%ff", "a%25b", "_tags", "a/_manifests", "-a", "a" * 256],
    )  # fmt: skip
    def test_outside_the_grammar(self, client: Client, name: str) -> None:
        for method, path in (
            ("GET", f"/v2/{name}/tags/list"),
            ("GET", f"/v2/{name}/manifests/x"),
            ("PUT", f"/v2/{name}/manifests/x"),
            ("POST", f"/v2/{name}/blobs/uploads/"),
            ("GET", f"/v2/{name}/referrers/{sha256(b'')}"),
        ):
            reply = client(method, path)
            assert (reply.status, reply.code) == (400, "NAME_INVALID"), path

    @pytest.mark.parametrize(
        "tag", ["..", "%2e%2e", "a%2fb", "a%00", ".a", "-a", "a" * 129, "%20", "a%0a"]
    )
    def test_tags(self, client: Client, name: str, tag: str) -> None:
        data = client.image(name)
        for method in ("GET", "PUT", "DELETE"):
            reply = client(method, f"/v2/{name}/manifests/{tag}", data if method == "PUT" else None)
            if method == "PUT":
                assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")
            else:
                assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")

    @pytest.mark.parametrize("upload", ["x", "..", "%2e%2e", "0" * 32, "..%2f..%2flock", "%00"])
    def test_uploads(self, client: Client, name: str, upload: str) -> None:
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            path = f"/v2/{name}/blobs/uploads/{upload}?digest={sha256(b'')}"
            reply = client(method, path)
            assert reply.status == 404

    def test_a_long_path(self, client: Client) -> None:
        assert client("GET", f"/v2/{'a/' * 4000}tags/list").code == "NAME_INVALID"
        assert client("GET", f"/v2/{'a' * 70_000}").status == 431

    @given(st.text())
    def test_every_path_is_parsed_or_refused(self, text: str) -> None:
        for path in (text, f"/v2/{text}", f"/v2/{text}/tags/list", f"/v2/a/manifests/{text}",
                     f"/v2/a/blobs/{text}", f"/v2/{text}/blobs/uploads/{text}"):  # fmt: skip
            try:
                parse_target(path)
            except Fault as fault:
                assert fault.status in (400, 404)


class TestBodies:
    def test_a_body_that_ends_early_is_kept_and_gone_on_with(
        self, client: Client, name: str
    ) -> None:
        place = client.begin(name)
        data = os.urandom(300_000)
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        with client.raw(head + data[:200_000]) as stream:
            wait_for(lambda: client("GET", place).headers["Range"] == "0-199999")
            stream.shutdown(socket.SHUT_RDWR)
        assert client("PATCH", place, data[200_000:], Content_Range="200000-299999").status == 202
        assert client("PUT", f"{place}?digest={sha256(data)}").status == 201

    def test_a_second_writer_takes_over(self, client: Client, name: str) -> None:
        place = client.begin(name)
        head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n".encode()
        with client.raw(head + b"first") as stream:
            wait_for(lambda: client("GET", place).headers["Range"] == "0-4")
            assert client("PATCH", place, b" second", Content_Range="5-11").status == 202
            assert ended(stream) == b""
        assert client("PUT", f"{place}?digest={sha256(b'first second')}").status == 201

    @pytest.mark.parametrize("said", [1, 9, 11, FOREVER])
    def test_content_range_and_length_disagree(self, client: Client, name: str, said: int) -> None:
        place = client.begin(name)
        reply = client("PATCH", place, b"0123456789", Content_Range=f"0-{said - 1}")
        assert reply.status in (400, 413, 416)
        assert client("GET", place).headers["Range"] == "0-0"
        assert client("PATCH", place, b"0123456789", Content_Range="0-9").status == 202

    @pytest.mark.parametrize("said", [2, 20])
    def test_a_chunked_body_and_its_range_disagree(
        self, client: Client, name: str, said: int
    ) -> None:
        place = client.begin(name)
        client("PATCH", place, b"abc")
        reply = client("PATCH", place, iter([b"01234", b"56789"]), Content_Range=f"3-{said + 2}")
        assert (reply.status, reply.code) == (400, "SIZE_INVALID")
        assert client("GET", place).headers["Range"] == "0-2"
        assert client("PUT", f"{place}?digest={sha256(b'abcd')}", b"d").status == 201

    @pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30, "+5", " "])
    def test_no_lengths(self, client: Client, name: str, length: str) -> None:
        with client.raw(
            f"PUT /v2/{name}/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()
        ) as stream:
            assert b" 400 " in ended(stream)[:20]

    def test_a_promise_of_too_much(self, client: Client, name: str) -> None:
        for method, path, status in (
            ("POST", f"/v2/{name}/blobs/uploads/?digest={sha256(b'')}", b" 413 "),
            ("PUT", f"/v2/{name}/manifests/x", b" 413 "),
        ):
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {1 << 59}\r\n\r\n"
            with client.raw(head.encode()) as stream:
                assert status in stream.recv(100)

    def test_endless_bodies(self, tmp_path: Path) -> None:
        """Chunked bodies without an end: cut at the limit, the disk and the memory as before."""
        with registry(tmp_path, "--max-blob=3m") as running:
            client = running.client
            place = client.begin("a")
            for method, path in (("PATCH", place), ("PUT", "/v2/a/manifests/x")):
                head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                with client.raw(head.encode()) as stream:
                    answer = pour(stream, b"10000\r\n" + bytes(65536) + b"\r\n")
                assert b" 413 " in answer[:20]
            assert client("GET", place).headers["Range"] == "0-0"
            size = sum(path.stat().st_size for path in (tmp_path / "uploads").iterdir())
            assert size < 1000

    def test_bodies_nobody_asked_for(self, client: Client, name: str) -> None:
        digest = client.push(name, b"x")
        for method, path in (
            ("GET", f"/v2/{name}/blobs/{digest}"),
            ("DELETE", f"/v2/{name}/blobs/{digest}"),
        ):
            assert client(method, path, b"y" * 100_000).status in (200, 202)

    def test_a_client_that_does_not_read(self, tmp_path: Path) -> None:
        """Many that ask for a large blob and read nothing: memory stays, others are served."""
        with registry(tmp_path) as running:
            client = running.client
            digest = client.push("a", os.urandom(30 << 20))
            before = running.resident()
            held = [
                client.raw(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                for _ in range(50)
            ]
            assert client("GET", f"/v2/a/blobs/{digest}", Range="bytes=0-9").status == 206
            assert running.resident() - before < 20 << 20
            for stream in held:
                stream.close()


def pour(stream: socket.socket, piece: bytes) -> bytes:
    """Send `piece` over and over until the other side answers or hangs up; return its answer."""
    answer = bytearray()

    def listen() -> None:
        try:
            answer.extend(stream.recv(65536))
        except OSError:
            pass

    listener = threading.Thread(target=listen)
    listener.start()
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end and not answer:
            stream.sendall(piece)
    except OSError:
        pass
    listener.join(SECONDS)
    return bytes(answer)


def wait_for(condition) -> None:
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


class TestManifests:
    @pytest.mark.parametrize(
        ("data", "kind"),
        [
            (b"", OCI),
            (b"[]", OCI),
            (b"{", OCI),
            (b"\xff\xfe", OCI),
            (b"null", OCI),
            (b"{}", OCI),
            (b"[" * 100_000, OCI),
            (b'{"schemaVersion":1}', "application/vnd.docker.distribution.manifest.v1+prettyjws"),
            (manifest(b"{}", schemaVersion=3), OCI),
            (manifest(b"{}", schemaVersion="2"), OCI),
            (manifest(b"{}", layers=None, config=None), OCI),
            (manifest(b"{}", layers=[1]), OCI),
            (manifest(b"{}", mediaType="text/html"), OCI),
            (manifest(b"{}"), INDEX),
            (manifest(b"{}"), "text/html"),
            (manifest(b"{}", mediaType=None), ""),
            (manifest(b"{}", config=descriptor(b"{}", "no type")), OCI),
            (manifest(b"{}", config=descriptor(b"{}", "a/b", size=-1)), OCI),
            (manifest(b"{}", config=descriptor(b"{}", "a/b", size=1 << 70)), OCI),
            (manifest(b"{}", config=descriptor(b"{}", "a/b", size=1.5)), OCI),
            (manifest(b"{}", artifactType="no type"), OCI),
            (manifest(b"{}", annotations={"a": 1}), OCI),
            (manifest(b"{}", layers=[descriptor(b"{}", "a/b"), descriptor(b"{}", "a/b", size=3)]), OCI),
            # CVE-2021-41190: an image to one reader, an index to another.
            (manifest(b"{}", manifests=[]), OCI),
            (index(layers=[]), INDEX),
            (index(manifests=None, config=descriptor(b"{}", "a/b")), INDEX),
            (b'{"schemaVersion":2,"mediaType":"%s"}' % INDEX.encode(), INDEX),
        ],
    )  # fmt: skip
    def test_invalid(self, client: Client, name: str, data: bytes, kind: str) -> None:
        client.push(name, b"{}")
        reply = client.put(name, "v1", data, kind)
        assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")

    @pytest.mark.parametrize("digest", ["", "x", "sha256:../../etc/passwd", "sha256:" + "A" * 64])
    def test_digests_inside(self, client: Client, name: str, digest: str) -> None:
        client.push(name, b"{}")
        for field in ("layers", "subject"):
            inside = {"mediaType": "a/b", "digest": digest, "size": 1}
            data = manifest(b"{}", **{field: inside if field == "subject" else [inside]})
            assert client.put(name, "v1", data).code == "DIGEST_INVALID"

    def test_too_large(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        data = manifest(b"{}", annotations={"a": "x" * (4 << 20)})
        reply = client.put(name, "v1", data)
        assert (reply.status, reply.code) == (413, "MANIFEST_INVALID")
        room = (4 << 20) - len(manifest(b"{}", annotations={"a": ""}))
        assert client.put(name, "v1", manifest(b"{}", annotations={"a": "x" * room})).status == 201

    def test_as_many_layers_as_fit(self, client: Client, name: str) -> None:
        config = descriptor(b"{}", "a/b")
        client.push(name, b"{}")
        same = json.dumps({"schemaVersion": 2, "mediaType": OCI, "config": config,
                           "layers": [config] * 34_000}).encode()  # fmt: skip
        assert client.put(name, "same", same).status == 201
        missing = [
            {"mediaType": "a/b", "digest": f"sha256:{n:064x}", "size": 1} for n in range(33_000)
        ]
        other = json.dumps(
            {"schemaVersion": 2, "mediaType": OCI, "config": config, "layers": missing}
        )
        reply = client.put(name, "other", other.encode())
        assert reply.code == "MANIFEST_BLOB_UNKNOWN"
        assert 1 < len(reply.json["errors"]) <= 50

    def test_an_index_of_itself_cannot_be(self, client: Client, name: str) -> None:
        """A cycle would need a digest of itself; the nearest thing is a tag's digest that is not there."""
        image = client.image(name, "v1")
        data = index(image, b"not yet there")
        assert client.put(name, "v1", data, INDEX).code == "MANIFEST_BLOB_UNKNOWN"

    def test_cycles_end(self) -> None:
        a, b, c = (Digest("sha256", letter * 64) for letter in "abc")

        def about(subject: Digest) -> Document:
            return Document(OCI, (), (), subject, "", {})

        assert reachable({a}, {a: about(b), b: about(a), c: about(c)}) == {a, b}

    @given(st.binary(max_size=200), st.sampled_from((*ACCEPTED, "", "x/y")))
    def test_every_document_is_parsed_or_refused(self, data: bytes, kind: str) -> None:
        try:
            parse_document(data, kind)
        except Fault as fault:
            assert fault.status == 400

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just(sha256(b"")),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "size", "digest"]
                ),
                inner,
                max_size=5,
            ),
        ),
        st.sampled_from(ACCEPTED),
    )  # fmt: skip
    def test_every_json_is_parsed_or_refused(self, value: object, kind: str) -> None:
        try:
            parse_document(json.dumps(value).encode(), kind)
        except Fault as fault:
            assert fault.status == 400


class TestRaces:
    def test_two_pushes_of_one_tag(self, client: Client, name: str) -> None:
        images = [client.image(name, seed=bytes([n])) for n in range(8)]
        replies: list[int] = []

        def push(data: bytes) -> None:
            for _ in range(5):
                replies.append(client.put(name, "latest", data).status)

        run_all(push, images)
        assert set(replies) == {201}
        last = client("GET", f"/v2/{name}/manifests/latest")
        assert last.body in images
        assert last.headers["Docker-Content-Digest"] == sha256(last.body)
        assert client("GET", f"/v2/{name}/tags/list").json["tags"] == ["latest"]

    def test_one_wins_a_conditional_push(self, client: Client, name: str) -> None:
        images = [client.image(name, seed=bytes([n])) for n in range(6)]
        replies: list[int] = []

        def push(data: bytes) -> None:
            reply = client(
                "PUT", f"/v2/{name}/manifests/one", data, Content_Type=OCI, If_None_Match="*"
            )
            replies.append(reply.status)

        run_all(push, images)
        assert sorted(replies) == [201] + [412] * 5

    def test_the_same_blob_at_once(self, client: Client, name: str) -> None:
        data = os.urandom(2 << 20)
        run_all(lambda _: client.push(name, data), list(range(6)))
        assert client("GET", f"/v2/{name}/blobs/{sha256(data)}").body == data

    def test_pushes_and_deletes_of_one_tag(self, client: Client, name: str) -> None:
        data = client.image(name)
        outcomes: set[int] = set()

        def act(number: int) -> None:
            for _ in range(10):
                if number % 2:
                    outcomes.add(client.put(name, "x", data).status)
                else:
                    outcomes.add(client("DELETE", f"/v2/{name}/manifests/x").status)

        run_all(act, list(range(4)))
        assert outcomes <= {201, 202, 404}


def run_all(work, items: list) -> None:
    """Run `work` on every item at once; raise what any raised."""
    problems: list[BaseException] = []

    def guarded(item: object) -> None:
        try:
            work(item)
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=guarded, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS * 2)
    if problems:
        raise problems[0]


class TestPatience:
    def test_silence_is_timed_out(self, tmp_path: Path) -> None:
        """A head, a body and an idle connection that stop are let go of; the clock is turned forward."""
        import asyncio

        from wherry.http import connection as connection_module
        from wherry.http.server import Server
        from wherry.http.style import Style
        from wherry.registry.server import bodies as bodies_module
        from wherry.registry.server.application import STYLE
        from wherry.registry.server.assembly import build
        from wherry.registry.server.settings import Settings

        async def test() -> None:
            from dataclasses import replace

            built = build(Settings(root=tmp_path))
            loop = asyncio.get_running_loop()

            async def serve(style: Style) -> tuple[Server, Client]:
                server = Server(built.application, style)
                listener = socket.create_server(("127.0.0.1", 0))
                await server.listen(listener)
                return server, Client(listener.getsockname()[1])

            # What is pushed for the test has all the time that a busy machine takes.
            patient, client = await serve(STYLE)
            data = os.urandom(20 << 20)
            digest = await loop.run_in_executor(None, client.push, "a", data)
            place = await loop.run_in_executor(None, client.begin, "a")
            await patient.close(0)
            connection_module.HEAD_SECONDS = bodies_module.STALL_SECONDS = 0.2  # pyright: ignore[reportAttributeAccessIssue]
            server, client = await serve(replace(STYLE, idle_seconds=0.2, stall_seconds=0.2))

            async def silent(first: bytes) -> bytes:
                return await loop.run_in_executor(None, lambda: ended(client.raw(first)))

            head = f"PATCH {place} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc".encode()
            assert b" 408 " in (await silent(head))[:20]
            # Who wants a token has shown nothing yet.
            form = b"POST /auth/token HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"
            assert b" 408 " in (await silent(form))[:20]
            assert b" 408 " in (await silent(b"GET /v2/ HT"))[:20]
            assert await silent(b"") == b""
            assert (await silent(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"{}")
            # Who does not read its blob is cut off: what the sockets hold comes, and then the end.
            slow = client.raw(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            while not server.connections:
                await asyncio.sleep(0.01)
            while server.connections:
                await asyncio.sleep(0.01)
            assert len(await loop.run_in_executor(None, cut_off, slow)) < len(data)
            await server.close(0)
            built.close()

        before = connection_module.HEAD_SECONDS, bodies_module.STALL_SECONDS
        try:
            asyncio.run(asyncio.wait_for(test(), SECONDS))
        finally:
            connection_module.HEAD_SECONDS, bodies_module.STALL_SECONDS = before  # pyright: ignore[reportAttributeAccessIssue]


def cut_off(stream: socket.socket) -> bytes:
    """Return what comes until the other side closes or resets."""
    found = b""
    with stream:
        try:
            while piece := stream.recv(1 << 20):
                found += piece
        except ConnectionError:
            pass
    return found


def test_too_many_uploads(tmp_path: Path) -> None:
    with registry(tmp_path, "--max-uploads=2") as running:
        first, _ = running.client.begin("a"), running.client.begin("a")
        reply = running.client("POST", "/v2/a/blobs/uploads/")
        assert (reply.status, reply.code) == (429, "TOOMANYREQUESTS")
        assert reply.headers["Retry-After"]
        running.client("DELETE", first)
        assert running.client.begin("a")


def test_switched_off(tmp_path: Path) -> None:
    with registry(tmp_path, "--no-delete") as running:
        running.client.image("a", "v1")
        for path in ("manifests/v1", f"blobs/{sha256(b'layer')}"):
            reply = running.client("DELETE", f"/v2/a/{path}")
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")
    with registry(tmp_path, "--read-only") as running:
        assert running.client("GET", "/v2/a/manifests/v1").status == 200
        for method, path in (
            ("POST", "blobs/uploads/"),
            ("PUT", "manifests/v2"),
            ("DELETE", "manifests/v1"),
        ):
            reply = running.client(method, f"/v2/a/{path}")
            assert (reply.status, reply.code) == (405, "UNSUPPORTED")


def test_memory_does_not_grow_with_blobs(tmp_path: Path) -> None:
    with registry(tmp_path) as running:
        client = running.client

        def move(megabytes: int) -> int:
            piece = os.urandom(1 << 20)
            place = client.begin("a")
            client("PATCH", place, iter([piece] * megabytes))
            digest = sha256(piece * megabytes)
            assert client("PUT", f"{place}?digest={digest}").status == 201
            assert len(client("GET", f"/v2/a/blobs/{digest}").body) == megabytes << 20
            return running.resident()

        small = move(8)
        assert move(120) - small < 6 << 20


class TestParsers:
    @given(st.text(), st.integers(0, 1 << 40))
    def test_ranges(self, text: str, size: int) -> None:
        for given_text in (text, f"bytes={text}", f"bytes=0-{text}", f"bytes={text}-"):
            try:
                span = parse_range(given_text, size)
            except Unsatisfiable:
                continue
            if span is not None:
                assert 0 <= span.start and 0 < span.count and span.start + span.count <= size

    @given(st.integers(0, 1 << 40), st.integers(0, 1 << 40), st.integers(1, 1 << 40))
    def test_a_valid_range_is_what_it_says(self, first: int, more: int, size: int) -> None:
        last = first + more
        try:
            span = parse_range(f"bytes={first}-{last}", size)
        except Unsatisfiable:
            assert first >= size
        else:
            assert span is not None and span.start == first
            assert span.start + span.count == min(last + 1, size)

    @given(st.text())
    def test_chunks(self, text: str) -> None:
        try:
            span = parse_chunk(text)
        except Unsatisfiable:
            return
        assert span.count > 0 <= span.start

    @given(st.text(), st.text())
    def test_pages(self, number: str, last: str) -> None:
        try:
            count, after = parse_page({"n": [number], "last": [last]})
        except Fault:
            return
        assert 0 <= count <= 10_000 and after == last


def test_a_full_disk(tmp_path: Path) -> None:
    """Said with 507 and what is wrong; what was there is served, and what is small fits again."""
    mounted = 'mount -t tmpfs -o size=4m none "$0" && exec "$@"'
    prefix = ("unshare", "--mount", "--", "sh", "-c", mounted, str(tmp_path))
    with registry(tmp_path, prefix=prefix) as running:
        client = running.client
        kept = client.image("a/b", "1")
        large = os.urandom(8 << 20)
        for _ in range(2):
            reply = client("POST", f"/v2/a/b/blobs/uploads/?digest={sha256(large)}", large)
            assert reply.status == 507 and "no space left on the device" in str(reply.json)
            # What came of it is given back at once: the next push finds room.
            client.push("a/b", os.urandom(1 << 20))
        begun = client.begin("a/b")
        assert client("PATCH", begun, large).status == 507
        assert client("GET", begun).status == 404
        for size in (1 << 20, 64 << 10, 4 << 10, 1):
            while True:
                data = os.urandom(size)
                reply = client("POST", f"/v2/a/b/blobs/uploads/?digest={sha256(data)}", data)
                if reply.status == 507:
                    break
                assert reply.status == 201
        # Full to the last byte, no manifest can be taken; all that is there is served.
        assert client.put("a/b", "2", kept.replace(b"{", b"{ ", 1)).status == 507
        assert client("GET", "/v2/a/b/manifests/2").code == "MANIFEST_UNKNOWN"
        assert client("GET", "/v2/a/b/manifests/1").body == kept
