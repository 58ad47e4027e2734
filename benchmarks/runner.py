"""Plays a plan: every round asks all peers in turn, so that whatever the machine does meanwhile meets all of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from time import sleep

from benchmarks.cases.quiet import IdleWatch
from benchmarks.cases.setting import Outcome
from benchmarks.environments import Environments
from benchmarks.plan import CASES, IDLE, Planned
from benchmarks.registry import Peer
from benchmarks.rows import Row
from benchmarks.trial import Trial


class Runner:
    """Plays plans with these peers. ``store`` is a folder for what can be kept between trials."""

    def __init__(self, peers: list[Peer], environments: Environments, store: Path) -> None:
        self.peers = peers
        self._environments = environments
        self._store = store

    def play(self, plan: list[Planned]) -> Iterator[Row]:
        """The rows, as they come."""
        for planned in plan:
            for place in range(1, planned.rounds + 1):
                if planned.case == IDLE:
                    yield from self._together(planned, place)
                else:
                    yield from (self._alone(planned, peer, place) for peer in self.peers)

    def _trial(self, planned: Planned, peer: Peer) -> Trial:
        return Trial(peer, self._environments, self._store, planned.setting.queues)

    def _alone(self, planned: Planned, peer: Peer, place: int) -> Row:
        note = _why_not(peer, planned)
        if note is not None:
            return Row(planned.case, planned.variant, peer.name, place, note=note)

        def measured() -> Outcome:
            with closing(self._trial(planned, peer)) as trial:
                return CASES[planned.case](trial, planned.setting)

        return _row(planned, peer, place, measured)

    def _together(self, planned: Planned, place: int) -> Iterator[Row]:
        with ExitStack() as stack:
            watches: list[tuple[Peer, IdleWatch]] = []
            for peer in self.peers:
                watch = IdleWatch(stack.enter_context(closing(self._trial(planned, peer))), planned.setting)
                broken = _row(planned, peer, place, watch.begin)
                if broken.error:
                    yield broken
                else:
                    watches.append((peer, watch))
            sleep(planned.setting.seconds)
            rows = [_row(planned, peer, place, watch.finish) for peer, watch in watches]
        yield from rows


def _why_not(peer: Peer, planned: Planned) -> str | None:
    return planned.without.get(peer.name) or peer.lacks.get(planned.case)


def _row(planned: Planned, peer: Peer, place: int, measured: Callable[[], Outcome | None]) -> Row:
    """A trial's row. Whatever goes wrong is the row's error: one peer's failure must not end the run of the others."""
    about = (planned.case, planned.variant, peer.name, place)
    load = os.getloadavg()[0]
    try:
        outcome = measured() or Outcome()
    except Exception as exc:  # noqa: BLE001 - see above
        print(f"{', '.join(map(str, about))}: {exc!r}", file=sys.stderr, flush=True)
        return Row(*about, error=f"{type(exc).__name__}: {exc}", load=load)
    return Row(*about, measures=outcome.measures, cut_off=outcome.cut_off, load=load)
