"""`-v`, `--mount` and `--tmpfs` on the wire, both ways."""

from __future__ import annotations

from collections.abc import Iterable

from wherry.api.wire import bodies
from wherry.api.wire.bodies import BindOptions, HostConfig, Mount, TmpfsOptions
from wherry.api.wire.codec import optional_pairs
from wherry.model.containers import MountKind, MountSpec, VolumeOptions
from wherry.model.errors import Invalid

PROPAGATIONS = frozenset(("private", "rprivate", "shared", "rshared", "slave", "rslave"))
# macOS's; z and Z relabel for SELinux. None of them means anything here, nor to Docker on such a host.
_NO_MEANING = frozenset(("cached", "delegated", "consistent"))


def parse_mounts(host: HostConfig) -> tuple[MountSpec, ...]:
    """Return every mount that is asked for. Raises Invalid with Docker's words."""
    mounts = [parse_bind(text) for text in host.Binds or ()]
    mounts += [parse_mount(mount) for mount in host.Mounts or ()]
    mounts += [
        MountSpec(MountKind.TMPFS, target, tmpfs_options=options or "", legacy_tmpfs=True)
        for target, options in (host.Tmpfs or {}).items()
    ]
    return tuple(mounts)


def parse_bind(text: str) -> MountSpec:
    """Return one `-v source:target[:options]`; a source that is no path is a volume's name."""
    parts = text.split(":")
    if not 1 <= len(parts) <= 3 or not all(parts):
        raise Invalid(f"invalid volume specification: '{text}'")
    if len(parts) == 1:
        return MountSpec(MountKind.VOLUME, parts[0], legacy_bind=True, bind_text=text)
    source, target = parts[0], parts[1]
    read_only, propagation = False, "rprivate"
    seen: set[str] = set()
    for option in parts[2].split(",") if len(parts) == 3 else ():
        sort = "access" if option in ("ro", "rw") else "other"
        if option in PROPAGATIONS:
            sort, propagation = "propagation", option
        elif option in ("ro", "rw"):
            read_only = option == "ro"
        elif option in ("z", "Z"):
            sort = "label"
        elif option == "nocopy":
            sort = "copy"
        elif option not in _NO_MEANING:
            raise Invalid(f"invalid mode: {parts[2]}")
        if sort != "other" and sort in seen:
            raise Invalid(f"invalid mode: {parts[2]}")
        seen.add(sort)
    kind = MountKind.BIND if source.startswith("/") else MountKind.VOLUME
    if kind is MountKind.VOLUME and "/" in source:
        raise Invalid(
            f'create {source}: "{source}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use '
            "absolute path"
        )
    for sort, owner, field in (
        ("propagation", MountKind.BIND, "BindOptions"),
        ("copy", MountKind.VOLUME, "VolumeOptions"),
    ):
        if sort in seen and kind is not owner:
            raise Invalid(
                f"invalid volume specification: '{text}': invalid mount config for type \"{kind}\": "
                f"field {field} must not be specified"
            )
    return MountSpec(
        kind,
        target,
        source=source,
        options=VolumeOptions(no_copy=True) if "copy" in seen else None,
        read_only=read_only,
        propagation=propagation,
        create_source=kind is MountKind.BIND,
        legacy_bind=True,
        bind_text=text,
    )


def parse_mount(mount: Mount) -> MountSpec:
    """Return one `--mount`."""
    name = mount.Type or ""

    def wrong(reason: str) -> Invalid:
        return Invalid(f'invalid mount config for type "{name}": {reason}')

    try:
        kind = MountKind(name)
    except ValueError:
        raise wrong("mount type unknown") from None
    for option, owner in (
        ("BindOptions", MountKind.BIND),
        ("VolumeOptions", MountKind.VOLUME),
        ("ImageOptions", MountKind.IMAGE),
        ("TmpfsOptions", MountKind.TMPFS),
    ):
        if getattr(mount, option) is not None and owner is not kind:
            raise Invalid(f'{option} must not be specified on mount type "{name}"')
    bind = mount.BindOptions or BindOptions()
    tmpfs = mount.TmpfsOptions or TmpfsOptions()
    propagation = bind.Propagation or "rprivate"
    if (tmpfs.SizeBytes or 0) < 0:
        raise wrong(f"field TmpfsOptions.SizeBytes must not be negative: {tmpfs.SizeBytes}")
    if bind.ReadOnlyForceRecursive and bind.ReadOnlyNonRecursive:
        raise wrong("ReadOnlyForceRecursive and ReadOnlyNonRecursive are mutually exclusive")
    return MountSpec(
        kind,
        mount.Target or "",
        source=mount.Source or "",
        read_only=bool(mount.ReadOnly),
        propagation=propagation,
        non_recursive=bool(bind.NonRecursive),
        read_only_non_recursive=bool(bind.ReadOnlyNonRecursive),
        read_only_force_recursive=bool(bind.ReadOnlyForceRecursive),
        create_source=bool(bind.CreateMountpoint),
        tmpfs_size=tmpfs.SizeBytes or 0,
        tmpfs_mode=tmpfs.Mode or 0,
        tmpfs_options=",".join("=".join(words) for words in tmpfs.Options or ()),
        options=_volume_options(mount.VolumeOptions),
        image_subpath=(mount.ImageOptions.Subpath or "") if mount.ImageOptions else "",
    )


def _volume_options(wanted: bodies.VolumeOptions | None) -> VolumeOptions | None:
    if wanted is None:
        return None
    driver = wanted.DriverConfig
    return VolumeOptions(
        no_copy=bool(wanted.NoCopy),
        subpath=wanted.Subpath or "",
        labels=optional_pairs(wanted.Labels),
        driver=(driver.Name or "") if driver else "",
        driver_options=optional_pairs(driver.Options) if driver else None,
        driver_named=driver is not None,
    )


def render_mounts(mounts: Iterable[MountSpec]) -> dict[str, object]:
    """Return HostConfig's Binds, and Mounts and Tmpfs where there are any, as Docker shows them."""
    mounts = tuple(mounts)
    answer: dict[str, object] = {
        "Binds": [m.bind_text for m in mounts if m.legacy_bind] or None,
    }
    if tmpfs := {m.target: m.tmpfs_options for m in mounts if m.legacy_tmpfs}:
        answer["Tmpfs"] = tmpfs
    if rest := [_render_mount(m) for m in mounts if not (m.legacy_bind or m.legacy_tmpfs)]:
        answer["Mounts"] = rest
    return answer


def _render_mount(mount: MountSpec) -> dict[str, object]:
    answer: dict[str, object] = {"Type": str(mount.kind)}
    if mount.source:
        answer["Source"] = mount.source
    answer["Target"] = mount.target
    if mount.read_only:
        answer["ReadOnly"] = True
    bind: dict[str, object] = {}
    if mount.propagation != "rprivate":
        bind["Propagation"] = mount.propagation
    for name, value in (
        ("NonRecursive", mount.non_recursive),
        ("CreateMountpoint", mount.create_source),
        ("ReadOnlyNonRecursive", mount.read_only_non_recursive),
        ("ReadOnlyForceRecursive", mount.read_only_force_recursive),
    ):
        if value:
            bind[name] = True
    if bind:
        answer["BindOptions"] = bind
    tmpfs: dict[str, object] = {}
    if mount.tmpfs_size:
        tmpfs["SizeBytes"] = mount.tmpfs_size
    if mount.tmpfs_mode:
        tmpfs["Mode"] = mount.tmpfs_mode
    if mount.tmpfs_options:
        tmpfs["Options"] = [word.split("=", 1) for word in mount.tmpfs_options.split(",")]
    if tmpfs:
        answer["TmpfsOptions"] = tmpfs
    if mount.options is not None:
        answer["VolumeOptions"] = _render_options(mount.options)
    if mount.image_subpath:
        answer["ImageOptions"] = {"Subpath": mount.image_subpath}
    return answer


def _render_options(options: VolumeOptions) -> dict[str, object]:
    answer: dict[str, object] = {}
    if options.no_copy:
        answer["NoCopy"] = True
    if options.labels:
        answer["Labels"] = dict(options.labels)
    if options.driver_named:
        driver: dict[str, object] = {}
        if options.driver:
            driver["Name"] = options.driver
        if options.driver_options:
            driver["Options"] = dict(options.driver_options)
        answer["DriverConfig"] = driver
    if options.subpath:
        answer["Subpath"] = options.subpath
    return answer
