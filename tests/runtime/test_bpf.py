"""Decision trees of classic BPF: every number finds its range, however far the jumps."""

from __future__ import annotations

import bisect
import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from wherry.runtime.bpf import LD_W_ABS, RET_K, Instruction, Range, encode, merge, tree
from wherry.testing.bpf import run_classic

U32 = 0xFFFF_FFFF


def returning(value: int, padding: int = 0) -> tuple[Instruction, ...]:
    """A body of `padding` needless loads of the number and a return."""
    return (*[Instruction(LD_W_ABS, 0)] * padding, Instruction(RET_K, value))


def answer(ranges: list[Range], number: int) -> tuple[int, int]:
    program = encode((Instruction(LD_W_ABS, 0), *tree(ranges)))
    return run_classic(program, struct.pack("=I", number))


def test_encoding_is_struct_sock_filter() -> None:
    assert encode([Instruction(0x15, 0xC000003E, jt=1, jf=2)]) == struct.pack(
        "=HBBI", 0x15, 1, 2, 0xC000003E
    )


@given(
    starts=st.sets(st.integers(1, U32), max_size=40),
    paddings=st.lists(st.integers(0, 120), min_size=41, max_size=41),
    numbers=st.lists(st.integers(0, U32), min_size=1, max_size=5),
)
def test_every_number_runs_the_body_of_its_range(
    starts: set[int], paddings: list[int], numbers: list[int]
) -> None:
    ordered = [0, *sorted(starts)]
    ranges = [Range(start, returning(i, paddings[i])) for i, start in enumerate(ordered)]
    edges = [start + near for start in ordered for near in (-1, 0, 1) if 0 <= start + near <= U32]
    for number in numbers + edges:
        value, _ = answer(ranges, number)
        assert value == bisect.bisect_right(ordered, number) - 1


def test_jumps_at_the_edge_of_a_byte() -> None:
    for padding in (252, 253, 254, 255, 256, 257):
        ranges = [Range(0, returning(1, padding)), Range(5, returning(2))]
        assert [answer(ranges, number)[0] for number in (4, 5)] == [1, 2]


def test_depth_is_logarithmic() -> None:
    ranges = [Range(start * 2, returning(start)) for start in range(400)]
    for number in range(0, 800, 7):
        value, steps = answer(ranges, number)
        assert value == number // 2
        # A load, at most two instructions a level (a far jump is two), a return.
        assert steps <= 2 + 2 * math.ceil(math.log2(400))


def test_equal_neighbours_are_merged() -> None:
    ranges = [Range(0, returning(1)), Range(5, returning(1)), Range(6, returning(2))]
    assert merge(ranges) == [ranges[0], ranges[2]]
