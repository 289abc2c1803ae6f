"""Creating a container: its image resolved, everything checked, one row written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

from wherry.containers import words
from wherry.containers.checks import check_spec
from wherry.containers.defaults import Defaults
from wherry.containers.endpoints import DEFAULT_MODES, check_published, wanted_endpoints
from wherry.containers.events import Recorder, container_event
from wherry.containers.log_settings import check_place, parse_log_config, shown
from wherry.containers.merge import merge
from wherry.containers.mount_checks import check_mounts
from wherry.containers.namespaces import needs_host_user, referenced
from wherry.containers.platforms import check_platform, platform_warnings
from wherry.containers.points import Points, plan_points
from wherry.containers.security import plan_security
from wherry.containers.store import ContainerStore
from wherry.model.containers import Container, ContainerSpec, LogConfig
from wherry.model.errors import Invalid, NotFound, Unsupported
from wherry.model.ids import Digest, check_container_name, new_id
from wherry.model.images import Image
from wherry.model.networks import DEFAULT_BRIDGE
from wherry.model.oci import HOST
from wherry.model.resources import Limits, validate, with_defaults
from wherry.model.views import Created
from wherry.runtime import capabilities

_SHORT = 12
_NO_DEFAULTS = Defaults()
IMAGE_MOUNTS = "Image mount is an experimental feature"


class Images(Protocol):
    """What is used of the image store."""

    def resolve(self, ref: str) -> Image: ...


class Lease(Protocol):
    """Holds layers that no row refers to yet."""

    def add(self, *digests: Digest) -> None: ...


class Leases(Protocol):
    """Where leases are had."""

    def lease(self) -> AbstractContextManager[Lease]: ...


class Groups(Protocol):
    """What is asked of the cgroups."""

    def check(self, limits: Limits) -> None: ...


class Networking(Protocol):
    """Who knows the networks."""

    def checked(self, spec: ContainerSpec) -> ContainerSpec: ...


class Furnisher(Protocol):
    """Who sees to volumes."""

    def furnishing(
        self, container: Container, points: Points
    ) -> AbstractAsyncContextManager[Container]: ...


class Creator:
    """Makes containers; nothing but a row exists of them until they are started."""

    def __init__(
        self,
        *,
        store: ContainerStore,
        images: Images,
        leases: Leases,
        groups: Groups,
        events: Recorder,
        log_default: LogConfig,
        cpus: int,
        capabilities: int,
        init_path: str,
        default_init: bool = False,
        defaults: Defaults = _NO_DEFAULTS,
        userns_missing: str = "",
        networking: Networking,
        furnisher: Furnisher,
        finish: Callable[[Coroutine[Any, Any, None]], Awaitable[None]],
        default_network: str = DEFAULT_BRIDGE,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`capabilities` is the engine's own bounding set, `init_path` the program of --init.

        `finish` carries work through even if whoever asked is gone. `userns_missing` says why containers
        can have no user namespace of their own here, if so.
        """
        self._store = store
        self._images = images
        self._leases = leases
        self._groups = groups
        self._events = events
        self._log_default = log_default
        self._cpus = cpus
        self._capabilities = capabilities
        self._init_path = init_path
        self._default_init = default_init
        self._defaults = defaults
        self._userns_missing = userns_missing
        self._networking = networking
        self._default_network = default_network
        self._furnisher = furnisher
        self._finish = finish
        self._clock = clock

    async def create(self, spec: ContainerSpec, name: str) -> Created:
        """Keep a new container and return its id and warnings; an empty name means: find one.

        Raises Invalid or Unsupported for what is wrong with `spec`, NotFound for the image,
        Conflict for a name that is taken.
        """
        if name:
            name = check_container_name(name)
            self._store.check_name(name)
        if not spec.image:
            raise Invalid("no image specified")
        spec = self._defaults.applied(spec)
        mode = spec.namespaces.network
        if mode in DEFAULT_MODES:
            spec = replace(spec, namespaces=replace(spec.namespaces, network=self._default_network))
        warnings = list(check_spec(spec))
        check_published(spec)
        spec = self._networking.checked(replace(spec, endpoints=wanted_endpoints(spec)))
        spec = self._with_references(spec)
        init = (self._default_init or None) if spec.init is None else spec.init
        spec = replace(spec, mounts=check_mounts(spec), init=init)
        self._check_joined(spec)
        self._check_security(spec)
        self._check_limits(spec.limits)
        parse_log_config(spec.log, self._log_default)
        check_place(spec.log, self._log_default)
        if spec.init and not self._init_path:
            raise Unsupported(
                "--init needs an init binary, and there is none here",
                hint="install tini (Debian: apt-get install tini)",
            )
        with self._leases.lease() as lease:
            image = self._images.resolve(spec.image)
            check_platform(spec.platform, image, spec.image)
            warnings += platform_warnings(spec, image)
            lease.add(*image.chain)
            points = plan_points(spec, image.config.volumes, self._donor, self._images.resolve)
            container = self._make(spec, name, image)
            if points is None:
                self._keep(container)
            else:
                if any(mount.chain for mount in points.mounts):
                    warnings.append(IMAGE_MOUNTS)
                await self._finish(self._keep_furnished(container, points))
        return Created(container.id, tuple(warnings))

    def _donor(self, ref: str) -> Container:
        """Return the container that --volumes-from names. Docker's clients take a 404 for a missing image."""
        try:
            return self._store.resolve(ref)
        except NotFound as error:
            raise Invalid(error.message) from None

    def _keep(self, container: Container) -> None:
        self._store.add(container)
        self._events.record(container_event(container, "create"))

    async def _keep_furnished(self, container: Container, points: Points) -> None:
        with self._leases.lease() as lease:
            lease.add(
                *container.chain, *(layer for mount in points.mounts for layer in mount.chain)
            )
            async with self._furnisher.furnishing(container, points) as furnished:
                self._keep(furnished)

    def _make(self, spec: ContainerSpec, name: str, image: Image) -> Container:
        container_id = new_id()
        merged = merge(spec, image.config)
        hostname = spec.hostname or container_id[:_SHORT]
        if HOST in (spec.namespaces.network, spec.namespaces.uts) and not spec.hostname:
            hostname = os.uname().nodename
        return Container(
            id=container_id,
            name=name or words.random_name(self._store.has_name),
            created=self._clock(),
            spec=replace(
                merged.spec,
                log=shown(spec.log, self._log_default),
                limits=with_defaults(spec.limits),
            ),
            image_id=image.id,
            image_name=spec.image,
            argv=merged.argv,
            env=merged.env,
            working_dir=merged.working_dir,
            user=merged.user,
            stop_signal=merged.stop_signal,
            labels=merged.labels,
            hostname=hostname,
            chain=image.chain,
            architecture=image.platform.architecture,
        )

    def _with_references(self, spec: ContainerSpec) -> ContainerSpec:
        """Name linked and joined containers by id: they may be renamed."""
        links: list[str] = []
        for link in spec.links:
            ref, _, alias = link.partition(":")
            if ":" in alias or not ref:
                raise Invalid(f"bad format for links: {link}")
            try:
                other = self._store.resolve(ref)
            except NotFound as error:
                raise Invalid(f"could not get container for {ref}: {error.message}") from None
            links.append(f"{other.id}:{alias or other.name}")
        modes = spec.namespaces
        if ref := referenced(modes.network):
            with contextlib.suppress(NotFound, Invalid):
                modes = replace(modes, network=f"container:{self._store.resolve(ref).id}")
        return replace(spec, links=tuple(links), namespaces=modes)

    def _check_joined(self, spec: ContainerSpec) -> None:
        modes = spec.namespaces
        for mode in (modes.pid, modes.ipc):
            if ref := referenced(mode):
                try:
                    self._store.resolve(ref)
                except NotFound as error:
                    raise Invalid(error.message) from None

    def _check_security(self, spec: ContainerSpec) -> None:
        host = needs_host_user(spec)
        if self._userns_missing and not host:
            raise Unsupported(
                f"a user namespace of its own is not possible here: {self._userns_missing}",
                hint="--userns=host does without; wherryd --userns-remap=host makes that the default",
            )
        available = self._capabilities if host else capabilities.ALL
        plan_security(spec.security, available=available)

    def _check_limits(self, limits: Limits) -> None:
        if limits == Limits():
            return
        wanted = with_defaults(limits)
        validate(wanted, cpus=self._cpus)
        self._groups.check(wanted)
