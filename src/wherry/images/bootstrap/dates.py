"""When a suite was last published: the same state of a mirror then gives the same image."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping

from wherry.images.bootstrap.sources import Source
from wherry.model.urls import is_web

_DATE = re.compile(rb"^Date: (.+)$", re.MULTILINE)
_ENOUGH = 16 << 10  # the Date field comes before the lists of hashes
_SECONDS = 10.0
_DAY = 86400


def read_release_date(source: Source, proxies: Mapping[str, str]) -> int:
    """Return the seconds at which the suite's release file was made; today's midnight where it cannot be read.

    `proxies` are apt's, by scheme; without any the environment's hold. Bounded to 10
    seconds. Source: Debian repository format, InRelease, Date.
    """
    today = int(time.time()) // _DAY * _DAY
    if not is_web(source.uri):
        return today
    # Here, since these load ssl, http.client and email: megabytes that an idle daemon can do without.
    import urllib.request
    from email.utils import parsedate_to_datetime

    url = f"{source.uri.rstrip('/')}/dists/{source.suite}/InRelease"
    try:
        through = urllib.request.ProxyHandler(dict(proxies) or None)  # None: of the environment
        opener = urllib.request.build_opener(through)
        with opener.open(url, timeout=_SECONDS) as answer:
            match = _DATE.search(answer.read(_ENOUGH))
        return int(parsedate_to_datetime(match[1].decode()).timestamp()) if match else today
    except (OSError, ValueError):
        # mmdebstrap meets the same problem and says what it is.
        return today
