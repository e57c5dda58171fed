"""The memory of a working process: its C heap is kept in few arenas, so that it does not creep.

By default glibc gives up to eight arenas a core to the threads of a process, and each keeps what it
has freed. In a process that runs a night every day, resident memory then grew for weeks.
"""

import ctypes

M_ARENA_MAX = -8  # of mallopt(3), in malloc.h of glibc
ARENAS = 2  # one for the threads that read and write, and one for the rest


def limit_arenas() -> bool:
    """Limit the arenas of glibc's malloc.

    Returns:
        Whether that was done: other C libraries have no arenas, or manage them themselves.

    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(M_ARENA_MAX, ARENAS))
