"""A repository in a registry, as the distribution specification lets a client see it.

Manifests and blobs that are asked for by digest are what their digest says, or an error. Where a
registry has several ways (mirrors, with and without TLS) they are tried in order, and the first that
answers is kept. Source: OCI distribution specification 1.1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from wherry.model.errors import Invalid, NotFound, Unavailable, WherryError
from wherry.model.ids import Digest
from wherry.registry.answers import (
    Fetched,
    WrongContent,
    checked_manifest,
    is_document,
    list_of,
    named_digest,
    next_location,
    next_page,
    received,
    start_of,
)
from wherry.registry.dialling import Unreachable, Untrusted
from wherry.registry.endpoints import Endpoint, Origin, join_url
from wherry.registry.faults import Refused
from wherry.registry.media import ACCEPTED, DOCKER_SCHEMA_1, OCI_INDEX
from wherry.registry.messages import Answer, BrokenConnection
from wherry.registry.names import is_tag, referrers_tag
from wherry.registry.referrers import Entry, entries_in, entry_of, render_list, subject_of
from wherry.registry.session import Request, Session
from wherry.registry.stopping import Stop, Stopped

LARGEST_MANIFEST: Final = 4 << 20
_LARGEST_LIST: Final = 16 << 20
_MOST_PAGES: Final = 1000
_MOST_NAMES: Final = 200_000
_PAGE: Final = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BlobBody:
    """A blob on its way: bytes from `start` on. Read it to its end, or close it."""

    answer: Answer
    start: int


class RangeRefused(Unavailable):
    """The registry cannot go on from where we are: begin anew."""


class Repository:
    """One repository. Blocking; threads may share it."""

    def __init__(self, session: Session, endpoints: Sequence[Endpoint], path: str) -> None:
        self.path = path
        self._session = session
        self._endpoints = tuple(endpoints)
        self._working: Endpoint | None = None
        self._pull = (f"repository:{path}:pull",)
        self._push = (f"repository:{path}:pull,push",)

    @property
    def reached(self) -> Origin | None:
        """Where the registry itself answered, None where it has not yet."""
        return self._working.origin if self._working is not None else None

    def manifest(self, reference: Digest | str) -> Fetched:
        """Return the manifest of a tag or digest.

        Raises Refused (`missing` where there is none), WrongContent, and what `Session.send` raises.
        """
        by_tag = isinstance(reference, str)
        accept = {"Accept": ", ".join((*ACCEPTED, *DOCKER_SCHEMA_1, "*/*;q=0.1"))}

        def fetch(endpoint: Endpoint) -> Fetched:
            url = self._url(endpoint, f"manifests/{reference}")
            request = Request("GET", url, accept, scopes=self._pull)
            answer = self._session.send(endpoint, request)
            data = answer.read_all(LARGEST_MANIFEST)
            if not is_document(data):
                # A captive portal, a proxy's welcome. Of a mirror, the next way is better.
                raise Invalid(f"{endpoint.origin} sent something else than a manifest")
            return checked_manifest(answer, data, reference, endpoint.origin)

        return self._try(fetch, lambda e: e.resolve if by_tag else e.pull)

    def blob(self, digest: Digest, offset: int = 0, stop: Stop | None = None) -> BlobBody:
        """Return a blob's bytes from `offset` on, or from 0 where the registry gives no ranges.

        The bytes are not verified here. Raises RangeRefused, and as `manifest`.
        """

        def fetch(endpoint: Endpoint) -> BlobBody:
            headers = {"Accept-Encoding": "identity"}
            if offset:
                headers["Range"] = f"bytes={offset}-"
            url = self._url(endpoint, f"blobs/{digest}")
            request = Request("GET", url, headers, scopes=self._pull, expected=(200, 206, 416))
            answer = self._session.send(endpoint, request, stop)
            start = start_of(answer, offset)
            if start is None:
                answer.close()
                raise RangeRefused(f"{endpoint.origin} cannot send {digest} from byte {offset} on")
            return BlobBody(answer, start)

        return self._try(fetch, lambda e: e.pull)

    def has_blob(self, digest: Digest) -> bool:
        """Whether the registry itself has the blob."""

        def ask(endpoint: Endpoint) -> bool:
            url = self._url(endpoint, f"blobs/{digest}")
            request = Request("HEAD", url, scopes=self._push, expected=(200, 404))
            answer = self._session.send(endpoint, request)
            answer.close()
            return answer.status == 200

        return self._try(ask, lambda e: e.push)

    def mount(self, digest: Digest, source: str) -> str:
        """Take a blob over from the repository `source`; return "" where that was done.

        Where it was not, the registry began an upload, whose URL is returned.
        """
        scopes = tuple(sorted((*self._push, f"repository:{source}:pull")))
        return self._post_upload(urlencode({"mount": str(digest), "from": source}), scopes)

    def begin_upload(self) -> str:
        """Begin the upload of a blob and return its URL."""
        return self._post_upload("", self._push)

    def _post_upload(self, query: str, scopes: tuple[str, ...]) -> str:
        def begin(endpoint: Endpoint) -> str:
            url = self._url(endpoint, "blobs/uploads/", query)
            request = Request("POST", url, scopes=scopes, expected=(201, 202))
            answer = self._session.send(endpoint, request)
            answer.read_all(_LARGEST_LIST)
            return "" if answer.status == 201 else next_location(answer, url)

        return self._try(begin, lambda e: e.push)

    def upload_state(self, upload: str) -> tuple[str, int]:
        """Return an upload's URL now and how many bytes it has. Raises Refused where it is gone."""

        def ask(endpoint: Endpoint) -> tuple[str, int]:
            request = Request("GET", upload, scopes=self._push, expected=(200, 202, 204))
            answer = self._session.send(endpoint, request)
            answer.close()
            return next_location(answer, upload), received(answer)

        return self._try(ask, lambda e: e.push)

    def upload(
        self,
        upload: str,
        pieces: Callable[[], Iterable[bytes]],
        start: int,
        length: int,
        stop: Stop | None = None,
        *,
        placed: bool = False,
    ) -> str:
        """Send `length` bytes of a blob from its byte `start` on; return the upload's next URL.

        With `placed` a registry that has another number of bytes refuses them (416), if `start` is 0 too.
        """
        headers = {"Content-Type": "application/octet-stream"}
        if start or placed:
            # A whole blob in one request is a stream, as Docker sends it; some know nothing else.
            headers["Content-Range"] = f"{start}-{start + length - 1}"

        def send(endpoint: Endpoint) -> str:
            request = Request(
                "PATCH", upload, headers, pieces, length, self._push, expected=(202, 201, 204)
            )
            answer = self._session.send(endpoint, request, stop)
            answer.read_all(_LARGEST_LIST)
            return next_location(answer, upload)

        return self._try(send, lambda e: e.push)

    def finish_upload(self, upload: str, digest: Digest, rest: bytes = b"") -> None:
        """Make an upload the blob `digest`. Raises Refused where its bytes are others."""
        parts = urlsplit(upload)
        query = "&".join(q for q in (parts.query, urlencode({"digest": str(digest)})) if q)
        url = urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))
        headers = {"Content-Type": "application/octet-stream"}

        def send(endpoint: Endpoint) -> None:
            request = Request("PUT", url, headers, rest, None, self._push, expected=(201, 204))
            self._session.send(endpoint, request).read_all(_LARGEST_LIST)

        self._try(send, lambda e: e.push)

    def put_manifest(self, reference: Digest | str, media_type: str, data: bytes) -> Digest:
        """Store a manifest under a tag or its digest, and return its digest.

        One with a subject is put on the list of what refers to that, where the registry keeps none.
        """
        subject = subject_of(data)
        digest = Digest.of(data)

        def send(endpoint: Endpoint) -> bool:
            url = self._url(endpoint, f"manifests/{reference}")
            headers = {"Content-Type": media_type}
            request = Request("PUT", url, headers, data, None, self._push, expected=(201, 200))
            answer = self._session.send(endpoint, request)
            named = named_digest(answer)
            answer.read_all(_LARGEST_LIST)
            if named is not None and named != Digest.of(data, named.algorithm):
                raise WrongContent(f"{endpoint.origin} stored {named} where {digest} was sent")
            return "oci-subject" in answer.headers

        if not self._try(send, lambda e: e.push) and subject is not None:
            self._keep_referrer(subject, entry_of(media_type, digest, data))
        return digest

    def _keep_referrer(self, subject: Digest, entry: Entry) -> None:
        """Put `entry` on the list that clients keep under a tag. Raises Invalid where that is another thing."""
        tag = referrers_tag(subject)
        try:
            entries = entries_in(self.manifest(tag).data)
        except Refused as error:
            if not error.missing:
                raise
            entries = []
        if all(known.get("digest") != entry["digest"] for known in entries):
            self.put_manifest(tag, OCI_INDEX, render_list([*entries, entry]))

    def tags(self) -> list[str]:
        """Return the repository's tags; what is no tag is left out."""
        return self._names("tags/list", "tags", self._pull, is_tag)

    def referrers(self, subject: Digest) -> bytes:
        """Return the index of the manifests that refer to `subject`.

        From the registry's own list, or from the tag that clients keep where it has none.
        """

        def fetch(endpoint: Endpoint) -> bytes | None:
            url = self._url(endpoint, f"referrers/{subject}")
            found: list[Entry] = []
            try:
                for answer, data in self._pages(endpoint, url, self._pull, {"Accept": OCI_INDEX}):
                    found += entries_in(data)
                    if len(found) > _MOST_NAMES:
                        answer.close()
                        raise Unavailable(f"{endpoint.origin} lists referrers without an end")
            except Refused as error:
                if error.status == 404:
                    return None
                raise
            except Invalid:
                return None
            return render_list(found)

        found = self._try(fetch, lambda e: e.pull)
        if found is not None:
            return found
        try:
            return render_list(entries_in(self.manifest(referrers_tag(subject)).data))
        except Refused as error:
            if not error.missing:
                raise
        except WrongContent:
            raise
        except Invalid:
            pass  # the tag is something else: nobody has kept a list
        return render_list([])

    def ping(self) -> Origin:
        """Ask whether the registry is there and lets us in; return where it was reached."""

        def ask(endpoint: Endpoint) -> Origin:
            url = f"{endpoint.origin}{endpoint.path}/"
            self._session.send(endpoint, Request("GET", url)).close()
            return endpoint.origin

        return self._try(ask, lambda e: not e.mirror)

    def catalog(self) -> list[str]:
        """Return the names of the registry's repositories."""
        return self._names("_catalog", "repositories", ("registry:catalog:*",), lambda _: True)

    def search(self, term: str, limit: int) -> bytes:
        """Return the answer of the registry's search of version 1, as JSON."""
        query = urlencode({"q": term, "n": limit})

        def ask(endpoint: Endpoint) -> bytes:
            url = f"{endpoint.origin}/v1/search?{query}"
            return self._session.send(endpoint, Request("GET", url)).read_all(_LARGEST_LIST)

        return self._try(ask, lambda e: not e.mirror)

    def _names(
        self, path: str, key: str, scopes: tuple[str, ...], good: Callable[[str], bool]
    ) -> list[str]:
        def fetch(endpoint: Endpoint) -> list[str]:
            base = f"{endpoint.origin}{endpoint.path}"
            url = f"{base}/{path}" if path.startswith("_") else self._url(endpoint, path)
            url += f"{'&' if '?' in url else '?'}n={_PAGE}"
            found: dict[str, None] = {}
            for answer, data in self._pages(endpoint, url, scopes):
                names = list_of(data, key, endpoint.origin)
                found |= dict.fromkeys(name for name in names if good(name))
                if len(found) > _MOST_NAMES:
                    answer.close()
                    raise Invalid(f"{endpoint.origin} lists more than {_MOST_NAMES} names")
            return list(found)

        return self._try(fetch, lambda e: not e.mirror)

    def _pages(
        self,
        endpoint: Endpoint,
        url: str,
        scopes: tuple[str, ...],
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[tuple[Answer, bytes]]:
        seen: set[str] = set()
        while len(seen) < _MOST_PAGES and url not in seen:
            seen.add(url)
            request = Request("GET", url, headers or {}, scopes=scopes)
            answer = self._session.send(endpoint, request)
            yield answer, answer.read_all(_LARGEST_LIST)
            link = next_page(answer.headers.get("link", ""))
            if link is None:
                return
            url = join_url(url, link)
            if Origin.parse(url) != endpoint.origin:
                raise Invalid(f"refused a list that goes on elsewhere: {Origin.parse(url)}")
        raise Invalid(f"{endpoint.origin} lists names without an end")

    def _url(self, endpoint: Endpoint, rest: str, query: str = "") -> str:
        query = "&".join(text for text in (query, endpoint.query) if text)
        path = f"{endpoint.path}/{quote(self.path)}/{rest}"
        return f"{endpoint.origin}{path}" + (f"?{query}" if query else "")

    def _try(self, act: Callable[[Endpoint], T], fit: Callable[[Endpoint], bool]) -> T:
        """Act on the endpoints that fit, in order, until one answers.

        Whatever the registry itself answers counts; of a mirror only success does.
        """
        working = self._working
        if working is not None and fit(working):
            return act(working)
        own: WherryError | None = None
        other: WherryError | None = None
        for endpoint in self._endpoints:
            if not fit(endpoint):
                continue
            try:
                result = act(endpoint)
            except (Unreachable, Untrusted, BrokenConnection) as error:
                if endpoint.mirror:
                    other = other or error
                else:
                    own = own or error
                continue
            except Stopped:
                raise
            except WherryError as error:
                if not endpoint.mirror:
                    self._working = endpoint
                    raise
                other = other or error
                continue
            if not endpoint.mirror:
                self._working = endpoint
            return result
        raise own or other or NotFound("endpoint", self.path, hint="hosts.toml allows none for it")


def is_temporary(error: WherryError) -> bool:
    """Whether trying again may help."""
    if isinstance(error, Refused):
        return error.temporary
    return isinstance(error, (BrokenConnection, Unreachable, RangeRefused))
