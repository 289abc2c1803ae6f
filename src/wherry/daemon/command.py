"""What `wherryd` is told on its command line: it reads its settings, then runs `serve` or `halt`."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence

from wherry import __version__
from wherry.daemon.arguments import STOP, parse_arguments, render_help
from wherry.daemon.config import Config, load_config
from wherry.model.errors import WherryError

_OOM_SCORE = -500
"""As Docker's unit gives its daemon."""


def run(argv: Sequence[str] | None = None) -> int:
    """Run the daemon, or stop one; return the exit code."""
    try:
        arguments = parse_arguments(sys.argv[1:] if argv is None else argv)
        if arguments.switch("help"):
            print(render_help())
            return 0
        if arguments.switch("version"):
            print(f"wherryd version {__version__}")
            return 0
        config = load_config(arguments)
        if arguments.switch("validate"):
            print("configuration OK")
            return 0
        if arguments.command == STOP:
            from wherry.daemon.halt import DEFAULT_TIMEOUT, halt

            halt(config, DEFAULT_TIMEOUT if arguments.timeout is None else arguments.timeout)
            return 0
        return _serve(config, list(sys.argv[1:] if argv is None else argv))
    except WherryError as error:
        print(f"wherryd: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve(config: Config, words: list[str]) -> int:
    from wherry.daemon.serve import run as serve
    from wherry.kernel.memory import limit_arenas
    from wherry.kernel.processes import lower_oom_score

    limit_arenas(2)
    lower_oom_score(_OOM_SCORE)
    # The usual 1,024 are for programs that call select(2); every client holds one.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    return serve(config, lambda: load_config(parse_arguments(words)))
