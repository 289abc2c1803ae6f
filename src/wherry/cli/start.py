"""The entry point: global flags, the verb's module, errors to words and exit codes."""

from __future__ import annotations

import os
import sys

from wherry.cli import tree
from wherry.cli.exits import INTERRUPTED, exit_code
from wherry.cli.failure import Failure, UsageError, WantsHelp
from wherry.cli.flags import Command, Flag, parse
from wherry.cli.session import Session
from wherry.client.faults import Unreachable
from wherry.model.errors import WherryError

GLOBAL_FLAGS: tuple[Flag, ...] = (
    Flag("config", "string", "Location of client config files", hidden=True),
    Flag("context", "string", "Name of the context to use (see 'wherry context')", short="c"),
    Flag("debug", "bool", "Show where an error comes from", short="D"),
    Flag("host", "string", "Engine to connect to (unix://, tcp://, ssh://)", short="H", many=True),
    Flag("log-level", "string", "Set the logging level", short="l", default="info"),
    Flag("no-start", "bool", "Do not start the engine when none is running"),
    Flag("tls", "bool", "Use TLS"),
    Flag("tlscacert", "string", "Trust certs signed only by this CA"),
    Flag("tlscert", "string", "Path to TLS certificate file"),
    Flag("tlskey", "string", "Path to TLS key file"),
    Flag("tlsverify", "bool", "Use TLS and verify the remote"),
    Flag("version", "bool", "Print version information and quit", short="v"),
)
_LEVELS = ("debug", "info", "warn", "error", "fatal")


def main() -> int:
    """Run the command of `sys.argv` and return its exit code."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has gone (`| head`): the interpreter's own flush must not complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if "coverage" in sys.modules:
        return code
    # Nothing is left to clean up, and the interpreter's own way out takes 2 ms.
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run a command line without the program's name and return its exit code."""
    session: Session | None = None
    try:
        options, words = parse(GLOBAL_FLAGS, arguments, interspersed=False)
        session = Session(options)
        _check_globals(session)
        return _dispatch(session, words)
    except WantsHelp:
        return _help(["help"])
    except UsageError as error:
        _say(f"{error.text}\n\nUsage:  wherry [OPTIONS] COMMAND [ARG...]\n")
        _say("\nRun 'wherry --help' for more information")
        return error.code
    except Failure as error:
        _say(error.text)
        return error.code
    except WherryError as error:
        if session is not None and session.debug:
            raise
        _say(describe(error))
        return exit_code(error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1


def describe(error: WherryError) -> str:
    """Return the error as Docker's client says it."""
    if isinstance(error, Unreachable):
        return str(error)
    return f"Error response from daemon: {error}"


def _say(text: str) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.write(text.rstrip("\n") + "\n" if not text.endswith("\n") else text)
        sys.stderr.flush()
    except BrokenPipeError:
        pass


def _check_globals(session: Session) -> None:
    options = session.options
    level = options.text("log-level")
    if level not in _LEVELS:
        raise Failure(f"Unable to parse logging level: {level}")


def _dispatch(session: Session, words: list[str]) -> int:
    if session.options.on("version"):
        from wherry import __version__

        session.line(f"wherry version {__version__}")
        return 0
    if not words or words[0] == "help":
        return _help(words)
    verb = words[0]
    if verb in tree.GROUPS:
        return _dispatch_group(session, verb, words[1:])
    entry = tree.top_entry(verb)
    if entry is None:
        raise Failure(_unknown(verb, verb, tree.top_verbs(), ""))
    return _execute(session, verb, tree.load(entry), words[1:])


def _dispatch_group(session: Session, group: str, words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h"):
        return _help(["help", group])
    if words[0].startswith("-"):
        _refuse_flags(group, words)
    entry = tree.entry_of(group, words[0])
    if entry is None:
        verbs = list(tree.GROUPS[group][1])
        raise Failure(_unknown(f"{group} {words[0]}", words[0], verbs, group))
    return _execute(session, f"{group} {words[0]}", tree.load(entry), words[1:])


def _refuse_flags(group: str, words: list[str]) -> None:
    try:
        parse((), words[:1], interspersed=False)
    except UsageError as error:
        raise _misused(error, group) from None


def _execute(session: Session, path: str, command: Command, arguments: list[str]) -> int:
    session.path = path
    try:
        options, positional = parse(command.flags, arguments, interspersed=command.interspersed)
    except WantsHelp:
        return _help_command(path, command)
    except UsageError as error:
        raise _misused(error, path, command.usage) from None
    command.check_arguments(path, len(positional))
    return command.run(session, options, positional)


def _misused(error: UsageError, path: str, usage: str = "") -> Failure:
    shown = f"Usage:  wherry {path} {usage}".rstrip()
    text = f"{error.text}\n\n{shown}\n\nRun 'wherry {path} --help' for more information"
    return Failure(text, error.code)


def _unknown(path: str, word: str, verbs: list[str], group: str) -> str:
    if word in tree.ABSENT:
        return f"wherry: '{path}' is not in this version of wherry"
    from wherry.cli.suggest import nearest

    lines = [f"wherry: unknown command: wherry {path}"]
    guess = nearest(word, verbs)
    if guess:
        lines.append(f"\nDid you mean 'wherry {f'{group} {guess}'.strip()}'?")
    if group:
        lines.append(f"\nUsage:  wherry {group}")
    lines.append(f"\nRun 'wherry {f'{group} --help'.strip()}' for more information")
    return "\n".join(lines)


def _help(words: list[str]) -> int:
    from wherry.cli import usage
    from wherry.cli.style import Style, wanted, width

    style, columns = Style(wanted(1)), min(width(1, 80), 110)
    rest = words[1:]
    if not rest:
        sys.stdout.write(usage.render_top(GLOBAL_FLAGS, style, columns))
        return 0
    if rest[0] in tree.GROUPS and len(rest) == 1:
        sys.stdout.write(usage.render_group(rest[0], style, columns))
        return 0
    grouped = rest[0] in tree.GROUPS
    entry = tree.entry_of(rest[0], rest[1]) if grouped else tree.top_entry(rest[0])
    if entry is None:
        raise Failure(_unknown(" ".join(rest), rest[-1], tree.top_verbs(), ""))
    return _help_command(" ".join(rest[: 2 if grouped else 1]), tree.load(entry))


def _help_command(path: str, command: Command) -> int:
    from wherry.cli import usage
    from wherry.cli.style import Style, wanted, width

    columns = min(width(1, 80), 110)
    sys.stdout.write(usage.render_command(path, command, Style(wanted(1)), columns))
    return 0
