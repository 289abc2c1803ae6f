"""What a command works with: the engine, the three streams, how it was called."""

from __future__ import annotations

import os
import sys

from wherry.cli.configuration import Configuration, find_folder
from wherry.cli.endpoint import find_address
from wherry.cli.style import Style, wanted
from wherry.client.engine import Engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.options import Options


class Session:
    """One invocation. `path` is the command's words, `run` or `container ls`."""

    def __init__(self, options: Options, path: str = "") -> None:
        self.options = options
        self.path = path
        self.configuration = Configuration(find_folder(options.text("config")))
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine at the host that was asked for; started when that is allowed and needed."""
        if self._engine is None:
            self._engine = self.another_engine()
        return self._engine

    def another_engine(self) -> Engine:
        """Return a second engine object at the same place, with connections of its own."""
        address, explicit = find_address(self.options)
        headers = self.configuration.headers()
        if explicit or self.no_start or os.geteuid() != 0:
            return Engine(address, headers=headers)
        return Engine(address, headers=headers, on_refused=self._start_daemon)

    def listing_form(self, options: Options, setting: str) -> str:
        """Return `--format` of a listing, or what the configuration has for it as `setting`."""
        return options.text("format") or (
            "" if options.on("quiet") else self.configuration.text(setting)
        )

    def detach_keys(self, options: Options) -> str:
        """Return `--detach-keys`, or what the configuration has for it."""
        return options.text("detach-keys") or self.configuration.text("detachKeys")

    @property
    def no_start(self) -> bool:
        """Whether the daemon may not be started from here."""
        return self.options.on("no-start") or os.environ.get("WHERRY_NO_START", "") not in ("", "0")

    def _start_daemon(self) -> None:
        from wherry.cli.daemon import start_daemon

        start_daemon(find_address(self.options)[0])

    @property
    def debug(self) -> bool:
        """Whether errors come with their traceback."""
        return self.options.on("debug")

    def write(self, text: str) -> None:
        """Write text to standard output."""
        sys.stdout.write(text)

    def line(self, text: str) -> None:
        """Write a line to standard output."""
        sys.stdout.write(text + "\n")

    def error(self, text: str) -> None:
        """Write a line to standard error, after what standard output holds."""
        sys.stdout.flush()
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    def style(self, descriptor: int = 1) -> Style:
        """Return the painter for what goes to `descriptor`."""
        return Style(wanted(descriptor))

    def confirm(self, warning: str) -> bool:
        """Ask on the terminal; only y or yes agrees."""
        sys.stdout.write(f"{warning} [y/N] ")
        sys.stdout.flush()
        answer = sys.stdin.readline().strip().lower()
        return answer in ("y", "yes")
