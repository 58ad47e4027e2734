"""Servers that tests borrow: each a process of its own on a free port of this machine, ended by its id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.request import urlopen

from tests.support.waiting import until


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


class Server:
    """A program that listens on ``port``; ``close`` ends it and waits for its end."""

    def __init__(
        self, command: list[str], port: int, environment: dict[str, str] | None = None, user: str | None = None
    ) -> None:
        self.port = port
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the server
        self._process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            user=user,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            until(self._started, f"{command[0]} answers on port {port}", 60)
        except AssertionError as exc:
            log = self.log()
            self.close()
            raise AssertionError(f"{exc}\n{log}") from exc

    def log(self) -> str:
        self._log.seek(0)
        return self._log.read().decode(errors="replace")[-3000:]

    def _started(self) -> bool:
        assert self._process.poll() is None, f"the server has ended:\n{self.log()}"
        return self.answers()

    def answers(self) -> bool:
        """True once it can be used."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2):
                return True
        except OSError:
            return False

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._log.close()


class RedisServer(Server):
    """``redis-server`` that keeps nothing on disk; ``url(1)`` is its database 1."""

    def __init__(self, *options: str, port: int | None = None, first: tuple[str, ...] = ()) -> None:
        self.folder = tempfile.TemporaryDirectory()
        port = port or free_port()
        words = [
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--dir",
            self.folder.name,
        ]
        super().__init__(["redis-server", *first, *words, *options], port)

    def url(self, database: int = 0) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    def empty(self) -> str:
        """The URL of database 0, with nothing in any."""
        assert self.ask("FLUSHALL") == "+OK"
        return self.url()

    def ask(self, *words: str) -> str:
        """The first line of the answer to a command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(f"{' '.join(words)}\r\n".encode())
            return connection.makefile("r").readline().strip()

    def answers(self) -> bool:
        try:
            return self.ask("PING").startswith(("+PONG", "-NOAUTH"))
        except OSError:
            return False

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


class RedisSentinel(RedisServer):
    """A Sentinel that knows the server ``master`` as ``name`` and replaces it when it is gone for half a second."""

    def __init__(self, master: RedisServer, name: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".conf", delete=False) as settings:
            settings.write(
                f"sentinel monitor {name} 127.0.0.1 {master.port} 1\n"
                f"sentinel down-after-milliseconds {name} 500\n"
                f"sentinel failover-timeout {name} 5000\n"
            )
        self._settings = Path(settings.name)
        super().__init__(first=(str(self._settings), "--sentinel"))

    def close(self) -> None:
        super().close()
        self._settings.unlink()


class MotoServer(Server):
    """moto's server: DynamoDB, S3 and the rest of AWS in memory."""

    def __init__(self) -> None:
        port = free_port()
        super().__init__([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], port)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            with urlopen(f"{self.endpoint}/moto-api/", timeout=2):
                return True
        except OSError:
            return False


class PostgresServer(Server):
    """A cluster of PostgreSQL; ``create("name")`` makes an empty database in it and gives SQLAlchemy's URL."""

    def __init__(self) -> None:
        programs = self.programs()
        assert programs is not None, "PostgreSQL's server is not installed (apt-get install postgresql)"
        self._is_ready = [str(programs / "pg_isready"), "-h", "127.0.0.1"]
        # PostgreSQL refuses to run as root
        user = "postgres" if os.geteuid() == 0 else None
        self.folder = tempfile.TemporaryDirectory(prefix="pg-")
        data = Path(self.folder.name) / "data"
        data.mkdir()
        if user:
            Path(self.folder.name).chmod(0o755)
            shutil.chown(data, user, user)
        subprocess.run(
            [programs / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-N"],
            check=True,
            capture_output=True,
            cwd="/",
            user=user,
        )
        port = free_port()
        self._is_ready += ["-p", str(port)]
        words = ["-D", str(data), "-p", str(port), "-k", str(data), "-h", "127.0.0.1"]
        super().__init__([str(programs / "postgres"), *words, "-F", "-c", "max_connections=200"], port, user=user)

    @staticmethod
    def programs() -> Path | None:
        """Where its programs are; None if it is not installed."""
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        return found[-1].parent if found else None

    def answers(self) -> bool:
        return subprocess.run(self._is_ready, capture_output=True, check=False).returncode == 0

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"

    def create(self, database: str) -> str:
        import psycopg

        with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres", autocommit=True) as link:
            link.execute(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def close(self) -> None:
        if self._process.poll() is None:
            # its fast way to end: it does not wait for clients
            self._process.send_signal(signal.SIGINT)
            until(lambda: self._process.poll() is not None, "PostgreSQL ends", 60)
        super().close()
        self.folder.cleanup()


def sqlite_url(folder: Path) -> str:
    """Where a database of results is kept in this folder, as ``result_backend`` says it."""
    return f"db+sqlite:///{folder / 'results.sqlite'}"


class MemcachedServer(Server):
    """``memcached``; ``address`` is its host and port."""

    def __init__(self, *options: str) -> None:
        port = free_port()
        super().__init__(["memcached", "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-u", "nobody", *options], port)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def empty(self) -> str:
        """The address, with nothing there."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"flush_all\r\n")
            assert connection.recv(64) == b"OK\r\n"
        return self.address
