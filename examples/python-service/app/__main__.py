"""`serve` answers on $PORT; `version` prints the version."""

import os
import sys
from http.server import ThreadingHTTPServer

from app.service import Handler, version

if sys.argv[1:] == ["version"]:
    print(version())
else:
    ThreadingHTTPServer(("", int(os.environ["PORT"])), Handler).serve_forever()
