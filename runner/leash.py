"""Becomes the program given as arguments, and has the system end it when the runner dies.

`python leash.py RUNNER_PID PROGRAM ARGUMENT…`. Only Linux can do the second; elsewhere the next start cleans up.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Put the leash on and become the program."""
    runner, program, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(runner):
            sys.exit("The runner ended meanwhile.")
    os.execv(program, [program, *arguments])  # noqa: S606  # the runner's own argument list


main()
