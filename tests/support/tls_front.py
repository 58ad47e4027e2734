"""A front that ends TLS before a server: ``python -m tests.support.tls_front PORT CERTIFICATE KEY`` prints where it listens."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
from pathlib import Path

from tests.support.certificates import Identity
from tests.support.embedded import ROOT, EmbeddedSqs


class TlsFront:
    """The same SQS by https, in a process of its own; ``environment`` lets a client find and trust it, ``close`` ends it."""

    def __init__(self, sqs: EmbeddedSqs, folder: Path) -> None:
        identity = Identity(folder, "sqs", address="127.0.0.1")
        port = sqs.endpoint.rpartition(":")[2]
        self._process = subprocess.Popen(
            [sys.executable, "-u", "-m", __name__, port, str(identity.certificate), str(identity.key)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.endpoint = self._process.stdout.readline().strip()
        assert self.endpoint.startswith("https://"), "the front did not start"
        self.environment = {"AWS_ENDPOINT_URL_SQS": self.endpoint, "AWS_CA_BUNDLE": str(identity.certificate)}

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except OSError:
        return  # one side has gone, and the other is told so below
    finally:
        writer.close()


async def _serve(port: int, certificate: str, key: str) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(_pass_on(reader, to_server[1]), _pass_on(to_server[0], writer))

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, backlog=512)
    print(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *sys.argv[2:4]))
