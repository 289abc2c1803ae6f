"""A registry that demands certificates: Docker's folders and hosts.toml, for pulls, pushes, and refusals."""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness.certificates import Certificates, make_certificates
from tests.harness.registry import DockerRegistry, make_image
from tests.registry.serving import registry
from tests.transfer.liar import Liar
from tests.transfer.stores import Stores
from wherry.model.errors import Invalid, Unavailable
from wherry.model.ids import Reference
from wherry.registry.dialling import Untrusted
from wherry.registry.endpoints import RegistrySettings
from wherry.tls.contexts import UnusableFiles, client_context, server_context

IMAGE = make_image([{"a": b"a"}, {"b": b"b"}])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def debians(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a docker-registry that only takes clients with a certificate by the authority."""
    with DockerRegistry(
        tmp_path_factory.mktemp("debians"),
        tls=certificates.server,
        client_authority=certificates.ca,
    ) as running:
        yield running.port


@pytest.fixture(scope="module")
def ours(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a registry of ours that does the same."""
    cert, key = certificates.server
    flags = (f"--tls-cert={cert}", f"--tls-key={key}", f"--tls-client-ca={certificates.ca}")
    with registry(tmp_path_factory.mktemp("ours"), *flags) as running:
        yield running.port


@pytest.fixture(params=["debians", "ours"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """The folder of the registry below `certs.d`."""
    made = tmp_path / "certs.d" / f"127.0.0.1:{request.getfixturevalue(request.param)}"
    made.mkdir(parents=True)
    return made


def as_docker(certificates: Certificates, folder: Path) -> None:
    """Lay the files down as docs.docker.com says: `*.crt`, and `*.cert` with `*.key`."""
    cert, key = certificates.client
    shutil.copy(certificates.ca, folder / "ca.crt")
    shutil.copy(cert, folder / "client.cert")
    shutil.copy(key, folder / "client.key")


def as_containerd(certificates: Certificates, folder: Path) -> None:
    """Lay them down with a hosts.toml: relative and absolute paths."""
    cert, key = certificates.client
    shutil.copy(certificates.ca, folder / "authority.pem")
    (folder / "hosts.toml").write_text(
        f'server = "https://{folder.name}"\nca = "authority.pem"\nclient = [["{cert}", "{key}"]]\n'
    )


def in_one_file(certificates: Certificates, folder: Path) -> None:
    """Certificate and key in one file, which containerd allows."""
    both = "".join(Path(path).read_text() for path in certificates.client)
    (folder / "both.pem").write_text(both)
    (folder / "hosts.toml").write_text(
        f'[host."https://{folder.name}"]\nca = "{certificates.ca}"\nclient = "both.pem"\n'
    )


@pytest.mark.parametrize("lay_down", [as_docker, as_containerd, in_one_file])
def test_a_certificate_is_shown(
    new_stores: Callable[[str], Stores],
    certificates: Certificates,
    folder: Path,
    lay_down: Callable[[Certificates, Path], None],
) -> None:
    lay_down(certificates, folder)
    stores = new_stores("data")
    stores.settings = RegistrySettings(folders=(folder.parent,))
    with Liar() as liar:
        liar.add(IMAGE, "1")
        image = stores.pull(f"{liar.host}/a:1").image
    name = f"{folder.name}/{lay_down.__name__}/a:1"
    stores.store.tag(image.id, Reference.parse(name))
    assert str(stores.push(name)) == IMAGE.digest
    other = new_stores("other")
    other.settings = stores.settings
    assert str(other.pull(name).digest) == IMAGE.digest


def test_without_a_certificate_the_server_s_refusal_is_named(
    stores: Stores, certificates: Certificates, folder: Path
) -> None:
    shutil.copy(certificates.ca, folder / "ca.crt")
    stores.settings = RegistrySettings(folders=(folder.parent,))
    with pytest.raises(Unavailable, match="tls: (certificate required|bad certificate)"):
        stores.pull(f"{folder.name}/a:1")


def test_a_certificate_by_somebody_else_is_refused(
    stores: Stores, certificates: Certificates, folder: Path, tmp_path: Path
) -> None:
    as_docker(make_certificates(tmp_path / "strangers"), folder)
    stores.settings = RegistrySettings(folders=(folder.parent,))
    with pytest.raises(Untrusted, match="failed to verify certificate"):
        stores.pull(f"{folder.name}/a:1")
    # The server is known now; it does not know the client.
    shutil.copy(certificates.ca, folder / "other.crt")
    with pytest.raises(Unavailable, match="tls: (unknown ca|bad certificate|decrypt error)"):
        stores.pull(f"{folder.name}/a:1")


def test_files_that_are_none_are_named(
    stores: Stores, certificates: Certificates, folder: Path
) -> None:
    stores.settings = RegistrySettings(folders=(folder.parent,))
    as_docker(certificates, folder)
    (folder / "ca.crt").write_text("nothing\n")
    with pytest.raises(Invalid, match=r"ca\.crt cannot be used for TLS"):
        stores.pull(f"{folder.name}/a:1")
    as_docker(certificates, folder)
    (folder / "client.key").write_text("nothing\n")
    with pytest.raises(Invalid, match=r"client\.cert, .*client\.key cannot be used for TLS"):
        stores.pull(f"{folder.name}/a:1")
    (folder / "client.key").unlink()
    # Docker's words.
    with pytest.raises(Invalid, match=r"missing key client\.key for client certificate client\.c"):
        stores.pull(f"{folder.name}/a:1")


def test_contexts(certificates: Certificates, tmp_path: Path) -> None:
    cert, key = certificates.server
    for context in (client_context(), server_context(cert, key), client_context(verify=False)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert server_context(cert, key).verify_mode == ssl.CERT_NONE
    assert server_context(cert, key, certificates.ca).verify_mode == ssl.CERT_REQUIRED
    only = client_context(authorities=(certificates.ca,), system=False)
    assert only.cert_store_stats()["x509"] == 1
    assert only.verify_mode == ssl.CERT_REQUIRED and only.check_hostname
    beside = client_context(authorities=(certificates.ca,))
    assert beside.cert_store_stats()["x509"] == client_context().cert_store_stats()["x509"] + 1
    encrypted = tmp_path / "locked.key"
    encrypted.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END")
    for wrong in ("missing", str(encrypted), "/", cert):
        with pytest.raises(UnusableFiles, match=f"{cert}, {wrong} cannot be used"):
            server_context(cert, wrong)
