"""Mount option words, and the ranges of ids that engines share out among them."""

from __future__ import annotations

from pathlib import Path

from wherry.kernel import abi
from wherry.kernel.mount import parse_options
from wherry.supervisor.ranges import FIRST, SIZE, IdRanges, maps


def test_option_words_are_sorted_by_what_they_act_on() -> None:
    wanted = parse_options(("rbind", "ro", "nosuid", "rw", "rslave", "size=1m", "huge", "noatime"))
    assert wanted.bind and wanted.recursive
    assert wanted.set_ == abi.MOUNT_ATTR_NOSUID | abi.MOUNT_ATTR_NOATIME
    assert wanted.clear & abi.MOUNT_ATTR_RDONLY
    assert wanted.propagation == abi.MS_SLAVE | abi.MS_REC
    assert wanted.data == (("size", "1m"), ("huge", None))


def test_recursive_attributes_are_apart() -> None:
    wanted = parse_options(("rro",))
    assert (wanted.set_, wanted.recursive_set) == (0, abi.MOUNT_ATTR_RDONLY)


def test_two_engines_never_share_a_range(tmp_path: Path) -> None:
    path = str(tmp_path / "ids.lock")
    one, other = IdRanges(path=path), IdRanges(path=path)
    mine = {one.take() for _ in range(5)}
    assert mine.isdisjoint(other.take() for _ in range(5))
    first = min(mine)
    one.release(first)
    third = IdRanges(path=path)
    assert third.take() == first


def test_a_new_supervisor_keeps_what_containers_hold_and_frees_the_rest(tmp_path: Path) -> None:
    path = str(tmp_path / "ids.lock")
    before = IdRanges(path=path)
    kept, lost = before.take(), before.take()
    after = IdRanges(lock_fd=before._fd, path=path)  # pyright: ignore[reportPrivateUsage]
    after.adopt(kept)
    after.drop_others()
    other = IdRanges(path=path)
    assert other.take() == lost
    assert kept not in {other.take() for _ in range(5)}


def test_maps_begin_above_what_the_system_hands_out() -> None:
    (line,) = maps(3)
    assert (line.inside, line.outside, line.size) == (0, FIRST + 3 * SIZE, SIZE)
