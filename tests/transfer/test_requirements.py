"""The musts that OCI distribution specification 1.1 lays on a client, one test each, by section."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.harness.registry import DockerRegistry, digest_of, make_image
from tests.registry.serving import Client, descriptor, index, manifest, sha256, sha512
from tests.registry.serving import registry as our_registry
from tests.transfer.liar import Handler, Liar
from tests.transfer.stores import NOWHERE, Stores
from wherry.model.errors import Invalid
from wherry.model.ids import Digest
from wherry.registry.answers import WrongContent
from wherry.registry.client import Repository
from wherry.registry.credentials import ANONYMOUS
from wherry.registry.endpoints import Proxies
from wherry.registry.faults import Refused
from wherry.registry.hosts import find_endpoints
from wherry.registry.media import OCI_INDEX, OCI_MANIFEST
from wherry.registry.session import Session
from wherry.registry.stopping import Stop

IMAGE = make_image([{"f": random.Random(5).randbytes(200_000)}])
SUBJECT = descriptor(b"the subject", OCI_MANIFEST)
DIGEST = Digest.parse(str(SUBJECT["digest"]))
TAG = str(DIGEST).replace(":", "-")


@pytest.fixture
def liar() -> Iterator[Liar]:
    with Liar() as liar:
        liar.add(IMAGE, "1")
        yield liar


@pytest.fixture
def session() -> Iterator[Session]:
    session = Session(ANONYMOUS, Proxies(), (), Stop(), "wherry/tests")
    yield session
    session.close()


@pytest.fixture
def repository(liar: Liar, session: Session) -> Repository:
    return at(session, liar.host)


def at(session: Session, host: str) -> Repository:
    return Repository(session, find_endpoints(host, NOWHERE), "a/b")


class TestPull:
    """ "Pulling manifests" and "Pulling blobs"."""

    def test_what_is_asked_for_by_digest_must_be_it(
        self, repository: Repository, liar: Liar
    ) -> None:
        other = json.dumps({"schemaVersion": 2}).encode()
        liar.lie("/manifests/sha256:", lambda h: h.answer(200, other, OCI_MANIFEST))
        with pytest.raises(WrongContent, match=IMAGE.digest):
            repository.manifest(Digest.parse(IMAGE.digest))

    @pytest.mark.parametrize("digest_of", [sha256, sha512])
    def test_a_digest_in_the_header_must_be_the_content_s(
        self, repository: Repository, liar: Liar, digest_of
    ) -> None:
        named = digest_of(b"something else")
        data = IMAGE.manifest
        liar.lie("/manifests/1", lambda h: h.answer(200, data, Docker_Content_Digest=named))
        with pytest.raises(WrongContent, match=named):
            repository.manifest("1")

    def test_a_digest_by_another_algorithm_is_verified(
        self, repository: Repository, liar: Liar
    ) -> None:
        named = sha512(IMAGE.manifest)
        data = IMAGE.manifest
        liar.lie("/manifests/1", lambda h: h.answer(200, data, Docker_Content_Digest=named))
        assert str(repository.manifest("1").digest) == named

    def test_the_content_type_s_parameters_are_passed_over(
        self, repository: Repository, liar: Liar
    ) -> None:
        data = json.dumps({"schemaVersion": 2, "config": {}, "layers": []}).encode()
        liar.lie("/manifests/1", lambda h: h.answer(200, data, f"{OCI_MANIFEST}; charset=utf-8"))
        assert repository.manifest("1").media_type == OCI_MANIFEST

    def test_a_type_that_is_not_the_header_s_is_refused(
        self, repository: Repository, liar: Liar
    ) -> None:
        liar.lie("/manifests/1", lambda h: h.answer(200, IMAGE.manifest, OCI_INDEX))
        with pytest.raises(WrongContent, match="was sent as"):
            repository.manifest("1")
        # A type that is no manifest's says nothing: registries behind plain file servers send it.
        liar.lies.clear()
        liar.lie("/manifests/1", lambda h: h.answer(200, IMAGE.manifest, "text/plain"))
        assert repository.manifest("1").data == IMAGE.manifest

    @pytest.mark.parametrize(
        "document",
        [
            manifest(b"{}", manifests=[SUBJECT]),
            index(layers=[SUBJECT]),
            index(config=SUBJECT),
        ],
    )
    def test_what_is_an_image_and_an_index_is_neither(
        self, stores: Stores, liar: Liar, document: bytes
    ) -> None:
        """CVE-2021-41190; "Upgrade Procedures" of image-spec 1.0.2."""
        liar.manifests["both"] = document
        with pytest.raises(Invalid, match="it holds"):
            stores.pull(f"{liar.host}/a/b:both")

    def test_accept_names_the_types_that_are_understood(
        self, repository: Repository, liar: Liar
    ) -> None:
        repository.manifest("1")
        accepted = liar.headers[-1]["accept"]
        assert OCI_MANIFEST in accepted
        assert OCI_INDEX in accepted

    def test_a_blob_goes_on_where_it_was_cut(self, repository: Repository, liar: Liar) -> None:
        blob = Digest.of(IMAGE.layers[0])
        body = repository.blob(blob, 1000)
        assert (body.start, body.answer.read_all(1 << 20)) == (1000, IMAGE.layers[0][1000:])
        assert liar.headers[-1]["range"] == "bytes=1000-"


class TestPush:
    """ "Pushing blobs" and "Pushing Manifests"."""

    @pytest.mark.parametrize("kind", ["absolute", "relative", "bare"])
    def test_the_location_is_followed_as_it_is_with_its_query(
        self, repository: Repository, liar: Liar, kind: str
    ) -> None:
        def begin(handler: Handler) -> bool:
            liar.uploads["u?_state=a%2Fb%3D&x"] = bytearray()
            path = "/v2/a/b/blobs/uploads/u?_state=a%2Fb%3D&x"
            place = {
                "absolute": liar.base + path,
                "relative": path,
                "bare": path.rpartition("/")[2],
            }
            return handler.answer(202, Location=place[kind])

        liar.lie("/uploads/", begin, "POST")
        place = repository.begin_upload()
        assert place == f"{liar.base}/v2/a/b/blobs/uploads/u?_state=a%2Fb%3D&x"
        liar.lie("/uploads/", lambda h: bool(h.body()) and h.answer(202, Location=place), "PATCH")
        liar.lie("/uploads/", lambda h: h.answer(201), "PUT")
        place = repository.upload(place, lambda: [b"abc"], 0, 3)
        repository.finish_upload(place, Digest.of(b"abc"))
        sent = [line for line in liar.requests if not line.startswith("POST")]
        tail = "/v2/a/b/blobs/uploads/u?_state=a%2Fb%3D&x"
        quoted = str(Digest.of(b"abc")).replace(":", "%3A")
        assert sent == [f"PATCH {tail}", f"PUT {tail}&digest={quoted}"]

    def test_each_answer_s_location_is_the_next_request_s(
        self, repository: Repository, liar: Liar
    ) -> None:
        place = repository.begin_upload()
        after = f"{liar.base}/v2/a/b/blobs/uploads/second"

        def take(handler: Handler) -> bool:
            liar.uploads["second"] = bytearray(handler.body())
            return handler.answer(202, Location=after)

        liar.lie("/uploads/", take, "PATCH")
        assert repository.upload(place, lambda: [b"abc"], 0, 3) == after
        repository.finish_upload(after, Digest.of(b"abc"))
        assert liar.blobs[str(Digest.of(b"abc"))] == b"abc"

    def test_a_session_is_begun_with_a_length_of_0(
        self, repository: Repository, liar: Liar
    ) -> None:
        repository.begin_upload()
        assert liar.headers[-1]["content-length"] == "0"

    def test_ranges_of_chunks_are_inclusive_and_begin_at_0(
        self, repository: Repository, liar: Liar
    ) -> None:
        place = repository.begin_upload()
        place = repository.upload(place, lambda: [b"abc"], 0, 3, placed=True)
        assert liar.headers[-1]["content-range"] == "0-2"
        repository.upload(place, lambda: [b"de"], 3, 2)
        assert liar.headers[-1]["content-range"] == "3-4"

    def test_no_chunk_but_the_last_is_below_the_registry_s_least(
        self, stores: Stores, liar: Liar
    ) -> None:
        """OCI-Chunk-Min-Length: what is sent goes in one chunk, which is the last."""
        stores.pull(f"{liar.host}/a/b:1")
        with Liar() as other:

            def begin(handler: Handler) -> bool:
                other.uploads["u"] = bytearray()
                where = "/v2/a/b/blobs/uploads/u"
                return handler.answer(202, Location=where, OCI_Chunk_Min_Length="150000")

            other.lie("/uploads/", begin, "POST")
            named(stores, liar, other)
            stores.push(f"{other.host}/a/b:1")
            lengths = [
                int(head["content-length"])
                for line, head in zip(other.requests, other.headers, strict=True)
                if line.startswith("PATCH")
            ]
            assert lengths == [len(IMAGE.layers[0])]

    def test_a_416_is_answered_by_asking_where_to_go_on(self, stores: Stores, liar: Liar) -> None:
        """The registry took in more than was known when the upload is gone on with."""
        stores.pull(f"{liar.host}/a/b:1")
        with Liar() as other:
            named(stores, liar, other)
            layer = IMAGE.layers[0]
            other.uploads["u"] = bytearray(layer[:70_000])
            place = f"{other.base}/v2/a/b/blobs/uploads/u"
            stores.places.keep_upload(f"{other.host}/a/b", Digest.of(layer), place)
            refused: list[str] = []

            def refuse(handler: Handler) -> bool:
                refused.append(handler.headers["Content-Range"])
                if len(refused) > 1:
                    return False
                handler.body()
                other.uploads["u"] += layer[70_000:90_000]
                return handler.refuse(416, "BLOB_UPLOAD_INVALID")

            other.lie("/uploads/u", refuse, "PATCH")
            stores.push(f"{other.host}/a/b:1")
            end = len(layer) - 1
            assert refused == [f"70000-{end}", f"90000-{end}"]
            assert other.blobs[digest_of(layer)] == layer

    def test_the_content_type_is_what_the_manifest_says(self, stores: Stores, liar: Liar) -> None:
        stores.pull(f"{liar.host}/a/b:1")
        with Liar() as other:
            named(stores, liar, other)
            stores.push(f"{other.host}/a/b:1")
            [head] = [
                h
                for r, h in zip(other.requests, other.headers, strict=True)
                if "PUT /v2/a/b/man" in r
            ]
            assert head["content-type"] == json.loads(IMAGE.manifest)["mediaType"]
            assert other.manifests["1"] == IMAGE.manifest

    @pytest.mark.parametrize("digest_of", [sha256, sha512])
    def test_a_digest_that_the_registry_answers_is_verified(
        self, repository: Repository, liar: Liar, digest_of
    ) -> None:
        wrong = digest_of(b"another")
        liar.lie("/manifests/", lambda h: h.answer(201, Docker_Content_Digest=wrong), "PUT")
        with pytest.raises(WrongContent, match=wrong):
            repository.put_manifest("v1", OCI_MANIFEST, IMAGE.manifest)


def named(stores: Stores, liar: Liar, other: Liar) -> None:
    """Give the image that was pulled from `liar` a name at `other`."""
    from wherry.model.ids import Reference

    image = stores.store.resolve(f"{liar.host}/a/b:1")
    stores.store.tag(image.id, Reference.parse(f"{other.host}/a/b:1"))


class TestSubjects:
    """ "Pushing Manifests with Subject", "Unavailable Referrers API", "Referrers Tag Schema"."""

    def listed(self, liar: Liar) -> list[dict[str, object]]:
        return json.loads(liar.manifests[TAG])["manifests"]

    def test_without_oci_subject_the_client_keeps_the_list(
        self, repository: Repository, liar: Liar
    ) -> None:
        first = manifest(b"{}", subject=SUBJECT, artifactType="a/sig", annotations={"by": "me"})
        second = manifest(b"{}", subject=SUBJECT)
        third = index(subject=SUBJECT)
        for data, kind in ((first, OCI_MANIFEST), (second, OCI_MANIFEST), (third, OCI_INDEX)):
            repository.put_manifest(Digest.of(data), kind, data)
        config = json.loads(second)["config"]["mediaType"]
        assert self.listed(liar) == [
            descriptor(first, OCI_MANIFEST, artifactType="a/sig", annotations={"by": "me"}),
            descriptor(second, OCI_MANIFEST, artifactType=config),
            descriptor(third, OCI_INDEX),
        ]
        document = json.loads(liar.manifests[TAG])
        assert (document["schemaVersion"], document["mediaType"]) == (2, OCI_INDEX)

    def test_no_entry_is_there_twice(self, repository: Repository, liar: Liar) -> None:
        data = manifest(b"{}", subject=SUBJECT)
        for _ in range(2):
            repository.put_manifest(Digest.of(data), OCI_MANIFEST, data)
        assert len(self.listed(liar)) == 1
        assert liar.count("PUT", TAG) == 1

    def test_others_entries_stay_with_all_that_they_say(
        self, repository: Repository, liar: Liar
    ) -> None:
        theirs = descriptor(b"theirs", OCI_MANIFEST, platform={"os": "x"}, urls=["x:y"])
        liar.manifests[TAG] = index(manifests=[theirs])
        data = manifest(b"{}", subject=SUBJECT)
        repository.put_manifest("signature", OCI_MANIFEST, data)
        assert self.listed(liar)[0] == theirs
        assert len(self.listed(liar)) == 2

    def test_with_oci_subject_nothing_is_kept(self, repository: Repository, liar: Liar) -> None:
        named = str(DIGEST)
        liar.lie(
            "/manifests/", lambda h: bool(h.body()) and h.answer(201, OCI_Subject=named), "PUT"
        )
        repository.put_manifest("s", OCI_MANIFEST, manifest(b"{}", subject=SUBJECT))
        assert liar.count("PUT", TAG) == liar.count("GET", TAG) == 0

    def test_without_a_subject_nothing_is_kept(self, repository: Repository, liar: Liar) -> None:
        noted = manifest(b"{}", annotations={"subject": str(DIGEST)})
        repository.put_manifest("s", OCI_MANIFEST, noted)
        assert liar.count("PUT", TAG) == 0

    def test_what_is_under_the_tag_and_no_index_is_left_alone(
        self, repository: Repository, liar: Liar
    ) -> None:
        liar.manifests[TAG] = IMAGE.manifest
        with pytest.raises(Invalid, match="no image index"):
            repository.put_manifest("s", OCI_MANIFEST, manifest(b"{}", subject=SUBJECT))
        assert liar.manifests[TAG] == IMAGE.manifest

    def test_a_404_of_the_list_leads_to_the_tag(self, repository: Repository, liar: Liar) -> None:
        liar.manifests[TAG] = index(IMAGE.manifest)
        found = json.loads(repository.referrers(DIGEST))
        assert [item["digest"] for item in found["manifests"]] == [IMAGE.digest]
        assert liar.count("GET", "/referrers/") == 1

    @pytest.mark.parametrize("tagged", [None, IMAGE.manifest, b"[]", b'{"manifests": 1}'])
    def test_without_list_and_tag_there_are_none(
        self, repository: Repository, liar: Liar, tagged: bytes | None
    ) -> None:
        if tagged is not None:
            liar.lie(TAG, lambda h: h.answer(200, tagged))
        found = json.loads(repository.referrers(DIGEST))
        assert (found["mediaType"], found["manifests"]) == (OCI_INDEX, [])

    def test_a_list_that_is_none_counts_as_missing(
        self, repository: Repository, liar: Liar
    ) -> None:
        liar.lie("/referrers/", lambda h: h.answer(200, b"<html>welcome", "text/html"))
        liar.manifests[TAG] = index(IMAGE.manifest)
        assert IMAGE.digest in repository.referrers(DIGEST).decode()

    def test_other_refusals_are_told(self, repository: Repository, liar: Liar) -> None:
        liar.lie("/referrers/", lambda h: h.refuse(403, "DENIED"))
        with pytest.raises(Refused):
            repository.referrers(DIGEST)

    def test_the_list_is_followed_page_by_page(self, repository: Repository, liar: Liar) -> None:
        images = [manifest(b"{}", str(number).encode()) for number in range(3)]

        def page(handler: Handler) -> bool:
            number = int(handler.path.partition("page=")[2] or 0)
            more = {} if number == 2 else {"Link": f'<?page={number + 1}>; rel="next"'}
            return handler.answer(200, index(images[number]), OCI_INDEX, **more)

        liar.lie("/referrers/", page)
        found = json.loads(repository.referrers(DIGEST))["manifests"]
        assert [item["digest"] for item in found] == [sha256(data) for data in images]

    def test_beside_docker_registry_2_8(self, session: Session, registry: DockerRegistry) -> None:
        """It has no list of referrers, and gives no OCI-Subject."""
        theirs = at(session, registry.host)
        theirs.finish_upload(theirs.begin_upload(), Digest.of(b"{}"), b"{}")
        data = manifest(b"{}", subject=SUBJECT, artifactType="a/sig")
        theirs.put_manifest("signature", OCI_MANIFEST, data)
        found = json.loads(theirs.referrers(DIGEST))["manifests"]
        assert found == [descriptor(data, OCI_MANIFEST, artifactType="a/sig")]
        assert TAG in theirs.tags()

    def test_beside_our_own_registry(self, session: Session, tmp_path) -> None:
        with our_registry(tmp_path) as running:
            ours = at(session, f"127.0.0.1:{running.port}")
            Client(running.port).push("a/b", b"{}")
            data = manifest(b"{}", subject=SUBJECT, artifactType="a/sig")
            ours.put_manifest("signature", OCI_MANIFEST, data)
            found = json.loads(ours.referrers(DIGEST))["manifests"]
            assert found == [descriptor(data, OCI_MANIFEST, artifactType="a/sig")]
            assert ours.tags() == ["signature"]


class TestLists:
    """ "Listing Tags": pages are found by their links."""

    @pytest.mark.parametrize(
        "form", ['<{}>; rel="next"', "<{}>;rel=next", '<{}>; title="x"; rel="next"']
    )
    def test_links_are_followed(self, repository: Repository, liar: Liar, form: str) -> None:
        def page(handler: Handler) -> bool:
            if "last=a" in handler.path:
                return handler.answer(200, b'{"name": "a/b", "tags": ["b"]}')
            # Fewer than were asked for, and yet there are more.
            link = form.format("/v2/a/b/tags/list?n=1&last=a")
            return handler.answer(200, b'{"name": "a/b", "tags": ["a"]}', Link=link)

        liar.lie("/tags/list", page)
        assert repository.tags() == ["a", "b"]

    def test_a_link_elsewhere_is_refused(self, repository: Repository, liar: Liar) -> None:
        link = '<http://127.0.0.2:1/v2/a/b/tags/list>; rel="next"'
        liar.lie("/tags/list", lambda h: h.answer(200, b'{"tags": []}', Link=link))
        with pytest.raises(Invalid, match="goes on elsewhere"):
            repository.tags()

    def test_links_in_a_circle_end(self, repository: Repository, liar: Liar) -> None:
        link = '</v2/a/b/tags/list>; rel="next"'
        liar.lie("/tags/list", lambda h: h.answer(200, b'{"tags": ["a"]}', Link=link))
        with pytest.raises(Invalid, match="without an end"):
            repository.tags()


class TestWarnings:
    """ "Warnings"."""

    def test_they_are_kept_once_and_change_nothing(
        self, repository: Repository, session: Session, liar: Liar
    ) -> None:
        field = '299 - "old \\"endpoint\\"", 299 - "token ends\x1b[2J", 199 - "not ours", nonsense'
        data = IMAGE.manifest
        liar.lie("/manifests/1", lambda h: h.answer(200, data, Warning=field))
        for _ in range(2):
            assert repository.manifest("1").data == data
        assert session.warnings == ['old "endpoint"', "token ends?[2J"]

    def test_a_flood_is_cut(self, repository: Repository, session: Session, liar: Liar) -> None:
        field = ", ".join(f'299 - "{number} {"x" * 60}"' for number in range(500))
        liar.lie("/manifests/1", lambda h: h.answer(200, IMAGE.manifest, Warning=field))
        repository.manifest("1")
        assert sum(map(len, session.warnings)) <= 4096
