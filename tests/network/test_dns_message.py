"""The DNS codec: laws, hostile bytes, and how much fits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.network.questions import question, take_apart
from wherry.network.dns import message
from wherry.network.dns.message import Malformed, parse_query

labels = st.text(
    st.characters(codec="utf-8", exclude_characters=".\\", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: len(text.encode()) < 64)
names = st.lists(labels, min_size=1, max_size=4).filter(
    lambda parts: sum(len(part.encode()) + 1 for part in parts) < 250
)


@given(names, st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 65535))
def test_a_question_is_read_as_it_was_written(
    parts: list[str], kind: int, number: int, size: int
) -> None:
    data = question(".".join(parts), kind, number=number, edns=size)
    query = parse_query(data)
    assert (query.id, query.kind, query.dns_class) == (number, kind, 1)
    assert query.name == message.lower(".".join(parts))
    assert query.edns is (size > 0)
    assert query.room == min(max(size, 512), 4096)
    assert message.encode_name(".".join(parts)) == query.question[:-4]
    asked = take_apart(message.ask(query, 9))
    assert (asked.question, asked.edns) == (".".join(parts), query.edns)


@given(st.binary(max_size=600))
def test_random_bytes_are_a_query_or_malformed(data: bytes) -> None:
    _survive(data)


@given(names, st.randoms(use_true_random=False))
def test_damaged_questions_are_a_query_or_malformed(parts: list[str], dice: random.Random) -> None:
    data = bytearray(question(".".join(parts), edns=1232))
    for _ in range(dice.randint(1, 6)):
        match dice.randint(0, 2):
            case 0:
                data[dice.randrange(len(data))] = dice.randrange(256)
            case 1:
                del data[dice.randrange(len(data)) :]
            case _:
                data += dice.randbytes(dice.randint(0, 40))
        if not data:
            break
    _survive(bytes(data))


def _survive(data: bytes) -> None:
    try:
        query = parse_query(data)
    except Malformed as error:
        if error.reply:
            assert error.reply[:2] == data[:2]
            assert take_apart(error.reply).code in (message.FORMERR, message.NOTIMP)
        return
    response = message.respond(query, [message.record(1, 1, b"1234")], room=query.room)
    assert message.answers(response, query.id, query.question)
    assert message.code_of(message.refuse(query, message.SERVFAIL)) == message.SERVFAIL
    # What is sent on has nothing of what its sender put around the question.
    assert len(message.ask(query, 1)) <= 12 + len(query.question) + 11


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (b"\0\1\x81\0\0\1" + b"\0" * 8, None),  # a response
        (b"\0\1\1\0\0\0" + b"\0" * 6, message.FORMERR),  # no question
        (b"\0\1\1\0\0\2" + b"\0" * 6 + b"\1a\0\0\1\0\1" * 2, message.FORMERR),
        (b"\0\1\x11\0\0\1" + b"\0" * 6 + b"\1a\0\0\1\0\1", message.NOTIMP),
        (b"\0\1\1\0\0\1" + b"\0" * 6 + b"\xc0\x0c\0\1\0\1", message.FORMERR),  # points to itself
        (b"\0\1\1\0\0\1" + b"\0" * 6 + b"\1a\0\0\1", message.FORMERR),
        (b"\0\1\1\0\0\1" + b"\0" * 6 + b"\x3f" + b"a" * 63 + b"\x3f", message.FORMERR),
        (b"\0\1\1\0\0\1" + b"\0" * 6 + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1", message.FORMERR),
    ],
)
def test_what_is_no_query_gets_what_docker_sends(data: bytes, code: int | None) -> None:
    with pytest.raises(Malformed) as caught:
        parse_query(data)
    reply = caught.value.reply
    assert (take_apart(reply).code if reply else None) == code


@given(st.integers(0, 400), st.sampled_from([0, 512, 1232, 4096]))
def test_what_does_not_fit_is_left_out_and_said(count: int, size: int) -> None:
    query = parse_query(question("many.example", edns=size))
    records = [
        message.record(message.A, 600, bytes([10, 0, n >> 8, n & 255])) for n in range(count)
    ]
    response = message.respond(query, records, room=query.room)
    seen = take_apart(response)
    assert len(response) <= max(size, 512)
    assert seen.answers == [f"10.0.{n >> 8}.{n & 255}" for n in range(len(seen.answers))]
    assert ("tc" in seen.flags) is (len(seen.answers) < count)
    if "tc" in seen.flags:
        assert len(response) + 16 > query.room, "one more would have fitted"
    whole = take_apart(message.respond(query, records, room=message.LARGEST_TCP))
    assert len(whole.answers) == count


def test_only_the_answer_to_the_question_is_taken() -> None:
    query = parse_query(question("web.example", number=5))
    right = message.respond(query, [], room=512)
    other = parse_query(question("wob.example", number=5))
    assert message.answers(right.replace(b"web", b"WeB"), 5, query.question)
    assert not message.answers(right, 6, query.question)
    assert not message.answers(message.respond(other, [], room=512), 5, query.question)
    assert not message.answers(question("web.example", number=5), 5, query.question)
    assert not message.answers(right[:11], 5, query.question)
    # BIND leaves the question out of a FORMERR; without a fault it may not.
    assert message.answers(b"\0\5\x80\1" + b"\0" * 8, 5, query.question)
    assert not message.answers(b"\0\5\x80\0" + b"\0" * 8, 5, query.question)
