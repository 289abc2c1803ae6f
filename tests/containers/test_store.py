"""Rows: what is kept is what comes back; names are unique; references resolve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.containers.fakes import IMAGE, make_container
from wherry.containers.exec_store import KEPT, Exec, ExecStore
from wherry.containers.store import ContainerStore
from wherry.model.containers import (
    ContainerSpec,
    ContainerState,
    DeviceSpec,
    ExecSpec,
    HealthSpec,
    MountKind,
    MountSpec,
    Namespaces,
    Status,
    Ulimit,
)
from wherry.model.errors import Conflict, Invalid, NotFound
from wherry.model.resources import DeviceRate, Limits
from wherry.storage.database import Database


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A database of its own."""
    database = Database(tmp_path / "x.db")
    yield database
    database.close()


FULL = ContainerSpec(
    "bb",
    command=(),
    entrypoint=None,
    labels=(("a", "b"),),
    ulimits=(Ulimit("nofile", 1, -1),),
    devices=(DeviceSpec("/dev/null", "/dev/x"),),
    mounts=(MountSpec(MountKind.BIND, "/t", "/s", read_only=True),),
    limits=Limits(memory=5, blkio_device_read_bps=(DeviceRate(8, 0, 3),)),
    namespaces=Namespaces(network="none"),
    health=HealthSpec(("CMD", "x")),
    console_size=(24, 80),
)


def test_everything_comes_back(database: Database) -> None:
    store = ContainerStore(database)
    container = make_container(spec=FULL)
    store.add(container)
    state = ContainerState(Status.EXITED, exit_code=3, finished_at=1 << 60, error='"\u2028')
    store.save_state(container.id, state)
    again = ContainerStore(database).get(container.id)
    assert again == store.get(container.id)
    assert (again.spec, again.state) == (FULL, state)


def test_references(database: Database) -> None:
    store = ContainerStore(database)
    one = make_container("one", id="ab" + "0" * 62)
    two = make_container("two", id="ac" + "0" * 62)
    named = make_container("ab0", id="f" * 64)
    for container in (one, two, named):
        store.add(container)
    assert store.resolve("one") is store.resolve("/one") is store.resolve("ab" + "0" * 62)
    assert store.resolve("ac").name == "two"
    # A name goes before the beginning of an id.
    assert store.resolve("ab0").name == "ab0"
    with pytest.raises(Invalid, match="Multiple IDs found with provided prefix: a"):
        store.resolve("a")
    for ref in ("nope", "/"):
        with pytest.raises(NotFound, match="No such container"):
            store.resolve(ref)
    with pytest.raises(Invalid, match='invalid name or ID supplied: ""'):
        store.resolve("")


def test_a_taken_name_changes_nothing(database: Database) -> None:
    store = ContainerStore(database)
    first, second = make_container("web"), make_container("db")
    store.add(first)
    with pytest.raises(Conflict, match=first.id):
        store.add(make_container("web"))
    store.add(second)
    with pytest.raises(Conflict):
        store.save(make_container("web", id=second.id))
    assert store.resolve("db").id == second.id
    assert len(ContainerStore(database)) == 2


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "rename", "remove", "state"]),
        st.sampled_from("wxyz"),
        st.sampled_from("wxyz"),
    ),
    max_size=30,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(actions)
def test_memory_and_disk_agree(tmp_path: Path, actions: list[tuple[str, str, str]]) -> None:
    for old in tmp_path.glob("law.db*"):
        old.unlink()
    database = Database(tmp_path / "law.db")
    try:
        store = ContainerStore(database)
        model: dict[str, str] = {}
        for action, name, other in actions:
            try:
                match action:
                    case "add":
                        container = make_container(name)
                        store.add(container)
                        model[name] = container.id
                    case "rename":
                        before = store.resolve(name)
                        store.save(make_container(other, id=before.id))
                        model[other] = model.pop(name)
                    case "state":
                        store.save_state(store.resolve(name).id, ContainerState(exit_code=1))
                    case _:
                        store.remove(store.resolve(name).id)
                        del model[name]
            except (Conflict, NotFound):
                continue
        assert {c.name: c.id for c in store} == model
        assert sorted(ContainerStore(database), key=lambda c: c.id) == sorted(
            store, key=lambda c: c.id
        )
    finally:
        database.close()


def test_images_learn_of_their_users(database: Database) -> None:
    store = ContainerStore(database)
    idle = make_container("idle")
    busy = make_container("busy", state=ContainerState(Status.PAUSED))
    store.add(idle)
    store.add(busy)
    users = {use.container_id: use.running for use in store.image_users()[IMAGE]}
    assert users == {idle.id: False, busy.id: True}
    assert set(store.live_layers()) == set(idle.chain)


def test_execs_go_with_their_container(database: Database) -> None:
    store, execs = ContainerStore(database), ExecStore(database)
    container = make_container()
    store.add(container)
    for number in range(KEPT + 5):
        entry = Exec(f"{number:064x}", container.id, ExecSpec(("true",)))
        execs.add(entry)
        execs.update(Exec(entry.id, container.id, entry.spec, started=True, code=number))
    assert len(execs.of(container.id)) == KEPT
    assert not execs.knows(f"{0:064x}")
    again = ExecStore(database)
    assert {e.id: e.code for e in again} == {e.id: e.code for e in execs}
    store.remove(container.id)
    execs.drop(container.id)
    assert not list(execs) and not list(ExecStore(database))
