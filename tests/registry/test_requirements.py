"""The musts that OCI distribution specification 1.1 lays on a registry, one test each, by section.

`test_conformance` tries sections as clients use them; here each test is one sentence of the document.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.registry.serving import (
    CONFIG,
    INDEX,
    LAYER,
    OCI,
    Client,
    Reply,
    descriptor,
    index,
    manifest,
    registry,
    sha256,
    sha512,
)

CODES = {
    "BLOB_UNKNOWN", "BLOB_UPLOAD_INVALID", "BLOB_UPLOAD_UNKNOWN", "DIGEST_INVALID", "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID", "MANIFEST_UNKNOWN", "NAME_INVALID", "NAME_UNKNOWN", "SIZE_INVALID", "UNAUTHORIZED",
    "DENIED", "UNSUPPORTED", "TOOMANYREQUESTS",
}  # fmt: skip
ABSENT = sha256(b"what nobody pushed")
EMPTY = "application/vnd.oci.empty.v1+json"


def next_page(reply: Reply) -> str:
    """Return the target of an RFC 5988 link to the next page, or ""."""
    found = re.fullmatch(r'<([^<>]+)>; rel="next"', reply.headers.get("Link", ""))
    return found[1] if found else ""


class TestPull:
    """ "Pull", and "Checking if content exists in the registry"."""

    def test_end_1_base_answers_200(self, client: Client) -> None:
        assert client("GET", "/v2/").status == 200

    @pytest.mark.parametrize(
        "good", ["a", "0", "a/b/c", "a.b", "a_b", "a__b", "a-b", "a---b", "a0/0a", "a" * 200]
    )
    def test_names_of_the_grammar_are_taken(self, client: Client, good: str) -> None:
        assert client("POST", f"/v2/{good}/blobs/uploads/").status == 202

    @pytest.mark.parametrize(
        "bad", ["A", "a..b", "a___b", "a._b", "-a", "a-", "_a", ".a", "a/-b", "é"]
    )
    def test_names_outside_it_are_not(self, client: Client, bad: str) -> None:
        assert client("POST", f"/v2/{quote(bad)}/blobs/uploads/").code == "NAME_INVALID"

    @pytest.mark.parametrize("tag", ["_", "A", "0.", "a" * 128, "a.b-c_d", "latest-"])
    def test_tags_of_the_grammar_are_taken(self, client: Client, name: str, tag: str) -> None:
        data = client.image(name, tag)
        assert client("GET", f"/v2/{name}/manifests/{tag}").body == data

    @pytest.mark.parametrize("tag", [".INVALID_MANIFEST_NAME", "-a", "a" * 129, "a!", "%C3%A9"])
    def test_another_reference_has_no_manifest(self, client: Client, name: str, tag: str) -> None:
        data = client.image(name)
        for method in ("GET", "HEAD", "DELETE"):
            assert client(method, f"/v2/{name}/manifests/{tag}").status == 404
        assert client.put(name, tag, data).status == 400

    def test_a_manifest_comes_with_its_type_and_digest_byte_for_byte(
        self, client: Client, name: str
    ) -> None:
        data = client.image(name).replace(b", ", b" ,\n\t")
        assert client.put(name, "v1", data, f"{OCI}; charset=utf-8").status == 201
        for reference in ("v1", sha256(data)):
            reply = client("GET", f"/v2/{name}/manifests/{reference}", Accept="text/x-other")
            assert (reply.status, reply.body) == (200, data)
            assert reply.headers["Content-Type"] == OCI
            assert reply.headers["Docker-Content-Digest"] == sha256(data)

    def test_a_manifest_that_is_not_there_is_404(self, client: Client, name: str) -> None:
        client.image(name, "v1")
        for reference in ("v2", ABSENT, sha512(b"")):
            for method in ("GET", "HEAD"):
                assert client(method, f"/v2/{name}/manifests/{reference}").status == 404

    def test_a_repository_that_is_not_there_is_404(self, client: Client, name: str) -> None:
        assert client("GET", f"/v2/{name}/manifests/latest").status == 404
        assert client("GET", f"/v2/{name}/blobs/{ABSENT}").status == 404
        assert client("GET", f"/v2/{name}/tags/list").status == 404

    @pytest.mark.parametrize("digest_of", [sha256, sha512])
    def test_a_blob_comes_with_its_digest(self, client: Client, name: str, digest_of) -> None:
        digest = client.push(name, b"a blob", digest_of(b"a blob"))
        reply = client("GET", f"/v2/{name}/blobs/{digest}")
        assert (reply.status, reply.body) == (200, b"a blob")
        assert reply.headers["Docker-Content-Digest"] == digest

    def test_a_blob_that_is_not_there_is_404(self, client: Client, name: str) -> None:
        assert client("GET", f"/v2/{name}/blobs/{ABSENT}").status == 404
        assert client("HEAD", f"/v2/{name}/blobs/{ABSENT}").status == 404

    def test_ranges_are_rfc_9110_s(self, client: Client, name: str) -> None:
        digest = client.push(name, b"0123456789")
        reply = client("GET", f"/v2/{name}/blobs/{digest}", Range="bytes=4-")
        assert (reply.status, reply.body) == (206, b"456789")
        assert reply.headers["Content-Range"] == "bytes 4-9/10"
        reply = client("GET", f"/v2/{name}/blobs/{digest}", Range="bytes=10-")
        assert (reply.status, reply.code) == (416, "SIZE_INVALID")
        assert reply.headers["Content-Range"] == "bytes */10"

    def test_head_tells_size_and_digest_and_has_no_body(self, client: Client, name: str) -> None:
        data = client.image(name, "v1")
        blob = client.push(name, b"seven b")
        for path, size, digest in (
            (f"manifests/{sha256(data)}", len(data), sha256(data)),
            ("manifests/v1", len(data), sha256(data)),
            (f"blobs/{blob}", 7, blob),
        ):
            reply = client("HEAD", f"/v2/{name}/{path}")
            assert (reply.status, reply.body) == (200, b"")
            assert reply.headers["Content-Length"] == str(size)
            assert reply.headers["Docker-Content-Digest"] == digest


class TestPushingBlobs:
    """ "Pushing blobs"."""

    def test_end_4a_a_post_is_202_with_a_location_of_its_own(
        self, client: Client, name: str
    ) -> None:
        places = {client.begin(name) for _ in range(3)}
        assert len(places) == 3
        assert all(re.search(r"[0-9a-f]{32}", place) for place in places)

    def test_end_6_put_is_201_with_a_location_that_can_be_pulled(
        self, client: Client, name: str
    ) -> None:
        reply = client("PUT", f"{client.begin(name)}?digest={sha256(b'one')}", b"one")
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == b"one"

    def test_end_4b_single_post_is_201_with_a_location_that_can_be_pulled(
        self, client: Client, name: str
    ) -> None:
        path = f"/v2/{name}/blobs/uploads/?digest={quote(sha256(b'two'), safe='')}"
        reply = client("POST", path, b"two", Content_Type="application/octet-stream")
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == b"two"

    @pytest.mark.parametrize("end", ["POST", "PUT"])
    def test_content_must_be_what_the_digest_says(
        self, client: Client, name: str, end: str
    ) -> None:
        place = f"/v2/{name}/blobs/uploads/" if end == "POST" else client.begin(name)
        for digest in (ABSENT, sha512(b"else")):
            reply = client(end, f"{place}?digest={digest}", b"other")
            assert reply.status in (400, 404)
            assert client("HEAD", f"/v2/{name}/blobs/{digest}").status == 404

    def test_end_5_each_chunk_is_202_with_location_and_range(
        self, client: Client, name: str
    ) -> None:
        place, data = client.begin(name), b"abcdefghij"
        for start in range(0, 10, 3):
            piece = data[start : start + 3]
            reply = client("PATCH", place, piece, Content_Range=f"{start}-{start + len(piece) - 1}")
            assert reply.status == 202
            assert reply.headers["Range"] == f"0-{start + len(piece) - 1}"
            place = reply.headers["Location"]
        reply = client("PUT", f"{place}?digest={sha256(data)}")
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == data

    def test_the_first_chunk_begins_at_0(self, client: Client, name: str) -> None:
        assert client("PATCH", client.begin(name), b"abc", Content_Range="1-3").status == 416

    @pytest.mark.parametrize("start", [0, 1, 4, 100])
    def test_a_chunk_out_of_order_is_416(self, client: Client, name: str, start: int) -> None:
        place = client.begin(name)
        client("PATCH", place, b"abc", Content_Range="0-2")
        reply = client("PATCH", place, b"de", Content_Range=f"{start}-{start + 1}")
        assert (reply.status, reply.code) == (416, "BLOB_UPLOAD_INVALID")

    def test_end_13_after_a_416_the_state_is_204_with_location_and_range(
        self, client: Client, name: str
    ) -> None:
        place = client.begin(name)
        client("PATCH", place, b"abc", Content_Range="0-2")
        client("PATCH", place, b"abc", Content_Range="7-9")
        reply = client("GET", place)
        assert (reply.status, reply.headers["Range"]) == (204, "0-2")
        last = client("PATCH", reply.headers["Location"], b"d", Content_Range="3-3")
        assert last.status == 202

    def test_the_last_chunk_may_come_with_the_put(self, client: Client, name: str) -> None:
        place = client.begin(name)
        client("PATCH", place, b"abc", Content_Range="0-2")
        path = f"{place}?digest={sha256(b'abcde')}"
        assert client("PUT", path, b"de", Content_Range="3-4").status == 201

    def test_the_put_must_have_the_digest(self, client: Client, name: str) -> None:
        place = client.begin(name)
        assert client("PUT", place, b"abc").status == 400
        assert client("PUT", f"{place}?digest={sha256(b'abc')}", b"abc").status == 201

    def test_end_14_a_cancelled_upload_is_204_and_gone(self, client: Client, name: str) -> None:
        place = client.begin(name)
        assert client("DELETE", place).status == 204
        assert client("GET", place).status == 404

    def test_an_upload_nobody_began_is_404(self, client: Client, name: str) -> None:
        place = f"/v2/{name}/blobs/uploads/00000000-0000-0000-0000-000000000000"
        for method in ("GET", "PATCH", "PUT", "DELETE"):
            reply = client(method, f"{place}?digest={ABSENT}", b"x" if method[0] == "P" else None)
            assert (reply.status, reply.code) == (404, "BLOB_UPLOAD_UNKNOWN")

    def test_end_11_a_mount_is_201_with_a_location_that_can_be_pulled(
        self, client: Client, name: str
    ) -> None:
        digest = client.push(name, b"mounted from here")
        path = f"/v2/{name}/to/blobs/uploads/?mount={digest}&from={quote(name, safe='')}"
        reply = client("POST", path, Content_Length="0")
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == b"mounted from here"

    def test_a_mount_that_cannot_be_is_202_and_an_upload(self, client: Client, name: str) -> None:
        reply = client("POST", f"/v2/{name}/blobs/uploads/?mount={ABSENT}&from={name}/nothing")
        assert reply.status == 202
        digest = sha256(b"then sent")
        place = reply.headers["Location"]
        assert client("PUT", f"{place}?digest={digest}", b"then sent").status == 201


class TestPushingManifests:
    """ "Push" and "Pushing Manifests"."""

    @pytest.mark.parametrize("by", ["tag", "sha256", "sha512"])
    def test_end_7_is_201_with_location_and_digest(
        self, client: Client, name: str, by: str
    ) -> None:
        data = client.image(name, "first")
        reference = {"tag": "v1", "sha256": sha256(data), "sha512": sha512(data)}[by]
        reply = client.put(name, reference, data)
        assert reply.status == 201
        assert client("GET", reply.headers["Location"]).body == data
        assert reply.headers["Docker-Content-Digest"] == (
            sha512(data) if by == "sha512" else sha256(data)
        )

    def test_the_list_of_layers_may_be_empty(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        assert client.put(name, "none", manifest(b"{}")).status == 201
        assert client.put(name, "no-images", index(), INDEX).status == 201

    def test_parameters_of_the_content_type_are_passed_over(
        self, client: Client, name: str
    ) -> None:
        data = client.image(name)
        assert client.put(name, "v1", data, f"{OCI};v=1; q=2").status == 201

    def test_four_mebibytes_are_taken_and_more_is_413(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        rest = (4 << 20) - len(manifest(b"{}", annotations={"a": ""}))
        for more, status in ((0, 201), (1, 413)):
            data = manifest(b"{}", annotations={"a": "x" * (rest + more)})
            assert client.put(name, "large", data).status == status

    def test_a_missing_blob_is_manifest_blob_unknown(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        reply = client.put(name, "v1", manifest(b"{}", b"missing"))
        assert (reply.status, reply.code) == (404, "MANIFEST_BLOB_UNKNOWN")
        reply = client.put(name, "v1", index(b"missing"), INDEX)
        assert (reply.status, reply.code) == (404, "MANIFEST_BLOB_UNKNOWN")

    @pytest.mark.parametrize("kind", ["manifest", "index"])
    def test_a_subject_may_come_later_and_is_answered_with_oci_subject(
        self, client: Client, name: str, kind: str
    ) -> None:
        subject = manifest(b"{}", artifactType="application/x.subject")
        client.push(name, b"{}")
        about = descriptor(subject, OCI)
        data = manifest(b"{}", subject=about) if kind == "manifest" else index(subject=about)
        reply = client.put(name, sha256(data), data, OCI if kind == "manifest" else INDEX)
        assert (reply.status, reply.headers["OCI-Subject"]) == (201, sha256(subject))
        assert client.put(name, sha256(subject), subject).status == 201

    def test_without_a_subject_there_is_no_oci_subject(self, client: Client, name: str) -> None:
        assert "OCI-Subject" not in client.put(name, "v1", client.image(name)).headers


class TestListingTags:
    """ "Listing Tags"."""

    def test_end_8a_is_200_with_name_and_sorted_tags(self, client: Client, name: str) -> None:
        client.image(name, "v10", "V2", "v1", "latest", "_x")
        reply = client("GET", f"/v2/{name}/tags/list")
        tags = reply.json["tags"]
        assert (reply.status, reply.json["name"]) == (200, name)
        assert tags in (sorted(tags), sorted(tags, key=lambda tag: (tag.lower(), tag)))
        assert len(tags) == 5

    def test_a_repository_without_tags_has_an_empty_list(self, client: Client, name: str) -> None:
        client.image(name)
        reply = client("GET", f"/v2/{name}/tags/list")
        assert (reply.status, reply.json["tags"]) == (200, [])

    def test_end_8b_n_gives_as_many_and_a_link_to_more(self, client: Client, name: str) -> None:
        client.image(name, *(f"t{number}" for number in range(5)))
        reply = client("GET", f"/v2/{name}/tags/list?n=2")
        assert reply.json["tags"] == ["t0", "t1"]
        query = parse_qs(urlsplit(next_page(reply)).query)
        assert query == {"n": ["2"], "last": ["t1"]}
        reply = client("GET", next_page(reply))
        assert reply.json["tags"] == ["t2", "t3"]
        reply = client("GET", next_page(reply))
        assert (reply.json["tags"], next_page(reply)) == (["t4"], "")

    def test_n_of_0_is_an_empty_list_without_a_link(self, client: Client, name: str) -> None:
        client.image(name, "v1", "v2")
        reply = client("GET", f"/v2/{name}/tags/list?n=0")
        assert (reply.status, reply.json["tags"]) == (200, [])
        assert "Link" not in reply.headers

    def test_last_is_a_tag_that_need_not_be_there_and_does_not_come_again(
        self, client: Client, name: str
    ) -> None:
        client.image(name, "a", "c", "e")
        for last, tags in (("a", ["c", "e"]), ("b", ["c", "e"]), ("e", []), ("1", ["a", "c", "e"])):
            path = f"/v2/{name}/tags/list?last={last}"
            assert client("GET", path).json["tags"] == tags
            assert client("GET", f"{path}&n=1").json["tags"] == tags[:1]


class TestListingReferrers:
    """ "Listing Referrers" and "Enabling the Referrers API"."""

    def test_end_12a_is_an_empty_index_where_nothing_refers(
        self, client: Client, name: str
    ) -> None:
        for repository in (name, f"{name}/never/pushed/to"):
            reply = client("GET", f"/v2/{repository}/referrers/{ABSENT}")
            assert (reply.status, reply.headers["Content-Type"]) == (200, INDEX)
            assert reply.json["manifests"] == []
            assert (reply.json["schemaVersion"], reply.json["mediaType"]) == (2, INDEX)

    @pytest.mark.parametrize("digest", ["latest", "sha256:x", "sha256:", "sha1:" + "0" * 40])
    def test_what_is_no_digest_is_400(self, client: Client, name: str, digest: str) -> None:
        reply = client("GET", f"/v2/{name}/referrers/{digest}")
        assert (reply.status, reply.code) == (400, "DIGEST_INVALID")

    def test_entries_have_artifact_type_and_annotations(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        about = descriptor(b"the subject", OCI)
        noted = {"org.example.a": "1", "org.example.b": "ü"}
        referring = [
            # The manifest's own type, the configuration's in its place, an index's, and none.
            (manifest(b"{}", subject=about, artifactType="a/own", annotations=noted), OCI, "a/own"),
            (manifest(b"{}", subject=about, config=descriptor(b"{}", EMPTY)), OCI, EMPTY),
            (manifest(b"{}", subject=about, artifactType=""), OCI, CONFIG),
            (index(subject=about, artifactType="a/index"), INDEX, "a/index"),
            (index(subject=about), INDEX, None),
        ]
        for data, kind, _ in referring:
            assert client.put(name, sha256(data), data, kind).status == 201
        reply = client("GET", f"/v2/{name}/referrers/{about['digest']}")
        found = {item["digest"]: item for item in reply.json["manifests"]}
        assert len(found) == len(referring)
        for data, kind, artifact in referring:
            item = found[sha256(data)]
            assert (item["mediaType"], item["size"]) == (kind, len(data))
            assert item.get("artifactType") == artifact
        assert found[sha256(referring[0][0])]["annotations"] == noted

    def test_end_12b_a_filter_that_was_applied_is_named(self, client: Client, name: str) -> None:
        client.push(name, b"{}")
        about = descriptor(b"subject", OCI)
        for kind in ("a/sbom", "a/b+c", "a/b+c2"):
            data = manifest(b"{}", subject=about, artifactType=kind)
            client.put(name, sha256(data), data)
        path = f"/v2/{name}/referrers/{about['digest']}"
        reply = client("GET", f"{path}?artifactType={quote('a/b+c', safe='')}")
        assert [item["artifactType"] for item in reply.json["manifests"]] == ["a/b+c"]
        assert reply.headers["OCI-Filters-Applied"] == "artifactType"
        assert "OCI-Filters-Applied" not in client("GET", path).headers

    def test_more_than_one_answer_holds_is_linked_page_by_page(
        self, client: Client, name: str
    ) -> None:
        """An answer is an index, and so within 4 MiB: annotations make these eleven more than that."""
        client.push(name, b"{}")
        about = descriptor(b"subject", OCI)
        pushed: set[str] = set()
        for number in range(11):
            note = {"n": str(number), "long": "x" * 400_000}
            data = manifest(b"{}", subject=about, artifactType="a/b", annotations=note)
            pushed.add(sha256(data))
            client.put(name, sha256(data), data)
        found: list[str] = []
        path, pages = f"/v2/{name}/referrers/{about['digest']}?artifactType=a/b", 0
        while path:
            reply = client("GET", path)
            assert len(reply.body) <= 4 << 20
            assert reply.headers["OCI-Filters-Applied"] == "artifactType"
            found += [item["digest"] for item in reply.json["manifests"]]
            path, pages = next_page(reply), pages + 1
        assert pages == 2
        assert sorted(found) == sorted(pushed)

    def test_what_was_pushed_under_the_tag_schema_is_in_the_list(
        self, client: Client, name: str
    ) -> None:
        """A client that knows no list pushes the manifest and a tagged index beside it."""
        subject = client.image(name, "v1")
        signature = client.image(name, seed=b"s", subject=descriptor(subject, OCI))
        tag = sha256(subject).replace(":", "-")
        assert client.put(name, tag, index(signature), INDEX).status == 201
        listed = client("GET", f"/v2/{name}/referrers/{sha256(subject)}").json["manifests"]
        tagged = client("GET", f"/v2/{name}/manifests/{tag}").json["manifests"]
        assert [item["digest"] for item in listed] == [item["digest"] for item in tagged]


class TestManagement:
    """ "Content Management"."""

    def test_end_9_a_tag_that_goes_is_202_then_404(self, client: Client, name: str) -> None:
        data = client.image(name, "v1", "v2")
        assert client("DELETE", f"/v2/{name}/manifests/v1").status == 202
        assert client("GET", f"/v2/{name}/manifests/v1").status == 404
        assert client("GET", f"/v2/{name}/manifests/v2").body == data

    def test_end_9_a_manifest_that_goes_takes_its_tags(self, client: Client, name: str) -> None:
        data = client.image(name, "v1", "v2")
        assert client("DELETE", f"/v2/{name}/manifests/{sha256(data)}").status == 202
        for reference in (sha256(data), "v1", "v2"):
            assert client("GET", f"/v2/{name}/manifests/{reference}").status == 404

    def test_of_a_repository_that_is_not_there_it_is_404(self, client: Client, name: str) -> None:
        for what in (f"manifests/{ABSENT}", "manifests/v1", f"blobs/{ABSENT}"):
            assert client("DELETE", f"/v2/{name}/{what}").status == 404

    def test_end_10_a_blob_that_goes_is_202_then_404(self, client: Client, name: str) -> None:
        digest = client.push(name, b"to go")
        assert client("DELETE", f"/v2/{name}/blobs/{digest}").status == 202
        assert client("GET", f"/v2/{name}/blobs/{digest}").status == 404
        assert client("DELETE", f"/v2/{name}/blobs/{digest}").status == 404

    @pytest.mark.parametrize("flag", ["--no-delete", "--read-only"])
    def test_where_deleting_is_off_it_is_400_or_405(self, tmp_path: Path, flag: str) -> None:
        with registry(tmp_path, flag) as running:
            for what in (f"manifests/{ABSENT}", "manifests/v1", f"blobs/{ABSENT}"):
                reply = running.client("DELETE", f"/v2/a/{what}")
                assert (reply.status, reply.code) == (405, "UNSUPPORTED")


class TestErrors:
    """ "Error Codes"."""

    def test_every_refusal_is_of_the_form_with_one_of_fourteen_codes(
        self, client: Client, name: str
    ) -> None:
        client.image(name, "v1")
        place = client.begin(name)
        bodies = [
            client("GET", "/"),
            client("GET", "/v2/x"),
            client("GET", f"/v2/{name}/nothing"),
            client("POST", "/v2/"),
            client("GET", "/v2/A/tags/list"),
            client("GET", f"/v2/{name}-x/tags/list"),
            client("GET", f"/v2/{name}/tags/list?n=x"),
            client("GET", f"/v2/{name}/manifests/.x"),
            client("PUT", f"/v2/{name}/manifests/.x", b"{}"),
            client("PUT", f"/v2/{name}/manifests/x", b"{}"),
            client("PUT", f"/v2/{name}/manifests/x", b"{}", If_Match='"x"'),
            client("GET", f"/v2/{name}/manifests/sha256:x"),
            client("GET", f"/v2/{name}/blobs/{ABSENT}"),
            client("GET", f"/v2/{name}/blobs/{sha256(b'layer')}", Range="bytes=99-"),
            client("PATCH", place, b"x", Content_Range="5-5"),
            client("PATCH", place, b"xy", Content_Range="0-0"),
            client("PUT", f"{place}?digest=x", b"x"),
            client("PUT", f"{place}?digest={ABSENT}", b"x"),
            client("GET", place),
            client("GET", f"/v2/{name}/referrers/x"),
            client("PUT", f"/v2/{name}/manifests/x", b" " * ((4 << 20) + 1)),
            client("GET", "/v2/" + "a" * 70_000),
            client("DELETE", f"/v2/{name}/blobs/{ABSENT}"),
        ]
        for reply in bodies:
            assert 400 <= reply.status < 500
            errors = json.loads(reply.body)["errors"]
            assert errors
            assert all(set(error) <= {"code", "message", "detail"} for error in errors)
            assert {error["code"] for error in errors} <= CODES
            assert all(isinstance(error.get("message", ""), str) for error in errors)

    def test_what_is_no_http_is_refused_in_the_same_form(self, client: Client) -> None:
        with client.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: nan\r\n\r\n") as stream:
            answer = b""
            while piece := stream.recv(65536):
                answer += piece
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
        assert {error["code"] for error in body["errors"]} <= CODES

    def test_warnings_are_never_sent(self, client: Client, name: str) -> None:
        client.image(name, "v1")
        assert "Warning" not in client("GET", f"/v2/{name}/manifests/v1").headers


def test_an_artifact_of_an_unknown_kind_is_kept(client: Client, name: str) -> None:
    """ "Overview": the specification is agnostic of what content is."""
    layer = descriptor(b"any bytes", "application/vnd.nobody.knows+this")
    for blob in (b"{}", b"any bytes"):
        client.push(name, blob)
    data = manifest(
        b"{}", config=descriptor(b"{}", EMPTY), layers=[layer], artifactType="application/x.nobody"
    )
    assert client.put(name, "artifact", data).status == 201
    assert LAYER not in client("GET", f"/v2/{name}/manifests/artifact").body.decode()
