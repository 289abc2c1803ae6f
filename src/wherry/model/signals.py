"""Signal names and numbers as Docker takes them: TERM, SIGTERM, 15, RTMIN+3. signal(7)."""

from __future__ import annotations

import signal

from wherry.model.errors import Invalid
from wherry.model.literals import parse_number

# glibc keeps 32 and 33 for itself: RTMIN is 34 for everyone who calls it by name.
_RTMIN, _RTMAX = 34, 64
_MOST = (1 << 31) - 1
_NAMES = {item.name: int(item) for item in signal.Signals} | {
    "SIGCLD": int(signal.SIGCHLD),
    "SIGSTKFLT": 16,
    "SIGUNUSED": 31,
}


def parse_signal(text: str) -> int:
    """Return the number that `text` names. Raises Invalid, in Docker's words."""
    upper = text.upper()
    if number := parse_number(upper, _MOST):
        return number
    name = upper if upper.startswith("SIG") else f"SIG{upper}"
    if name in _NAMES:
        return _NAMES[name]
    for base, start in (("SIGRTMIN+", _RTMIN), ("SIGRTMAX-", -_RTMAX)):
        offset = name.removeprefix(base)
        count = parse_number(offset, _RTMAX) if offset != name else None
        if count is not None:
            number = abs(start + count)
            if _RTMIN <= number <= _RTMAX:
                return number
    raise Invalid(f"invalid signal: {text}")


def check_known(number: int) -> int:
    """Return `number` where Linux has such a signal; raise Invalid otherwise."""
    if not 1 <= number <= _RTMAX:
        raise Invalid(f"the linux daemon does not support signal {number}")
    return number
