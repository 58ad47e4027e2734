"""``python -m pyqs_celery.local``: the embedded SQS without the command line's other dependencies."""

from __future__ import annotations

import argparse

from pyqs_celery.local.serve import check_host, serve


def main() -> None:
    """Parse ``--host``, ``--port`` and ``--data``, and serve."""
    parser = argparse.ArgumentParser(prog="python -m pyqs_celery.local", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--data", help="a SQLite file that keeps everything over restarts")
    arguments = parser.parse_args()
    check_host(arguments.host, allow_remote=False)
    serve(
        arguments.host,
        arguments.port,
        data=arguments.data,
        on_ready=lambda endpoint: print(f"Embedded SQS on {endpoint}", flush=True),  # noqa: T201 - how the caller learns the port
    )


if __name__ == "__main__":
    main()
