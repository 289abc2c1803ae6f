"""`wherry image bootstrap`: a base image from the distribution's own packages."""

from __future__ import annotations

from wherry.cli.flags import Command, Flag, Options
from wherry.cli.progress import show
from wherry.cli.session import Session


def _bootstrap(session: Session, options: Options, arguments: list[str]) -> int:
    query = {"name": arguments[0]}
    for name in ("variant", "mirror", "include", "components", "keyring"):
        if options.text(name):
            query[name] = options.text(name)
    messages = session.engine.events("POST", "/wherry/images/bootstrap", query)
    made = show(messages, descriptor=2, quiet=options.on("quiet"))
    for aux in made[-1:]:
        session.line(aux["ID"])
    return 0


BOOTSTRAP = Command(
    _bootstrap,
    "[OPTIONS] NAME[:TAG]",
    "Make a base image from the distribution's packages, without a registry",
    (
        Flag("quiet", "bool", "Suppress the progress output", short="q"),
        Flag("variant", "string", "Set of packages (minbase, buildd, ...), where NAME has several"),
        Flag("mirror", "string", "Package mirror instead of the one configured on the machine"),
        Flag("include", "string", "More packages, separated by commas"),
        Flag("components", "string", "Components of the archive, as main,universe"),
        Flag("keyring", "string", "File of keys that sign the archive, on the engine's machine"),
    ),
    least=1,
    most=1,
    details="  wherry image bootstrap busybox\n  wherry image bootstrap debian:bookworm-slim\n"
    "  wherry image bootstrap --mirror http://mirror.example/ubuntu ubuntu:noble",
)
