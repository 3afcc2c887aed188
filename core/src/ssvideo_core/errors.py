"""The errors a user can cause, and the exit codes of every command.

Each message says what was found, what was expected, in which file, and what to do next.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_OK = 0
EXIT_BUG = 1  # an uncaught exception, with its traceback
EXIT_USER = 2  # an SSVideoError: one message, no traceback
EXIT_REQUEUE = 75  # interrupted; the scheduler should start the command again


class SSVideoError(Exception):
    """Base of all errors that are about the user's input, not about a bug."""


class DataError(SSVideoError):
    """A data set, list, split or feature folder is not what it should be."""


class DecodeError(DataError):
    """A video cannot be opened, or a wanted frame or sample cannot be decoded."""


class NoSoundError(DecodeError):
    """Sound is wanted of a video without a sound stream. The message contains "no sound"."""


class WeightsError(SSVideoError):
    """A weights file is absent, forbidden, damaged, or does not fit the network."""


class ProtocolError(SSVideoError):
    """An evaluation cannot be run as its protocol says."""


class ConfigError(SSVideoError):
    """A flag, a recipe or a configuration is wrong or contradicts another one."""


def exit_code(prog: str, action: Callable[[], int], *, resumes: bool = True) -> int:
    """Run a command; returns its exit code, 2 after a user's error and 75 after an interruption.

    resumes: whether the command, given again, goes on with what an interrupted one has done.
    What the system says of a path (a folder where a file is expected, no permission, too long a
    name) is a user's error too; an OSError about no path is a bug and passes.
    """
    try:
        return action()
    except SSVideoError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return EXIT_USER
    except OSError as error:
        if error.filename is None:
            raise
        print(f"{prog}: {error.filename}: {error.strerror}; give another path", file=sys.stderr)
        return EXIT_USER
    except KeyboardInterrupt:
        place = "goes on where it stopped" if resumes else "starts from the beginning"
        print(f"{prog}: interrupted; the same command {place}", file=sys.stderr)
        return EXIT_REQUEUE
