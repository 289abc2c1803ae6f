"""The process's own memory: how freed heap memory finds its way back. Source: mallopt(3), malloc_trim(3).

glibc gives threads arenas of their own and keeps what threads that are gone had freed: a daemon of
34 MB had 49 after a pull of ten layers, and has 36 with both of these (Python 3.11, two processors).
"""

from __future__ import annotations

import ctypes

_LIBC = ctypes.CDLL(None)
_M_ARENA_MAX = -8
_DONTNEED = 4  # MADV_DONTNEED, madvise(2)


def limit_arenas(count: int) -> None:
    """Have all threads share `count` heaps; to be called before there are threads. Nothing without glibc."""
    mallopt = getattr(_LIBC, "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, count)


def release_free_memory() -> None:
    """Give freed heap memory back to the kernel; nothing without glibc."""
    trim = getattr(_LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)


def release_program_pages() -> None:
    """Unmap the pages of program code that were touched so far; those that are needed come back.

    They stay in the page cache: what only the start needed counts no longer as resident, and the kernel may
    reclaim it. Each comes back by a minor fault, sixteen pages at once (a daemon has some 200 of those).
    """
    madvise = getattr(_LIBC, "madvise", None)
    if madvise is None:
        return
    with open("/proc/self/maps", encoding="ascii", errors="replace") as file:
        for line in file:
            fields = line.split(None, 5)
            # Code alone: what is readable only may hold relocations, which are nowhere else.
            if len(fields) == 6 and fields[1] == "r-xp" and fields[5].startswith("/"):
                start, _, end = fields[0].partition("-")
                length = int(end, 16) - int(start, 16)
                madvise(ctypes.c_void_p(int(start, 16)), ctypes.c_size_t(length), _DONTNEED)
