"""Who a process runs as, by the rules and words of `docker run --user`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.model.errors import StartFailed
from wherry.model.oci import User
from wherry.runtime.user import Identity, identify

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# a remark:x:5:5::/:/bin/sh
broken line
bob:x:1000:1001::/home/bob:/bin/sh
homeless:x:1002:1002:::
"""
GROUP = "root:x:0:\nbob:x:1001:\nwheel:x:10:bob,root\nbad:x:ten:bob\naudio:x:29:homeless\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        (User(), Identity(0, 0, (), "/root")),
        (User("bob"), Identity(1000, 1001, (10, 1001), "/home/bob")),
        (User("1000"), Identity(1000, 1001, (10, 1001), "/home/bob")),
        (User("bob:audio"), Identity(1000, 29, (29,), "/home/bob")),
        (User("bob:77"), Identity(1000, 77, (77,), "/home/bob")),
        (User("4242"), Identity(4242, 0, (0,), "/")),
        (User("4242:4343"), Identity(4242, 4343, (4343,), "/")),
        (User("homeless"), Identity(1002, 1002, (29, 1002), "/")),
        (
            User("bob", additional_groups=("audio", "99")),
            Identity(1000, 1001, (10, 29, 99, 1001), "/home/bob"),
        ),
        (User(uid=1000, gid=5, additional_gids=(6,)), Identity(1000, 5, (6,), "/home/bob")),
    ],
)
def test_look_ups(user: User, expected: Identity) -> None:
    assert identify(user, PASSWD, GROUP) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("zed", "unable to find user zed: no matching entries in passwd file"),
        ("bob:zed", "unable to find group zed: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_refusals(name: str, words: str) -> None:
    with pytest.raises(StartFailed) as caught:
        identify(User(name), PASSWD, GROUP)
    assert caught.value.message == words


@given(st.text(), st.text(), st.text(max_size=8))
def test_hostile_files_never_raise_anything_else(passwd: str, group: str, name: str) -> None:
    try:
        who = identify(User(name), passwd, group)
    except StartFailed:
        return
    assert who.uid >= 0 and who.home
