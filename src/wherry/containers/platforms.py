"""Which machine an image is for, and whether containers of it run here."""

from __future__ import annotations

from wherry.containers.namespaces import needs_host_user
from wherry.images.config import host_platform
from wherry.model.containers import ContainerSpec
from wherry.model.errors import Unsupported
from wherry.model.images import Image, Platform, WrongPlatform
from wherry.runtime.emulation import choose_emulator

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def check_platform(wanted: str, image: Image, ref: str) -> None:
    """Check that `image` is for the platform `os[/architecture[/variant]]`. Raises NotFound."""
    if not wanted:
        return
    system, _, rest = wanted.lower().partition("/")
    architecture = rest.partition("/")[0]
    has = image.platform
    if system == has.os and _ARCHITECTURES.get(architecture, architecture) in (
        "",
        has.architecture,
    ):
        return
    raise WrongPlatform(ref, has, Platform(system, *rest.split("/", 1)))


def platform_warnings(spec: ContainerSpec, image: Image) -> list[str]:
    """Return warnings of an image for another machine: that it was not asked for, that nothing runs it here."""
    has, host = image.platform, host_platform()
    if not has.architecture or has.architecture == host.architecture:
        return []
    warnings: list[str] = []
    if not spec.platform:
        warnings.append(
            f"The requested image's platform ({_text(has)}) does not match the detected host "
            f"platform ({_text(host)}) and no specific platform was requested"
        )
    try:
        choose_emulator(has.architecture, own=not needs_host_user(spec))
    except Unsupported as error:
        warnings.append(f"{error.message}: {error.hint}")
    return warnings


def _text(platform: Platform) -> str:
    return "/".join(filter(None, (platform.os, platform.architecture, platform.variant)))
