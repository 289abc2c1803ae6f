"""Detach keys: `ctrl-p,ctrl-q` as bytes, and finding them in what a terminal's user types."""

from __future__ import annotations

from wherry.model.errors import Invalid

_NAMED = {"DEL": 127, "del": 127}


def parse_keys(text: str) -> bytes:
    """Return the byte sequence that `text` writes; raise Invalid with Docker's words.

    A comma-separated list of single ASCII characters and `ctrl-X`, X one of a–z @ [ \\\\ ] ^ _.
    Source: docker attach, --detach-keys. An empty text gives no keys.
    """
    if not text:
        return b""
    keys = bytearray()
    for word in text.split(","):
        control = word.removeprefix("ctrl-")
        if len(word) == 1 and word.isascii():
            keys.append(ord(word))
        elif (
            control != word and len(control) == 1 and control in "abcdefghijklmnopqrstuvwxyz@[\\]^_"
        ):
            keys.append(ord(control.upper()) - ord("@"))
        elif word in _NAMED:
            keys.append(_NAMED[word])
        else:
            raise Invalid(f"Invalid escape keys ({text}) provided", hint=f"unknown key: {word!r}")
    return bytes(keys)


class DetachScanner:
    """Looks for `keys` in a stream; what may be their beginning is held back until it is decided."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is to be passed on, and whether the keys were typed (the rest is dropped)."""
        if not self._keys or (not self._matched and self._keys[0] not in data):
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._matched]:
                self._matched += 1
                if self._matched == len(self._keys):
                    self._matched = 0
                    return bytes(out), True
                continue
            out += self._keys[: self._matched]
            self._matched = 0
            if byte == self._keys[0]:
                self._matched = 1
            else:
                out.append(byte)
        return bytes(out), False
