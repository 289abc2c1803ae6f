"""Signal names and numbers as Docker takes them: TERM, SIGTERM, 15, RTMIN+3. signal(7)."""

from __future__ import annotations

import signal

from wherry.model.errors import Invalid

# glibc keeps 32 and 33 for itself: RTMIN is 34 for everyone who calls it by name.
_RTMIN, _RTMAX = 34, 64
_NAMES = {item.name: int(item) for item in signal.Signals} | {
    "SIGCLD": int(signal.SIGCHLD),
    "SIGSTKFLT": 16,
    "SIGUNUSED": 31,
}


def parse_signal(text: str) -> int:
    """Return the number that `text` names. Raises Invalid, in Docker's words."""
    upper = text.upper()
    if upper.isascii() and upper.isdecimal():
        number = int(upper)
        if number == 0:
            raise Invalid(f"invalid signal: {text}")
        return number
    name = upper if upper.startswith("SIG") else f"SIG{upper}"
    if name in _NAMES:
        return _NAMES[name]
    for base, start in (("SIGRTMIN+", _RTMIN), ("SIGRTMAX-", -_RTMAX)):
        offset = name.removeprefix(base)
        if offset != name and offset.isdecimal():
            number = abs(start + int(offset))
            if _RTMIN <= number <= _RTMAX:
                return number
    raise Invalid(f"invalid signal: {text}")


def check_known(number: int) -> int:
    """Return `number` where Linux has such a signal; raise Invalid otherwise."""
    if not 1 <= number <= _RTMAX:
        raise Invalid(f"the linux daemon does not support signal {number}")
    return number
