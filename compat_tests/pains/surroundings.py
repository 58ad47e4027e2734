"""Rows about what is around a worker: probes, credentials, permissions, packages, endpoints."""

from __future__ import annotations

import ast
import json
import subprocess
import time
from importlib.metadata import Distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from compat_tests.pains.rows import Seen, row
from compat_tests.pains.servers import EcsAgent, RenamingProxy, TokenService, serving
from compat_tests.pains.stage import APP, Stage, within
from tests.support.embedded import ROOT
from tests.support.waiting import until


@row(
    9,
    "No way to tell a live worker from a dead one",
    "`inspect ping -d <node>` as in existing probes, beside a healthy worker: exit code, seconds, requests to SQS.",
    cured="answers",
    seconds=30,
)
def probe(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    stage.start("work")
    before = stage.sqs.requests()
    code, seconds, _ = stage.run("-A", APP, "inspect", "ping", "-d", stage.node(0))
    after = stage.sqs.requests()
    asked = {action: number - before.get(action, 0) for action, number in after.items() if action != "ReceiveMessage"}
    asked = {action: number for action, number in asked.items() if number}
    created = sorted(set(stage.sqs.ask("state")) - {"work"})
    facts = {"exit_code": code, "seconds": round(seconds, 1), "requests": asked, "queues_left": created}
    said = f"Exit code {code} after {seconds:.1f} s; requests to SQS: {_listed(asked)}."
    return Seen("answers" if code == 0 and not asked and not created else "does not answer", said, facts)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {action}" for action, number in sorted(counts.items())) or "none"


TOKEN_SECONDS = 5


@row(
    10,
    "Credentials expire or roles cannot be used",
    f"Two predefined queues with sts_role_arn; tokens live {TOKEN_SECONDS} s and are refused afterwards. A task to each "
    "queue every 2 s for 16 s.",
    cured="all run",
    seconds=45,
)
def roles(stage: Stage) -> Seen:
    sts = TokenService(TOKEN_SECONDS)
    names = ("first", "second")
    urls = {name: {"url": stage.sqs.create(name, VisibilityTimeout=300)} for name in names}
    bodies = {name: stage.written(name, "note", [[f"{name} {turn}"] for turn in range(8)]) for name in names}
    role = "arn:aws:iam::000000000000:role/pains"
    options = {"predefined_queues": urls, "sts_role_arn": role, "wait_time_seconds": 2}
    with serving(sts.answer) as address:
        variables = {"AWS_ENDPOINT_URL_STS": address, "AWS_ENDPOINT_URL_SQS": stage.sqs.endpoint}
        worker = stage.launch(*names, settings={"broker_transport_options": options}, variables=variables)
        stage.wait_ready(worker)
        for turn in range(8):
            for name in names:
                stage.put_at_once(name, bodies[name][turn : turn + 1])
            _refuse_expired(stage, sts, 2)
        within(lambda: sum(stage.runs().values()) == 16, 10)
    ran = len(stage.runs())
    facts = {"worker": worker.ending, "ran": ran, "roles_assumed": len(sts.given)}
    said = f"The worker {worker.ending}; {ran} of 16 tasks ran; {len(sts.given)} times AssumeRole."
    return Seen("all run" if worker.alive and ran == 16 else "not all run", said, facts)


@row(
    11,
    "pycurl: build failures, mismatch, missing at run time",
    "Which packages does the installation need, and which of them are compiled?",
    cured="none compiled",
    seconds=3,
)
def packages(stage: Stage) -> Seen:
    root, extras = ("pyqs-celery", []) if stage.is_ours else ("celery", ["sqs"])
    places = "import json, sys; print(json.dumps([p for p in sys.path if p]))"
    path = json.loads(subprocess.run([stage.side.python, "-c", places], capture_output=True, check=True).stdout)
    pure = _installation(root, extras, path)
    compiled = sorted(name for name, is_pure in pure.items() if not is_pure)
    said = f"{len(pure)} packages; compiled: {', '.join(compiled) or 'none'}."
    kind = "needs pycurl" if "pycurl" in compiled else f"{'none' if not compiled else 'some'} compiled"
    return Seen(kind, said, {"packages": len(pure), "compiled": compiled})


def _refuse_expired(stage: Stage, sts: TokenService, seconds: float) -> None:
    over = time.time() + seconds

    def refused() -> bool:
        stage.sqs.ask("config", expired_keys=sts.expired())
        return time.time() > over

    until(refused, "the time is over", seconds + 5)


def _installation(root: str, extras: list[str], path: list[str]) -> dict[str, bool]:
    """Every package that ``root`` needs, itself included, and whether its wheel is pure Python."""
    found: dict[str, bool] = {}
    asked: set[tuple[str, str]] = set()
    todo = [(root, extra) for extra in ["", *extras]]
    while todo:
        name, extra = todo.pop()
        if (canonicalize_name(name), extra) in asked:
            continue
        asked.add((canonicalize_name(name), extra))
        package = next(iter(Distribution.discover(name=name, path=path)))
        found[canonicalize_name(name)] = "Root-Is-Purelib: false" not in (package.read_text("WHEEL") or "")
        for need in map(Requirement, package.requires or []):
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(need.name, each) for each in ["", *need.extras]]
    return found


INSIDE_BOTOCORE = {
    f"botocore.{name}"
    for name in "awsrequest endpoint hooks httpsession model parsers response serialize signers".split()
}
PRIVATE_NAMES = """
import boto3, json
session = boto3.Session("k", "s", region_name="us-east-1")
client = session.client("sqs")
inside = [client, client.meta, client._request_signer, client._endpoint, session, session._session, session.get_credentials()]
print(json.dumps(sorted({n for one in inside for n in dir(one) if n.startswith("_") and not n.startswith("__")})))
"""


# Nobody but botocore and boto3 gets at these modules, as after a release that has changed them.
WITHHELD = """
import builtins
inside, real = %r, builtins.__import__
def given(name, globals=None, locals=None, fromlist=(), level=0):
    asking = str((globals or {}).get("__name__")).partition(".")[0]
    if name in inside and asking not in {"botocore", "boto3", "s3transfer"}:
        raise ImportError(f"{name} is no more")
    return real(name, globals, locals, fromlist, level)
builtins.__import__ = given
"""


@row(
    12,
    "An update of boto3 breaks the consumer",
    "The source is read: which private parts of botocore (underscore names of its objects, modules that are not documented) does "
    "it use? Then a worker starts for which these modules are no more, and finds one task.",
    cured="runs without",
    seconds=20,
)
def private_parts(stage: Stage) -> Seen:
    asked = subprocess.run([stage.side.python, "-c", PRIVATE_NAMES], capture_output=True, text=True, check=True)
    private = set(json.loads(asked.stdout))
    found: set[str] = set()
    for path in _sources(stage):
        text = path.read_text()
        if "boto" in text:
            found |= _used(ast.parse(text), private)
    stage.send("note", "work", "alone")
    (stage.folder / "sitecustomize.py").write_text(WITHHELD % sorted(INSIDE_BOTOCORE))
    worker = stage.launch("work", variables={"PYTHONPATH": f"{stage.folder}:{ROOT}"})
    until(lambda: not worker.alive or stage.runs(), "the worker has run the task, or has ended", 60)
    runs = sum(stage.runs().values())
    said = f"Uses: {', '.join(sorted(found)) or 'none'}. Without them the task {'runs' if runs else 'does not run'}."
    kind = "runs without" if runs == 1 and found <= INSIDE_BOTOCORE else "private parts"
    return Seen(kind, said, {"used": sorted(found), "runs": runs, "worker": worker.ending})


def _sources(stage: Stage) -> list[Path]:
    if stage.is_ours:
        return sorted((ROOT / "pyqs_celery").rglob("*.py"))
    code = "import kombu; print(kombu.__path__[0])"
    home = Path(
        subprocess.run([stage.side.python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    )
    return sorted([*(home / "transport" / "SQS").rglob("*.py"), *(home / "asynchronous" / "aws").rglob("*.py")])


def _used(tree: ast.Module, private: set[str]) -> set[str]:
    """Private names read from something that is not ``self``, and modules of botocore's inside."""
    found = set()
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in private - defined:
            if not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}):
                found.add(node.attr)
        elif isinstance(node, ast.ImportFrom) and str(node.module) in INSIDE_BOTOCORE:
            found.add(str(node.module))
    return found


@row(
    15,
    "Least privilege: ListQueues, CreateQueue and GetQueueAttributes are demanded",
    "The key may SendMessage, ReceiveMessage, DeleteMessage, ChangeMessageVisibility and GetQueueUrl on one queue that exists, "
    "nothing else. A worker, a producer, a task.",
    cured="works",
    seconds=25,
)
def least_privilege(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    allowed = ["SendMessage", "ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility", "GetQueueUrl"]
    stage.sqs.ask("config", policies={"test": [{"actions": allowed, "queues": ["work"]}]})
    worker = stage.launch("work")
    within(lambda: not worker.alive or stage.sqs.is_polled("work"), 30)
    try:
        stage.send("note", "work", "k")
        producer = "sends"
    except RuntimeError as exc:
        producer = f"raises {exc.args[0].partition('(')[0]}"
    within(lambda: stage.runs()["k"] or not worker.alive, 10)
    asked = {
        action: number for action, number in stage.sqs.requests().items() if action not in {*allowed, "CreateQueue"}
    }
    ran = bool(stage.runs()["k"])
    facts = {"worker": worker.ending, "producer": producer, "ran": ran, "other_actions": asked}
    said = f"The producer {producer}; the worker {worker.ending}; asked for besides: {_listed(asked)}."
    return Seen("works" if ran and worker.alive else "does not work", said, facts)


PROTECTED_SECONDS = 3


@row(
    30,
    "Scale-in and autoscaling kill busy workers",
    "ECS_AGENT_URI is set (and --ecs-task-protection here); a task of 3 s. Is the task protected from scale-in while it "
    "runs, and released afterwards? Then a worker with --exit-when-idle.",
    cured="protected, released, exits by itself",
    seconds=40,
)
def scale_in(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    agent = EcsAgent()
    with serving(agent.answer) as address:
        flags = ("--ecs-task-protection",) if stage.is_ours else ()
        worker = stage.start("work", arguments=flags, variables={"ECS_AGENT_URI": address})
        idle_calls = len(agent.calls)
        stage.send("work", "work", "k", PROTECTED_SECONDS)
        until(lambda: stage.runs()["k"], "the task starts")
        began = stage.first("run", "k")
        protected = within(lambda: any(enabled for _, enabled in agent.calls), PROTECTED_SECONDS)
        until(lambda: stage.runs("end")["k"], "the task ends")
        released = within(lambda: agent.calls and not agent.calls[-1][1], 10)
        worker.process.terminate()
        worker.process.wait(30)
    leaver = stage.launch("work", arguments=("--exit-when-idle", "2"))
    within(lambda: not leaver.alive, 30)
    in_flight = stage.state("work")["inflight"]
    facts = {
        "protected_seconds_after_start": None if protected is None else round(agent.calls[0][0] - began, 2),
        "released_seconds_after_end": None if released is None else round(released, 1),
        "calls_while_idle": idle_calls,
        "leaver": leaver.ending,
        "in_flight": in_flight,
    }
    if protected is None:
        option = "no such option" if leaver.process.returncode == 2 else leaver.ending
        return Seen("not protected", f"No call to the agent; --exit-when-idle: {option}.", facts)
    said = (
        f"Protected {max(agent.calls[0][0] - began, 0):.1f} s after the start, released {released or 0:.1f} s after the end; "
        f"--exit-when-idle 2 {leaver.ending} with {in_flight} in flight."
    )
    good = released is not None and leaver.process.returncode == 0 and idle_calls == 0
    return Seen("protected, released, exits by itself" if good else "otherwise", said, facts)


FORKS = """
import os, sys, threading
from {app} import app
failed = 0
def send(name):
    global failed
    for number in range(10):
        try:
            app.send_task("pains.note", [[name, number]], queue="work")
        except Exception as exc:
            failed += 1
            print(repr(exc), file=sys.stderr)
send("parent")
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        threads = [threading.Thread(target=send, args=(f"{{child}}-{{number}}",)) for number in range(4)]
        [t.start() for t in threads]; [t.join() for t in threads]
        os._exit(min(failed, 100))
    children.append(pid)
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
print(failed + sum(codes))
"""


@row(
    32,
    "Fork and threads share AWS clients",
    "A process that has sent calls os.fork() 4 times; each child sends from 4 threads, 10 messages a thread. Looked at for 20 s.",
    cured="all sent",
    seconds=12,
)
def forks(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    sender = stage.script(FORKS.format(app=APP))
    hung = within(lambda: not sender.alive, 20) is None
    sender.kill()
    sent = stage.sqs.left("work")
    failed = None if hung else int(sender.out)
    facts = {"hung": hung, "failed": failed, "sent": sent, "errors": sender.err[-300:]}
    said = f"{sent} of 170 arrived; {'the children hang' if hung else f'{failed} errors'}."
    return Seen("all sent" if (failed, sent) == (0, 170) else "not all sent", said, facts)


@row(
    36,
    "Endpoints: emulators and private networks",
    "broker_url is sqs:// and AWS_ENDPOINT_URL_SQS names an endpoint whose queue URLs have a host that cannot be reached.",
    cured="works",
    seconds=20,
)
def endpoints(stage: Stage) -> Seen:
    stage.sqs.create("work", VisibilityTimeout=300)
    proxy = RenamingProxy(stage.sqs.endpoint)
    with serving(proxy.answer) as address:
        worker = stage.launch("work", variables={"AWS_ENDPOINT_URL_SQS": address, "PAINS_BROKER": "sqs://"})
        within(lambda: not worker.alive or stage.sqs.is_polled("work"), 20)
        stage.send("note", "work", "k")
        within(lambda: stage.runs()["k"] and not stage.sqs.left("work"), 10)
        ran, left, ending = stage.runs()["k"], stage.sqs.left("work"), worker.ending
        worker.kill()
    facts = {"worker": ending, "runs": ran, "left": left}
    said = f"The worker {ending}; the task ran {ran} times; {left} left."
    return Seen("works" if (ran, left) == (1, 0) else "does not work", said, facts)
