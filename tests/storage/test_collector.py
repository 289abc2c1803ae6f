"""Mark and sweep: what is referred to or leased stays, all else goes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wherry.model.ids import Digest
from wherry.storage.collector import Collector
from wherry.storage.content import ContentStore
from wherry.storage.leases import Leases
from wherry.storage.overlay import OverlaySnapshotter


@dataclass
class Roots:
    """What durable state refers to."""

    layers: list[Digest] = field(default_factory=list)
    blobs: list[Digest] = field(default_factory=list)

    def live_layers(self) -> Iterable[Digest]:
        return self.layers

    def live_blobs(self) -> Iterable[Digest]:
        return self.blobs


@dataclass
class Stores:
    root: Path

    def __post_init__(self) -> None:
        self.content = ContentStore(self.root)
        self.snapshots = OverlaySnapshotter(self.root)
        self.leases = Leases()
        self.roots = Roots()
        self.collector = Collector(
            self.content,
            self.snapshots,
            self.leases,
            layer_roots=(self.roots,),
            blob_roots=(self.roots,),
        )

    def layer(self, name: bytes, parents: tuple[Digest, ...] = ()) -> Digest:
        chain = Digest.of(name)
        with self.snapshots.new_layer(chain, parents) as target:
            (target / "file").write_bytes(name)
        return chain


def test_what_is_referred_to_or_leased_stays(tmp_path: Path) -> None:
    stores = Stores(tmp_path)
    live, leased, dead = (stores.content.put(text) for text in (b"live", b"leased", b"dead"))
    live_layer = stores.layer(b"one")
    leased_layer = stores.layer(b"two", (live_layer,))
    dead_layer = stores.layer(b"three", (live_layer, leased_layer))
    stores.roots.blobs.append(live)
    stores.roots.layers.append(live_layer)
    with stores.leases.lease() as lease:
        lease.add(leased, leased_layer)
        collected = stores.collector.sweep()
        assert collected.blobs == (dead,)
        assert collected.layers == (dead_layer,)
        assert collected.space >= 4 + 5
        assert stores.collector.sweep().space == 0
    collected = stores.collector.sweep()
    assert (collected.blobs, collected.layers) == ((leased,), (leased_layer,))
    assert list(stores.content.digests()) == [live]
    assert list(stores.snapshots.layers()) == [live_layer]


def test_only_candidates_are_collected(tmp_path: Path) -> None:
    stores = Stores(tmp_path)
    one, two = stores.content.put(b"1"), stores.content.put(b"2")
    assert stores.collector.collect([one, Digest.of(b"none"), one]).blobs == (one,)
    assert list(stores.content.digests()) == [two]


def test_a_digest_that_names_both_a_blob_and_a_layer(tmp_path: Path) -> None:
    """An uncompressed base layer: its blob may be dead while the layer lives, and the other way round."""
    stores = Stores(tmp_path)
    digest = stores.layer(b"same")
    assert stores.content.put(b"same") == digest
    stores.roots.layers.append(digest)
    collected = stores.collector.sweep()
    assert (collected.blobs, collected.layers) == ((digest,), ())
    stores.content.put(b"same")
    stores.roots.layers.clear()
    stores.roots.blobs.append(digest)
    collected = stores.collector.sweep()
    assert (collected.blobs, collected.layers) == ((), (digest,))
    assert stores.content.has(digest)


def test_registered_between_mark_and_removal(tmp_path: Path) -> None:
    """The last look is under the lease lock: what became live after the mark is not removed."""
    stores = Stores(tmp_path)
    digest = stores.content.put(b"x")
    looks = 0

    class Late(Roots):
        def live_blobs(self) -> Iterable[Digest]:
            nonlocal looks
            looks += 1
            return [digest] if looks > 1 else []

    collector = Collector(
        stores.content, stores.snapshots, stores.leases, layer_roots=(), blob_roots=(Late(),)
    )
    assert collector.sweep().blobs == ()
    assert stores.content.has(digest)


def test_operations_beside_a_sweeping_collector(tmp_path: Path) -> None:
    """Each operation leases, finds or writes, registers, lets go: it never finds its blob gone."""
    stores = Stores(tmp_path)
    problems: list[str] = []
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            stores.collector.sweep()

    def operate(number: int) -> None:
        data = b"%d" % (number % 3)
        digest = Digest.of(data)
        for _ in range(40):
            with stores.leases.lease() as lease:
                lease.add(digest)
                if not stores.content.has(digest):
                    stores.content.put(data)
                if stores.content.read(digest) != data:
                    problems.append("lost while leased")
                stores.roots.blobs.append(digest)
            if not stores.content.has(digest):
                problems.append("lost while registered")
            stores.roots.blobs.remove(digest)

    sweeper = threading.Thread(target=sweep)
    workers = [threading.Thread(target=operate, args=(n,)) for n in range(4)]
    for thread in (sweeper, *workers):
        thread.start()
    for worker in workers:
        worker.join()
    stop.set()
    sweeper.join()
    assert problems == []
    stores.collector.sweep()
    assert list(stores.content.digests()) == []


@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_a_sweep_keeps_exactly_the_live_and_the_leased(
    tmp_path_factory: object, stored: set[int], live: set[int], leased: set[int]
) -> None:
    stores = Stores(tmp_path_factory.mktemp("sweep"))  # type: ignore[attr-defined]
    digests = {n: stores.content.put(b"%d" % n) for n in stored}
    stores.roots.blobs += [Digest.of(b"%d" % n) for n in live]
    with stores.leases.lease() as lease:
        lease.add(*(Digest.of(b"%d" % n) for n in leased))
        stores.collector.sweep()
    kept = {digests[n] for n in stored & (live | leased)}
    assert set(stores.content.digests()) == kept
