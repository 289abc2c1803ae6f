"""The caller's terminal: raw mode and back, its size, the keys that detach."""

from __future__ import annotations

import os
import termios

from wherry.cli.failure import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEFAULT_KEYS = b"\x10\x11"
_SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class RawMode:
    """Raw mode of a terminal for the length of a `with` block; nothing for what is no terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._saved: list[Any] | None = None

    def __enter__(self) -> RawMode:
        try:
            saved = termios.tcgetattr(self._descriptor)
        except termios.error:
            return self
        self._saved = saved
        iflag, oflag, cflag, lflag, ispeed, ospeed, characters = saved
        # cfmakeraw(3).
        iflag &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        oflag &= ~termios.OPOST
        lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        cflag = cflag & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        characters = list(characters)
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        raw = [iflag, oflag, cflag, lflag, ispeed, ospeed, characters]
        termios.tcsetattr(self._descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            termios.tcsetattr(self._descriptor, termios.TCSANOW, self._saved)
            self._saved = None


def size(descriptor: int = 1) -> tuple[int, int]:
    """Return (rows, columns) of the terminal at `descriptor`, or (0, 0)."""
    try:
        columns, rows = os.get_terminal_size(descriptor)
    except OSError:
        return 0, 0
    return rows, columns


def parse_keys(text: str) -> bytes:
    """Return the bytes of a detach sequence, `ctrl-p,ctrl-q`. Raises Failure."""
    out = bytearray()
    for key in text.split(","):
        if len(key) == 1 and key.isascii():
            out += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6:
            letter = key[5]
            if letter in _SPECIAL:
                out.append(_SPECIAL[letter])
            elif "a" <= letter.lower() <= "z":
                out.append(ord(letter.lower()) - ord("a") + 1)
            else:
                raise Failure(f"invalid detach keys ({text}): Unknown character: '{letter}'")
        else:
            raise Failure(f"invalid detach keys ({text}): Unknown character: '{key}'")
    return bytes(out)


class KeyWatch:
    """Looks for the detach sequence in what is typed; holds back the part that may begin it."""

    __slots__ = ("_held", "_keys", "found")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """Return what is to be passed on. After the sequence nothing is; `found` is then set."""
        if not self._keys or self.found:
            return b"" if self.found else data
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self.found = True
                    break
                continue
            out += self._keys[: self._held]
            self._held = 0
            if byte == self._keys[0]:
                self._held = 1
                if len(self._keys) == 1:
                    self.found = True
                    break
            else:
                out.append(byte)
        return bytes(out)
