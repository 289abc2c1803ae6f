"""Clients as people use them: skopeo, podman and buildah."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.registry.serving import Client, Running, registry, sha256
from tests.registry.test_access import basic, crypt_line

SKOPEO = shutil.which("skopeo")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in OCI layout: an index of two platforms, three layers between them."""
    root = tmp_path_factory.mktemp("layout")
    blobs = root / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    (root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')

    def put(data: bytes, kind: str, **more: object) -> dict[str, object]:
        digest = sha256(data)
        (blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": kind, "digest": digest, "size": len(data)} | more

    def layer(name: str) -> tuple[dict[str, object], str]:
        file = root / "layer.tar"
        (root / name).write_bytes(os.urandom(200_000))
        with tarfile.open(file, "w") as tar:
            tar.add(root / name, name)
        data = file.read_bytes()
        return put(data, "application/vnd.oci.image.layer.v1.tar"), sha256(data)

    shared, shared_id = layer("shared")
    entries: list[dict[str, object]] = []
    for architecture in ("amd64", "arm64"):
        own, own_id = layer(architecture)
        rootfs = {"type": "layers", "diff_ids": [shared_id, own_id]}
        config = {"architecture": architecture, "os": "linux", "rootfs": rootfs}
        manifest = {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": put(json.dumps(config).encode(), "application/vnd.oci.image.config.v1+json"),
            "layers": [shared, own],
        }
        platform = {"os": "linux", "architecture": architecture}
        entries.append(
            put(json.dumps(manifest).encode(), str(manifest["mediaType"]), platform=platform)
        )
    kind = "application/vnd.oci.image.index.v1+json"
    inner = put(
        json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode(), kind
    )
    inner["annotations"] = {"org.opencontainers.image.ref.name": "multi"}
    (root / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [inner]}))
    return root


def run(*words: str, **more: str) -> str:
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=100, check=False, env=os.environ | more
    )
    assert done.returncode == 0, f"{' '.join(words)}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed")
class TestSkopeo:
    def test_there_and_back(
        self, shared_registry: Running, layout: Path, tmp_path: Path, name: str
    ) -> None:
        place = f"docker://127.0.0.1:{shared_registry.port}/{name}"
        run(
            "skopeo",
            "copy",
            "--all",
            "--preserve-digests",
            "--dest-tls-verify=false",
            f"oci:{layout}:multi",
            f"{place}:v1",
        )
        run(
            "skopeo",
            "copy",
            "--all",
            "--preserve-digests",
            "--src-tls-verify=false",
            f"{place}:v1",
            f"dir:{tmp_path}/back",
        )
        (before,) = json.loads((layout / "index.json").read_text())["manifests"]
        # skopeo writes indexes anew into an OCI layout, but not into a plain folder.
        assert sha256((tmp_path / "back/manifest.json").read_bytes()) == before["digest"]
        files = list((tmp_path / "back").iterdir())
        came = {sha256(path.read_bytes()).removeprefix("sha256:") for path in files}
        assert came >= {path.name for path in (layout / "blobs/sha256").iterdir()}
        found = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"{place}:v1"))
        assert found["Digest"] == before["digest"] and found["RepoTags"] == ["v1"]

    def test_between_repositories_and_away(
        self, shared_registry: Running, layout: Path, name: str
    ) -> None:
        base = f"docker://127.0.0.1:{shared_registry.port}/{name}"
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:multi", f"{base}:v1")
        run("skopeo", "copy", *flags, f"{base}:v1", f"{base}-copy:v2")
        # Docker's media types, compressed anew with zstd and gzip.
        for kind, more in (("v2s2", "gzip"), ("oci", "zstd")):
            run("skopeo", "copy", *flags, "--format", kind, "--dest-compress",
                "--dest-compress-format", more, f"{base}:v1", f"{base}:{kind}")  # fmt: skip
        tags = json.loads(run("skopeo", "list-tags", "--tls-verify=false", base))["Tags"]
        assert tags == ["oci", "v1", "v2s2"]
        run("skopeo", "delete", "--tls-verify=false", f"{base}:v2s2")
        assert shared_registry.client("GET", f"/v2/{name}/tags/list").json["tags"] == ["oci", "v1"]

    def test_with_a_password(self, layout: Path, tmp_path: Path) -> None:
        (tmp_path / "users").write_text(crypt_line("alice", "wonder"))
        (tmp_path / "rights").write_text("open/* * pull\n** alice pull,push\n")
        flags = (f"--htpasswd={tmp_path}/users", f"--rights={tmp_path}/rights")
        for extra in ((), ("--basic",)):
            with registry(tmp_path / "root", *flags, *extra) as running:
                host = f"127.0.0.1:{running.port}"
                auth = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
                run(
                    "skopeo",
                    "login",
                    "--tls-verify=false",
                    "-u",
                    "alice",
                    "-p",
                    "wonder",
                    host,
                    **auth,
                )
                place = f"docker://{host}/open/image:v1"
                run(
                    "skopeo",
                    "copy",
                    "--dest-tls-verify=false",
                    f"oci:{layout}:multi",
                    place,
                    **auth,
                )
                run("skopeo", "logout", host, **auth)
                if not extra:
                    run("skopeo", "inspect", "--tls-verify=false", "--no-tags", place, **auth)
                with pytest.raises(AssertionError, match="(?i)unauthorized|denied|authentication"):
                    run(
                        "skopeo",
                        "copy",
                        "--dest-tls-verify=false",
                        f"oci:{layout}:multi",
                        place,
                        **auth,
                    )
                assert (
                    Client(running.port, basic=basic("alice", "wonder"))("GET", "/v2/").status
                    == 200
                )


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A podman or buildah with a storage of its own."""
    # podman takes no runroot of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="wherry-", dir="/var/tmp") as runroot:
        folders = ("--root", str(tmp_path / "storage"), "--runroot", runroot)
        yield lambda program, *words: run(program, *folders, "--storage-driver", "vfs", *words)


@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_podman_and_buildah(
    shared_registry: Running, layout: Path, storage: Callable[..., str], name: str, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    place = f"127.0.0.1:{shared_registry.port}/{name}"
    client = shared_registry.client
    if SKOPEO is None:
        pytest.skip("skopeo is not installed")
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:multi", f"docker://{place}:v1")
    storage(program, "pull", "--tls-verify=false", f"{place}:v1")
    storage(program, "push", "--tls-verify=false", f"{place}:v1", f"docker://{place}:v2")
    configs = [
        client("GET", f"/v2/{name}/manifests/{tag}").json["config"]["digest"]
        for tag in ("v1", "v2")
    ]
    assert configs[0] == configs[1]
