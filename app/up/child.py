"""Prepare this process for what it is about to become, then exec it. A script of its own: stdlib only, run by path.

    python -I -S child.py PARENT_PID ORPHAN_SIGNAL USER COMMAND [ARGUMENT …]        USER is UID:GID, or - for no change

Two things have to be said by the child itself, before exec:
1. "Signal me when my parent dies" (Linux only; elsewhere the next `up` clears what a killed one left behind).
2. "I am not root." PostgreSQL refuses effective uid 0, yet a clone under a 0700 directory of root is closed to every
   other user. So the uid changes and one capability stays: CAP_DAC_OVERRIDE, which reads and searches past permission
   bits. As an *ambient* capability it survives exec and fork. The secure bit makes access(2) honour it too, which
   PostgreSQL asks about its own binaries (else the kernel answers as if nobody but root had capabilities).

It is a program and not a `preexec_fn` because running Python between fork and exec is unsafe once there are threads.
"""

import os
import sys
from ctypes import CDLL, byref, c_uint32, c_ulong, get_errno

PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522

EXIT_NEVER_BETTER = 2
"""The supervisor does not try again after this code at the first start: the reason stays until a person removes it."""


def main(argv: list[str]) -> None:
    parent_pid, orphan_signal, user, *command = argv
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        become(uid, gid)
    # Last, because the kernel forgets the death signal when the uid changes.
    if sys.platform == "linux":
        prctl(PR_SET_PDEATHSIG, int(orphan_signal))
        if os.getppid() != int(parent_pid):  # it died before we could ask
            sys.exit(1)
    try:
        os.execv(command[0], command)
    except OSError as exc:
        sys.stderr.write(f"{command[0]} can't be started: {exc.strerror}\n")
        sys.exit(EXIT_NEVER_BETTER)


def become(uid: int, gid: int) -> None:
    """Change to `uid`, keeping the right to pass closed directories; exit with a sentence where that isn't allowed."""
    try:
        if sys.platform == "linux":
            prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
        if sys.platform == "linux":
            keep_only(CAP_DAC_OVERRIDE)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)
    except OSError as exc:
        sys.stderr.write(
            f"The embedded PostgreSQL refuses to run as root, and root may not become uid {uid} here "
            f"({exc.strerror}). Run `levelhead up` as an ordinary user, or set LEVELHEAD_DATABASE_URL to a "
            "PostgreSQL of your own.\n"
        )
        sys.exit(EXIT_NEVER_BETTER)


def keep_only(capability: int) -> None:
    """Make `capability` the one permitted, effective and inheritable capability of this thread."""
    bit = 1 << capability
    header = (c_uint32 * 2)(LINUX_CAPABILITY_VERSION_3, 0)
    data = (c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; then the upper 32 of each
    check(libc().capset(byref(header), byref(data)))


def prctl(option: int, *arguments: int) -> None:
    words = [c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)][:4]
    check(libc().prctl(option, *words))


def libc() -> CDLL:
    return CDLL(None, use_errno=True)


def check(result: int) -> None:
    if result != 0:
        errno = get_errno()
        raise OSError(errno, os.strerror(errno))


if __name__ == "__main__":
    main(sys.argv[1:])
