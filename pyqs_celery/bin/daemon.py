"""What a daemon needs: a pid file that means something, another user, no terminal."""

from __future__ import annotations

import grp
import os
import pwd
import sys
from pathlib import Path

from pyqs_celery.bin.errors import PidfileHeld, UsageError


def take_pidfile(path: Path) -> None:
    """Write this process's id into ``path``. Raises PidfileHeld while another process that lives is named there."""
    while True:
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        except FileExistsError:
            _clear_if_stale(path)
        except OSError as exc:
            raise UsageError(f"--pidfile {path} cannot be written: {exc.strerror}") from exc
        else:
            with os.fdopen(descriptor, "w") as file:
                file.write(f"{os.getpid()}\n")
            return


def drop_pidfile(path: Path) -> None:
    """Remove ``path`` if it names this process."""
    if _owner(path) == os.getpid():
        path.unlink(missing_ok=True)


def _clear_if_stale(path: Path) -> None:
    owner = _owner(path)
    if owner is not None and owner != os.getpid() and _lives(owner):
        raise PidfileHeld(
            f"{path} is held by process {owner}, which is alive; stop that worker or name another --pidfile"
        )
    path.unlink(missing_ok=True)


def _owner(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii").strip())
    except (OSError, ValueError):
        return None


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def become(uid: str | None, gid: str | None, umask: str | None) -> None:
    """Change umask, group and user, in that order. Raises UsageError for names that do not exist or are not allowed."""
    if umask:
        try:
            os.umask(int(umask, 8))
        except ValueError:
            raise UsageError(f"--umask {umask}: not an octal number") from None
    user = _user(uid) if uid else None
    group = _group(gid) if gid else user.pw_gid if user else None
    try:
        if group is not None:
            os.setgid(group)
        if user is not None:
            os.initgroups(user.pw_name, user.pw_gid if group is None else group)
            os.setuid(user.pw_uid)
    except PermissionError as exc:
        raise UsageError(f"--uid/--gid: {exc.strerror}; only root may become somebody else") from exc


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise UsageError(f"--uid {name}: there is no such user") from None


def _group(name: str) -> int:
    try:
        return (grp.getgrgid(int(name)) if name.isdigit() else grp.getgrnam(name)).gr_gid
    except KeyError:
        raise UsageError(f"--gid {name}: there is no such group") from None


def detach(logfile: str | None) -> None:
    """Go on in the background without a terminal; the calling process ends with exit code 0.

    Standard output and error go to ``logfile`` if there is one, else nowhere.
    """
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    sys.stdout.flush()
    sys.stderr.flush()
    inlet = os.open(os.devnull, os.O_RDONLY)
    outlet = os.open(logfile or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for target, source in ((0, inlet), (1, outlet), (2, outlet)):
        os.dup2(source, target)


class Daemon:
    """Takes the background, the pid file and the user on the way in, and the pid file away on the way out."""

    def __init__(
        self,
        *,
        pidfile: str | None,
        detach: bool | None,
        logfile: str | None,
        uid: str | None,
        gid: str | None,
        umask: str | None,
    ) -> None:
        # Celery's --pidfile= with nothing behind it means none
        self.pidfile = Path(pidfile).absolute() if pidfile else None
        self.detach = detach
        self.logfile = logfile
        self.owner = (uid, gid, umask)

    def __enter__(self) -> None:
        if self.detach:
            detach(self.logfile)
        if self.pidfile is not None:
            take_pidfile(self.pidfile)
        become(*self.owner)

    def __exit__(self, *_: object) -> None:
        if self.pidfile is not None:
            drop_pidfile(self.pidfile)
