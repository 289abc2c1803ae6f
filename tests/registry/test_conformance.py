"""OCI distribution specification 1.1, section by section, over real HTTP."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from tests.registry.serving import (
    CONFIG,
    INDEX,
    LAYER,
    OCI,
    Client,
    descriptor,
    index,
    manifest,
    sha256,
    sha512,
)

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
ABSENT = sha256(b"nobody has this")


class TestBase:
    """ "Determining Support"."""

    @pytest.mark.parametrize("path", ["/v2/", "/v2"])
    def test_is_answered(self, client: Client, path: str) -> None:
        reply = client("GET", path)
        assert reply.status == 200
        assert reply.headers["Docker-Distribution-API-Version"] == "registry/2.0"

    def test_elsewhere_is_nothing(self, client: Client) -> None:
        for path in ("/", "/v1/", "/v2/x", "/v2/a/b/c", "/v3/", "/v2/tags/list", "/v2//tags/list"):
            assert client("GET", path).status in (400, 404), path

    def test_wrong_methods(self, client: Client, name: str) -> None:
        for method, path in (
            ("POST", "/v2/"),
            ("DELETE", f"/v2/{name}/tags/list"),
            ("PATCH", f"/v2/{name}/manifests/x"),
            ("PUT", f"/v2/{name}/blobs/{ABSENT}"),
            ("GET", f"/v2/{name}/blobs/uploads/"),
            ("BREW", f"/v2/{name}/referrers/{ABSENT}"),
        ):
            reply = client(method, path)
            # llhttp refuses methods that no RFC has.
            assert reply.status == (400 if method == "BREW" else 405), path
            if reply.status == 405:
                assert reply.code == "UNSUPPORTED" and reply.headers["Allow"]


class TestPullingBlobs:
    """ "Pulling blobs", with HEAD and parts."""

    def test_get_and_head(self, client: Client, name: str) -> None:
        data = b"x" * 100_000
        digest = client.push(name, data)
        path = f"/v2/{name}/blobs/{digest}"
        reply = client("GET", path)
        assert (reply.status, reply.body) == (200, data)
        assert reply.headers["Docker-Content-Digest"] == digest
        assert reply.headers["Accept-Ranges"] == "bytes"
        head = client("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["Content-Length"] == "100000"

    def test_an_empty_blob(self, client: Client, name: str) -> None:
        digest = client.push(name, b"")
        reply = client("GET", f"/v2/{name}/blobs/{digest}")
        assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")
        assert client("GET", f"/v2/{name}/blobs/{digest}", Range="bytes=0-0").status == 416

    def test_an_encoded_colon(self, client: Client, name: str) -> None:
        digest = client.push(name, b"colon")
        assert client("GET", f"/v2/{name}/blobs/{quote(digest, safe='')}").body == b"colon"

    def test_unknown(self, client: Client, name: str) -> None:
        for method in ("GET", "HEAD"):
            reply = client(method, f"/v2/{name}/blobs/{ABSENT}")
            assert reply.status == 404
        assert client("GET", f"/v2/{name}/blobs/{ABSENT}").code == "BLOB_UNKNOWN"

    def test_another_repository_has_it_not(self, client: Client, name: str) -> None:
        digest = client.push(name, b"mine")
        assert client("GET", f"/v2/{name}-other/blobs/{digest}").code == "BLOB_UNKNOWN"

    @pytest.mark.parametrize("digest", ["sha256:abc", "md5:" + "0" * 32, "sha256:" + "G" * 64, "x"])
    def test_no_digest(self, client: Client, name: str, digest: str) -> None:
        reply = client("GET", f"/v2/{name}/blobs/{digest}")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    @pytest.mark.parametrize(
        ("wanted", "status", "part", "content_range"),
        [
            ("bytes=0-0", 206, slice(0, 1), "bytes 0-0/1000"),
            ("bytes=10-19", 206, slice(10, 20), "bytes 10-19/1000"),
            ("bytes=990-", 206, slice(990, 1000), "bytes 990-999/1000"),
            ("bytes=990-5000", 206, slice(990, 1000), "bytes 990-999/1000"),
            ("bytes=-5", 206, slice(995, 1000), "bytes 995-999/1000"),
            ("bytes=-5000", 206, slice(0, 1000), "bytes 0-999/1000"),
            ("bytes=1000-", 416, None, "bytes */1000"),
            ("bytes=-0", 416, None, "bytes */1000"),
            # Ignored, as RFC 9110 allows: no valid range, several, another unit.
            ("bytes=20-10", 200, slice(0, 1000), None),
            ("bytes=0-1,5-6", 200, slice(0, 1000), None),
            ("lines=0-1", 200, slice(0, 1000), None),
            ("bytes=-", 200, slice(0, 1000), None),
        ],
    )
    def test_parts(
        self,
        client: Client,
        name: str,
        wanted: str,
        status: int,
        part: slice | None,
        content_range: str | None,
    ) -> None:
        data = bytes(range(250)) * 4
        digest = client.push(name, data)
        reply = client("GET", f"/v2/{name}/blobs/{digest}", Range=wanted)
        assert reply.status == status
        assert reply.headers.get("Content-Range") == content_range
        if part is not None:
            assert reply.body == data[part]

    def test_conditions(self, client: Client, name: str) -> None:
        digest = client.push(name, b"etag")
        path = f"/v2/{name}/blobs/{digest}"
        tag = client("HEAD", path).headers["ETag"]
        assert client("GET", path, If_None_Match=tag).status == 304
        assert client("GET", path, If_None_Match='"other"').status == 200
        assert client("GET", path, Range="bytes=0-1", If_Range=tag).status == 206
        assert client("GET", path, Range="bytes=0-1", If_Range='"other"').body == b"etag"


class TestPushingBlobs:
    """ "Pushing blobs": monolithic, in chunks, mounted."""

    def test_in_one_post(self, client: Client, name: str) -> None:
        digest = sha256(b"one")
        reply = client("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", b"one")
        assert reply.status == 201
        assert reply.headers["Location"] == f"/v2/{name}/blobs/{digest}"
        assert reply.headers["Docker-Content-Digest"] == digest

    def test_post_then_put(self, client: Client, name: str) -> None:
        place = client.begin(name)
        reply = client("PUT", f"{place}?digest={quote(sha256(b'two'))}", b"two")
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == b"two"

    def test_without_a_slash(self, client: Client, name: str) -> None:
        assert client("POST", f"/v2/{name}/blobs/uploads").status == 202

    def test_a_chunked_body(self, client: Client, name: str) -> None:
        place = client.begin(name)
        reply = client("PATCH", place, iter([b"some ", b"", b"thing"]))
        assert (reply.status, reply.headers["Range"]) == (202, "0-9")
        digest = sha256(b"some thing")
        assert client("PUT", f"{place}?digest={digest}").status == 201

    def test_in_chunks(self, client: Client, name: str) -> None:
        place = client.begin(name)
        assert client("GET", place).headers["Range"] == "0-0"
        reply = client("PATCH", place, b"abc", Content_Range="0-2")
        assert (reply.status, reply.headers["Range"]) == (202, "0-2")
        reply = client("GET", reply.headers["Location"])
        assert (reply.status, reply.headers["Range"]) == (204, "0-2")
        assert client("PATCH", place, b"de", Content_Range="3-4").status == 202
        done = client("PUT", f"{place}?digest={sha256(b'abcdef')}", b"f", Content_Range="5-5")
        assert done.status == 201
        assert client("GET", done.headers["Location"]).body == b"abcdef"
        assert client("GET", place).code == "BLOB_UPLOAD_UNKNOWN"

    @pytest.mark.parametrize("method", ["PATCH", "PUT"])
    @pytest.mark.parametrize("place", ["0-2", "4-6", "9-11", "x", "5-3", "-3", "3-"])
    def test_out_of_order(self, client: Client, name: str, method: str, place: str) -> None:
        at = client.begin(name)
        client("PATCH", at, b"abc", Content_Range="0-2")
        path = f"{at}?digest={sha256(b'abcabc')}" if method == "PUT" else at
        reply = client(method, path, b"abc", Content_Range=place)
        assert reply.status == 416
        assert (reply.headers["Range"], reply.headers["Location"]) == ("0-2", at)
        assert client("PATCH", at, b"def", Content_Range="3-5").status == 202

    def test_a_wrong_digest(self, client: Client, name: str) -> None:
        reply = client("POST", f"/v2/{name}/blobs/uploads/?digest={ABSENT}", b"other")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
        assert client("HEAD", f"/v2/{name}/blobs/{ABSENT}").status == 404
        assert client("HEAD", f"/v2/{name}/blobs/{sha256(b'other')}").status == 404
        place = client.begin(name)
        assert client("PUT", f"{place}?digest={ABSENT}", b"other").code == "DIGEST_INVALID"

    @pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:1", "?digest=x"])
    def test_no_digest(self, client: Client, name: str, query: str) -> None:
        reply = client("PUT", client.begin(name) + query, b"x")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    def test_cancel(self, client: Client, name: str) -> None:
        place = client.begin(name)
        assert client("DELETE", place).status == 204
        for method in ("GET", "PATCH", "DELETE"):
            reply = client(method, place)
            assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_an_upload_belongs_to_its_repository(self, client: Client, name: str) -> None:
        place = client.begin(name).replace(name, f"{name}-other")
        assert client("PATCH", place, b"x").code == "BLOB_UPLOAD_UNKNOWN"

    def test_sha512(self, client: Client, name: str) -> None:
        digest = client.push(name, b"long", sha512(b"long"))
        assert client("GET", f"/v2/{name}/blobs/{digest}").body == b"long"
        place = client.begin(name)
        client("PATCH", place, b"longer")
        assert client("PUT", f"{place}?digest={sha512(b'longer')}").status == 201
        reply = client("POST", f"/v2/{name}/blobs/uploads/?digest={digest}", b"other")
        assert reply.code == "DIGEST_INVALID"

    def test_the_same_blob_twice(self, client: Client, name: str) -> None:
        assert client.push(name, b"twice") == client.push(name, b"twice")

    def test_mount(self, client: Client, name: str) -> None:
        digest = client.push(name, b"mounted")
        other = f"{name}-other"
        reply = client("POST", f"/v2/{other}/blobs/uploads/?mount={digest}&from={name}")
        assert reply.status == 201
        assert reply.headers["Location"] == f"/v2/{other}/blobs/{digest}"
        assert client("GET", f"/v2/{other}/blobs/{digest}").body == b"mounted"

    def test_mount_without_from(self, client: Client, name: str) -> None:
        client.image(name, "1", seed=name.encode())
        digest = sha256(b"layer" + name.encode())
        reply = client("POST", f"/v2/{name}-other/blobs/uploads/?mount={digest}")
        assert reply.status == 201

    @pytest.mark.parametrize("source", ["nobody/here", "UPPER", "../x", ""])
    def test_a_mount_that_fails_is_an_upload(self, client: Client, name: str, source: str) -> None:
        for digest in (ABSENT, "nonsense"):
            path = f"/v2/{name}/blobs/uploads/?mount={digest}&from={quote(source)}"
            reply = client("POST", path)
            assert reply.status == 202
            done = client("PUT", f"{reply.headers['Location']}?digest={sha256(b'm')}", b"m")
            assert done.status == 201


class TestManifests:
    """ "Pushing manifests" and "Pulling manifests"."""

    @pytest.mark.parametrize("kind", [OCI, DOCKER])
    def test_by_tag_and_digest(self, client: Client, name: str, kind: str) -> None:
        client.image(name, seed=b"kinds")
        data = manifest(b'{"seed": "%s"}' % b"kinds".hex().encode(), b"layerkinds", mediaType=kind)
        reply = client.put(name, "v1", data, kind)
        assert reply.status == 201
        digest = sha256(data)
        assert reply.headers["Docker-Content-Digest"] == digest
        assert reply.headers["Location"] == f"/v2/{name}/manifests/{digest}"
        for reference in ("v1", digest):
            got = client("GET", f"/v2/{name}/manifests/{reference}", Accept=kind)
            assert (got.status, got.body) == (200, data)
            assert got.headers["Content-Type"] == kind
            assert got.headers["Docker-Content-Digest"] == digest
            head = client("HEAD", f"/v2/{name}/manifests/{reference}")
            assert (head.status, head.body) == (200, b"")
            assert head.headers["Content-Length"] == str(len(data))

    @pytest.mark.parametrize("kind", [INDEX, DOCKER_LIST])
    def test_indexes(self, client: Client, name: str, kind: str) -> None:
        images = [client.image(name, seed=bytes([n])) for n in range(2)]
        data = index(*images, mediaType=kind)
        assert client.put(name, "multi", data, kind).status == 201
        assert client("GET", f"/v2/{name}/manifests/multi").body == data

    def test_by_sha512(self, client: Client, name: str) -> None:
        data = client.image(name)
        assert client.put(name, sha512(data), data).status == 201
        reply = client("GET", f"/v2/{name}/manifests/{sha512(data)}")
        assert reply.headers["Docker-Content-Digest"] == sha512(data)

    def test_unknown(self, client: Client, name: str) -> None:
        reply = client("GET", f"/v2/{name}/manifests/v1")
        assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")
        client.image(name, "v1")
        for reference in ("v2", ABSENT):
            reply = client("GET", f"/v2/{name}/manifests/{reference}")
            assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")

    def test_a_tag_moves(self, client: Client, name: str) -> None:
        first = client.image(name, "latest", seed=b"1")
        second = client.image(name, "latest", seed=b"2")
        assert client("GET", f"/v2/{name}/manifests/latest").body == second
        assert client("GET", f"/v2/{name}/manifests/{sha256(first)}").body == first

    def test_a_wrong_digest(self, client: Client, name: str) -> None:
        data = client.image(name)
        assert client.put(name, ABSENT, data).code == "DIGEST_INVALID"
        assert client("GET", f"/v2/{name}/manifests/{ABSENT}").status == 404

    def test_missing_blobs_are_named(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        reply = client.put(name, "v1", manifest(b"{}", b"missing 1", b"missing 2"))
        assert (reply.status, reply.code) == (404, "MANIFEST_BLOB_UNKNOWN")
        named = [error["detail"]["digest"] for error in reply.json["errors"]]
        assert named == [sha256(b"missing 1"), sha256(b"missing 2")]
        assert client("GET", f"/v2/{name}/manifests/v1").status == 404

    def test_missing_manifests_are_named(self, client: Client, name: str) -> None:
        image = client.image(name)
        reply = client.put(name, "v1", index(image, b"missing"), INDEX)
        assert reply.code == "MANIFEST_BLOB_UNKNOWN"

    def test_a_wrong_size(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        config = descriptor(b"{}", CONFIG, size=3)
        reply = client.put(name, "v1", manifest(b"{}", config=config))
        assert (reply.status, reply.code) == (400, "SIZE_INVALID")

    def test_foreign_layers_may_be_missing(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        kind = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        layer = descriptor(b"elsewhere", kind, urls=["https://example.org/layer"])
        assert client.put(name, "v1", manifest(b"{}", layers=[layer])).status == 201

    def test_conditions(self, client: Client, name: str) -> None:
        data = client.image(name, "v1")
        other = client.image(name, seed=b"other")
        path = f"/v2/{name}/manifests/v1"
        tag = client("HEAD", path).headers["ETag"]
        assert client("GET", path, If_None_Match=tag).status == 304
        fields = {"Content_Type": OCI}
        assert client("PUT", path, other, If_None_Match="*", **fields).status == 412
        assert client("PUT", path, other, If_Match='"sha256:other"', **fields).status == 412
        assert client("GET", path).body == data
        assert client("PUT", path, other, If_Match=tag, **fields).status == 201
        fresh = f"/v2/{name}/manifests/v2"
        assert client("PUT", fresh, other, If_None_Match="*", **fields).status == 201

    def test_an_oras_style_artifact(self, client: Client, name: str) -> None:
        empty, file = b"{}", b"a file"
        for blob in (empty, file):
            client.push(name, blob)
        config = descriptor(empty, "application/vnd.oci.empty.v1+json")
        # podman writes the type of a text file with its parameter.
        layer = descriptor(
            file, "text/plain; charset=utf-8", annotations={"org.opencontainers.image.title": "f"}
        )
        data = manifest(empty, config=config, layers=[layer], artifactType="application/x.notes")
        assert client.put(name, "notes", data).status == 201
        assert client("GET", f"/v2/{name}/manifests/notes").body == data


class TestDiscovery:
    """ "Content Discovery": tags, the catalog, referrers."""

    def test_tags_are_sorted_and_paged(self, client: Client, name: str) -> None:
        client.image(name, "b", "A", "c", "a", "B10", "B9")
        path = f"/v2/{name}/tags/list"
        whole = client("GET", path)
        assert whole.json == {"name": name, "tags": ["A", "a", "b", "B10", "B9", "c"]}
        assert "Link" not in whole.headers
        seen: list[str] = []
        link = f"<{path}?n=4>"
        while link:
            reply = client("GET", link.partition("<")[2].partition(">")[0])
            assert len(reply.json["tags"]) <= 4
            seen += reply.json["tags"]
            link = reply.headers.get("Link", "")
            assert not link or link.endswith('>; rel="next"')
        assert seen == whole.json["tags"]
        assert client("GET", f"{path}?n=0").json["tags"] == []
        assert client("GET", f"{path}?last=B10").json["tags"] == ["B9", "c"]
        assert client("GET", f"{path}?n=2&last=zzz").json["tags"] == []

    @pytest.mark.parametrize("number", ["-1", "x", "1.5", "9" * 20])
    def test_a_number_that_is_none(self, client: Client, name: str, number: str) -> None:
        client.image(name, "v1")
        reply = client("GET", f"/v2/{name}/tags/list?n={number}")
        assert (reply.status, reply.code) == (400, "UNSUPPORTED")

    def test_unknown(self, client: Client, name: str) -> None:
        reply = client("GET", f"/v2/{name}/tags/list")
        assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")

    def test_a_repository_below_another(self, client: Client, name: str) -> None:
        client.image(f"{name}/tags/list", "v1")
        client.image(f"{name}/blobs/uploads", "v2")
        assert client("GET", f"/v2/{name}/tags/list/tags/list").json["tags"] == ["v1"]
        assert client("GET", f"/v2/{name}/blobs/uploads/tags/list").json["tags"] == ["v2"]
        assert client("GET", f"/v2/{name}/tags/list").status == 404

    def test_catalog(self, client: Client, name: str) -> None:
        names = [f"{name}-z", f"{name}/b", f"{name}/a", name]
        for one in names:
            client.image(one, "v1")
        found = client("GET", "/v2/_catalog?n=1000").json["repositories"]
        assert [one for one in found if one.startswith(name)] == sorted(names)
        reply = client("GET", f"/v2/_catalog?n=2&last={quote(name)}")
        assert reply.json["repositories"] == [f"{name}-z", f"{name}/a"]
        assert f"last={quote(f'{name}/a', safe='')}" in reply.headers["Link"]

    def test_referrers(self, client: Client, name: str) -> None:
        subject = client.image(name, "v1")
        about = descriptor(subject, OCI)
        path = f"/v2/{name}/referrers/{sha256(subject)}"
        empty = client("GET", path)
        assert (empty.status, empty.headers["Content-Type"]) == (200, INDEX)
        assert empty.json == {"schemaVersion": 2, "mediaType": INDEX, "manifests": []}
        signature = client.image(
            name, seed=b"sig", subject=about, artifactType="application/x.sig",
            annotations={"by": "me"},
        )  # fmt: skip
        sbom = client.image(name, seed=b"sbom", subject=about)
        attached = index(subject=about, artifactType="application/x.list")
        reply = client.put(name, sha256(attached), attached, INDEX)
        assert reply.headers["OCI-Subject"] == sha256(subject)
        found = {item["digest"]: item for item in client("GET", path).json["manifests"]}
        assert found == {
            sha256(signature): descriptor(
                signature, OCI, artifactType="application/x.sig", annotations={"by": "me"}
            ),
            # Without an artifactType the configuration's media type stands in.
            sha256(sbom): descriptor(sbom, OCI, artifactType=CONFIG),
            sha256(attached): descriptor(attached, INDEX, artifactType="application/x.list"),
        }
        filtered = client("GET", f"{path}?artifactType=application/x.sig")
        assert [item["digest"] for item in filtered.json["manifests"]] == [sha256(signature)]
        assert filtered.headers["OCI-Filters-Applied"] == "artifactType"
        first = client("GET", f"{path}?n=2")
        link = first.headers["Link"].partition("<")[2].partition(">")[0]
        both = first.json["manifests"] + client("GET", link).json["manifests"]
        assert [item["digest"] for item in both] == sorted(found)
        client("DELETE", f"/v2/{name}/manifests/{sha256(signature)}")
        assert len(client("GET", path).json["manifests"]) == 2

    def test_a_subject_may_be_missing(self, client: Client, name: str) -> None:
        data = client.image(name, subject=descriptor(b"later", OCI))
        found = client("GET", f"/v2/{name}/referrers/{sha256(b'later')}").json["manifests"]
        assert [item["digest"] for item in found] == [sha256(data)]

    def test_referrers_of_no_digest(self, client: Client, name: str) -> None:
        reply = client("GET", f"/v2/{name}/referrers/latest")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    def test_the_tag_schema(self, client: Client, name: str) -> None:
        """Clients of registries without the list keep it themselves, under a tag."""
        subject = client.image(name, "v1")
        signature = client.image(name, seed=b"sig", subject=descriptor(subject, OCI))
        tag = sha256(subject).replace(":", "-")
        assert client.put(name, tag, index(signature), INDEX).status == 201
        assert json.loads(client("GET", f"/v2/{name}/manifests/{tag}").body)["manifests"]


class TestManagement:
    """ "Content Management": tags, manifests, blobs go."""

    def test_a_tag(self, client: Client, name: str) -> None:
        data = client.image(name, "v1", "v2")
        assert client("DELETE", f"/v2/{name}/manifests/v1").status == 202
        assert client("GET", f"/v2/{name}/tags/list").json["tags"] == ["v2"]
        assert client("GET", f"/v2/{name}/manifests/{sha256(data)}").status == 200
        reply = client("DELETE", f"/v2/{name}/manifests/v1")
        assert (reply.status, reply.code) == (404, "MANIFEST_UNKNOWN")

    def test_a_manifest(self, client: Client, name: str) -> None:
        data = client.image(name, "v1", "v2")
        client.image(name, "other", seed=b"other")
        path = f"/v2/{name}/manifests/{sha256(data)}"
        assert client("DELETE", path).status == 202
        assert client("GET", path).code == "MANIFEST_UNKNOWN"
        assert client("GET", f"/v2/{name}/tags/list").json["tags"] == ["other"]
        assert client("DELETE", path).status == 404

    def test_a_blob(self, client: Client, name: str) -> None:
        digest = client.push(name, b"goes")
        path = f"/v2/{name}/blobs/{digest}"
        assert client("DELETE", path).status == 202
        assert client("GET", path).code == "BLOB_UNKNOWN"
        reply = client("DELETE", path)
        assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")
        assert client.push(name, b"goes")


def test_layer_is_what_the_helpers_say() -> None:
    assert LAYER in manifest(b"{}", b"x").decode()
