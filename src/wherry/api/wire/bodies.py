"""The bodies of create and update as they come in. Go clients send null for any field left empty."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wherry.api.wire.network import EndpointBody

Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Go's int64; more does not fit SQLite either."""
Words = list[str] | str | None
"""Docker takes a list, or one string as a list of one."""


class Weight(msgspec.Struct):
    """BlkioWeightDevice."""

    Path: str = ""
    Weight: Int = 0


class Rate(msgspec.Struct):
    """ThrottleDevice."""

    Path: str = ""
    Rate: Int = 0


class Device(msgspec.Struct):
    """DeviceMapping."""

    PathOnHost: str = ""
    PathInContainer: str = ""
    CgroupPermissions: str = ""


class Ulimit(msgspec.Struct):
    """One entry of Ulimits."""

    Name: str = ""
    Soft: Int = 0
    Hard: Int = 0


class Restart(msgspec.Struct):
    """RestartPolicy."""

    Name: str | None = None
    MaximumRetryCount: Int | None = None


class Log(msgspec.Struct):
    """LogConfig."""

    Type: str | None = None
    Config: dict[str, str | None] | None = None


class PortBinding(msgspec.Struct):
    """One entry of PortBindings."""

    HostIp: str | None = None
    HostPort: str | None = None


class BindOptions(msgspec.Struct):
    """Mount.BindOptions."""

    Propagation: str | None = None
    NonRecursive: bool | None = None
    CreateMountpoint: bool | None = None
    ReadOnlyNonRecursive: bool | None = None
    ReadOnlyForceRecursive: bool | None = None


class TmpfsOptions(msgspec.Struct):
    """Mount.TmpfsOptions."""

    SizeBytes: Int | None = None
    Mode: Int | None = None
    Options: list[list[str]] | None = None


class DriverConfig(msgspec.Struct):
    """Mount.VolumeOptions.DriverConfig."""

    Name: str | None = None
    Options: dict[str, str | None] | None = None


class VolumeOptions(msgspec.Struct):
    """Mount.VolumeOptions."""

    NoCopy: bool | None = None
    Labels: dict[str, str | None] | None = None
    DriverConfig: DriverConfig | None = None
    Subpath: str | None = None


class ImageOptions(msgspec.Struct):
    """Mount.ImageOptions."""

    Subpath: str | None = None


class VolumeBody(msgspec.Struct):
    """POST /volumes/create."""

    Name: str | None = None
    Driver: str | None = None
    DriverOpts: dict[str, str | None] | None = None
    Labels: dict[str, str | None] | None = None
    ClusterVolumeSpec: dict[str, object] | None = None


class Mount(msgspec.Struct):
    """One entry of Mounts."""

    Type: str | None = None
    Source: str | None = None
    Target: str | None = None
    ReadOnly: bool | None = None
    Consistency: str | None = None
    BindOptions: BindOptions | None = None
    VolumeOptions: VolumeOptions | None = None
    ImageOptions: ImageOptions | None = None
    TmpfsOptions: TmpfsOptions | None = None


class Health(msgspec.Struct):
    """Healthcheck; nanoseconds."""

    Test: list[str] | None = None
    Interval: Int | None = None
    Timeout: Int | None = None
    StartPeriod: Int | None = None
    StartInterval: Int | None = None
    Retries: Int | None = None


class Resources(msgspec.Struct):
    """What create's HostConfig and update share."""

    CpuShares: Int | None = None
    Memory: Int | None = None
    CgroupParent: str | None = None
    BlkioWeight: Int | None = None
    BlkioWeightDevice: list[Weight] | None = None
    BlkioDeviceReadBps: list[Rate] | None = None
    BlkioDeviceWriteBps: list[Rate] | None = None
    BlkioDeviceReadIOps: list[Rate] | None = None
    BlkioDeviceWriteIOps: list[Rate] | None = None
    CpuPeriod: Int | None = None
    CpuQuota: Int | None = None
    CpuRealtimePeriod: Int | None = None
    CpuRealtimeRuntime: Int | None = None
    CpusetCpus: str | None = None
    CpusetMems: str | None = None
    Devices: list[Device] | None = None
    DeviceCgroupRules: list[str] | None = None
    DeviceRequests: list[object] | None = None
    KernelMemory: Int | None = None
    KernelMemoryTCP: Int | None = None
    MemoryReservation: Int | None = None
    MemorySwap: Int | None = None
    MemorySwappiness: Int | None = None
    NanoCpus: Int | None = None
    OomKillDisable: bool | None = None
    PidsLimit: Int | None = None
    Ulimits: list[Ulimit] | None = None
    CpuCount: Int | None = None
    CpuPercent: Int | None = None
    IOMaximumIOps: Int | None = None
    IOMaximumBandwidth: Int | None = None


class UpdateBody(Resources):
    """POST /containers/{id}/update."""

    RestartPolicy: Restart | None = None


class HostConfig(Resources):
    """HostConfig of create."""

    Init: bool | None = None
    Binds: list[str] | None = None
    ContainerIDFile: str | None = None
    LogConfig: Log | None = None
    NetworkMode: str | None = None
    PortBindings: dict[str, list[PortBinding] | None] | None = None
    RestartPolicy: Restart | None = None
    AutoRemove: bool | None = None
    VolumeDriver: str | None = None
    VolumesFrom: list[str] | None = None
    Mounts: list[Mount] | None = None
    ConsoleSize: list[Int] | None = None
    Annotations: dict[str, str | None] | None = None
    CapAdd: Words = None
    CapDrop: Words = None
    CgroupnsMode: str | None = None
    Dns: list[str] | None = None
    DnsOptions: list[str] | None = None
    DnsSearch: list[str] | None = None
    ExtraHosts: list[str] | None = None
    GroupAdd: list[str] | None = None
    IpcMode: str | None = None
    Cgroup: str | None = None
    Links: list[str] | None = None
    OomScoreAdj: Int | None = None
    PidMode: str | None = None
    Privileged: bool | None = None
    PublishAllPorts: bool | None = None
    ReadonlyRootfs: bool | None = None
    SecurityOpt: list[str] | None = None
    StorageOpt: dict[str, str | None] | None = None
    Tmpfs: dict[str, str | None] | None = None
    UTSMode: str | None = None
    UsernsMode: str | None = None
    ShmSize: Int | None = None
    Sysctls: dict[str, str | None] | None = None
    Runtime: str | None = None
    Isolation: str | None = None
    MaskedPaths: list[str] | None = None
    ReadonlyPaths: list[str] | None = None


class Networking(msgspec.Struct):
    """NetworkingConfig."""

    EndpointsConfig: dict[str, EndpointBody | None] | None = None


class Config(msgspec.Struct):
    """The part of create that an image's configuration also has; commit's body is one."""

    Hostname: str | None = None
    Domainname: str | None = None
    User: str | None = None
    AttachStdin: bool | None = None
    AttachStdout: bool | None = None
    AttachStderr: bool | None = None
    ExposedPorts: dict[str, object] | None = None
    Tty: bool | None = None
    OpenStdin: bool | None = None
    StdinOnce: bool | None = None
    Env: list[str] | None = None
    Cmd: Words = None
    Healthcheck: Health | None = None
    ArgsEscaped: bool | None = None
    Image: str | None = None
    Volumes: dict[str, object] | None = None
    WorkingDir: str | None = None
    Entrypoint: Words = None
    NetworkDisabled: bool | None = None
    MacAddress: str | None = None
    OnBuild: list[str] | None = None
    Labels: dict[str, str | None] | None = None
    StopSignal: str | None = None
    StopTimeout: Int | None = None
    Shell: Words = None


class CreateBody(Config):
    """POST /containers/create."""

    HostConfig: HostConfig | None = None
    NetworkingConfig: Networking | None = None
