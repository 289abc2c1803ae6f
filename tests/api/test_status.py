"""The table from errors to statuses is whole, and the texts are what clients read."""

from __future__ import annotations

import json

import pytest

from wherry.api.messages import Response, TooLarge
from wherry.api.status import STATUS, error_response, status_of
from wherry.api.versions import CURRENT, TooOld, check_version, split_version
from wherry.model.errors import KINDS, Conflict, Invalid, NotFound, StartFailed, WherryError


def test_every_kind_has_a_status() -> None:
    assert set(STATUS) == set(KINDS)
    assert all(400 <= status < 600 for status in STATUS.values())


def test_a_kind_below_a_kind_has_its_status() -> None:
    class Special(Conflict):
        pass

    assert status_of(Special("x")) == 409
    assert status_of(TooLarge("x")) == 413
    assert status_of(WherryError("x")) == 500


@pytest.mark.parametrize(("code", "status"), [(127, 400), (126, 400), (128, 500)])
def test_a_start_that_failed(code: int, status: int) -> None:
    assert status_of(StartFailed("exec: no", exit_code=code)) == status


def body_of(response: Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def test_the_message_has_the_hint() -> None:
    response = error_response(NotFound("image", "x:latest", hint="make one"))
    assert response.status == 404
    assert json.loads(body_of(response)) == {"message": "No such image: x:latest (make one)"}


def test_versions() -> None:
    assert split_version("/v1.41/containers/json") == ("1.41", "/containers/json")
    assert split_version("/containers/json") == (None, "/containers/json")
    assert split_version("/version") == (None, "/version")
    assert split_version("/volumes") == (None, "/volumes")
    assert split_version("/v1.41") == (None, "/v1.41")
    assert check_version("1.24") == (1, 24)
    assert check_version("1.51") == CURRENT
    with pytest.raises(Invalid, match="client version 1.99 is too new. Maximum supported API"):
        check_version("1.99")
    with pytest.raises(Invalid):
        check_version("2.0")
    with pytest.raises(TooOld) as caught:
        check_version("1.23")
    response = error_response(caught.value)
    assert response.content_type.startswith("text/plain")
    assert body_of(response).startswith(b"client version 1.23 is too old. Minimum supported API")
