"""Chains, groups, chords and what is made of them."""

from __future__ import annotations

from compat_tests.mixed.calls import failure_told
from compat_tests.mixed.table import ALL_STORES, behaviour, drawing, gives, raises

STORED = ALL_STORES[1:]
MEMBERS = ["root=member parent=None group=0 index=0", "root=member parent=None group=0 index=1"]
EVERYWHERE = {"stores": STORED, "kinds": ("plain", "pickle", "packed")}

# -- chains ------------------------------------------------------------------------------------------


@behaviour(gives(10, "add(add(add))"), **EVERYWHERE)
def chain(ask):
    return ask.lib.chain(ask.s("add", 1, 2), ask.s("add", 3), ask.s("add", 4)).apply_async()


@behaviour(gives(10, "add(add(add))", parents=[10, 6, 3]), stores=STORED)
def chain_of_bars(ask):
    result = (ask.s("add", 1, 2) | ask.s("add", 3) | ask.s("add", 4)).delay()
    yield result
    found = ask.outcome(result)
    parents, node = [], ask.fresh(result)
    while node is not None:
        parents.append(node.result)
        node = node.parent
    yield {**found, "parents": parents}


@behaviour(gives(5, "add(add(add))"))
def chain_with_an_immutable_step(ask):
    return (ask.s("add", 1, 2) | ask.si("add", 1, 1) | ask.s("add", 3)).delay()


@behaviour(
    raises("ValueError", "3 is wrong", tree="add(fail_if!)", states=["FAILURE", "FAILURE", "SUCCESS"]), stores=STORED
)
def chain_whose_step_fails(ask):
    result = (ask.s("add", 1, 2) | ask.s("fail_if", 3) | ask.s("add", 4)).delay()
    yield result
    found = ask.outcome(result)
    states, node = [], ask.fresh(result)
    while node is not None:
        states.append(node.state)
        node = node.parent
    yield {**found, "states": states}


@behaviour({"error": "ValueError", "args": ["3 is wrong"], "told": [1, 1], "of": "the second"})
def errback_of_a_chain(ask):
    steps = ask.s("add", 1, 2) | ask.s("fail_if", 3) | ask.s("add", 4)
    errbacks = [ask.s("told_id", token=ask.token), ask.s("told_failure", token=ask.token)]
    result = steps.apply_async(link_error=errbacks)
    yield result
    found = ask.get(result)
    told_id, told_failure = ask.told("told id"), ask.told("told failure")
    ids = {entry["id"] for entry in told_id + told_failure}
    told = [len(told_id), len(told_failure)]
    yield {**found, "told": told, "of": "the second" if ids == {result.parent.id} else sorted(ids)}


@behaviour(gives(13, "add(add)", seen=[13]))
def link_of_a_chain(ask):
    result = (ask.s("add", 1, 2) | ask.s("add", 10)).apply_async(link=ask.s("note", token=ask.token))
    yield result
    found = {**ask.get(result), "state": result.state}
    yield {**found, "tree": "add(add)", "seen": [entry["value"] for entry in ask.seen("note")]}


@behaviour(gives([[7, 1], 1], "add(flaky(flaky))"))
def chain_with_a_retried_step(ask):
    first = ask.s("flaky", times=1)
    return (ask.s("add", 3, 4) | first | ask.s("flaky", times=1)).delay()


@behaviour(gives(6, "add(add)"))
def chain_with_a_countdown(ask):
    second = ask.s("add", 3)
    second.set(countdown=1)
    return (ask.s("add", 1, 2) | second).delay()


@behaviour(
    gives(
        1,
        "see(see(see))",
        families={
            "first": ["root=first parent=None group=None index=None"],
            "second": ["root=first parent=first group=None index=None"],
            "third": ["root=first parent=second group=None index=None"],
        },
    )
)
def families_of_a_chain(ask):
    first = ask.s("see", 1, token=ask.token, step="first")
    result = (
        first | ask.s("see", token=ask.token, step="second") | ask.s("see", token=ask.token, step="third")
    ).delay()
    yield result
    yield {**ask.outcome(result), "families": ask.families(first=1, second=1, third=1)}


@behaviour({"value": 1, "first": {"tenant": "a"}, "second": None})
def headers_of_a_chain(ask):
    steps = ask.s("headers", 1, token=ask.token, step="first") | ask.s("headers", token=ask.token, step="second")
    result = steps.apply_async(headers={"tenant": "a"})
    yield result
    found = ask.get(result)
    yield {**found, **{step: (ask.seen(step) or [{}])[0].get("headers") for step in ("first", "second")}}


@behaviour({"collected": [3, 6, 10], "edges": 2, "children": 1})
def graph_and_collect_of_a_chain(ask):
    result = (ask.s("add", 1, 2) | ask.s("add", 3) | ask.s("add", 4)).delay()
    yield result
    ask.get(result)
    first = ask.top(ask.fresh(result))
    collected = [value for _, value in first.collect(timeout=ask.seconds())]
    edges = sum(len(arcs) for _, arcs in first.build_graph().items())
    yield {"collected": collected, "edges": edges, "children": len(first.children)}


@behaviour(gives(10, "add(add(add))", parents=2), stores=STORED)
def parents_kept_as_text(ask):
    result = (ask.s("add", 1, 2) | ask.s("add", 3) | ask.s("add", 4)).delay()
    yield result
    found = ask.outcome(result)
    again = ask.fresh(result)
    yield {**found, "parents": sum(1 for _ in _parents(again))}


def _parents(node):
    while node.parent is not None:
        node = node.parent
        yield node


# -- groups ------------------------------------------------------------------------------------------


@behaviour(gives([1, 3, 5], "[add, add, add]"), **EVERYWHERE)
def group(ask):
    return ask.lib.group(ask.s("add", n, n + 1) for n in range(3)).apply_async()


@behaviour(gives([3], "[add]"))
def group_of_one(ask):
    return ask.lib.group([ask.s("add", 1, 2)]).apply_async()


@behaviour({"value": [], "state": "SUCCESS"})
def group_of_none(ask):
    result = ask.lib.group([]).apply_async()
    yield result
    yield {**ask.get(result), "state": ask.state(result)}


@behaviour(gives([11, 12], "[add, add]"))
def group_with_arguments(ask):
    return ask.lib.group(ask.s("add", 1), ask.s("add", 2)).apply_async((10,))


@behaviour(gives([1, 3, 5, 7], "[add, add, add, add]"))
def group_of_groups(ask):
    inner = [ask.lib.group(ask.s("add", n, n + 1), ask.s("add", n + 1, n + 2)) for n in (0, 2)]
    return ask.lib.group(inner).apply_async()


@behaviour(gives([[0, 1], 2], "[add, add]"), name="group-with-countdown")
def group_with_countdown(ask):
    result = ask.lib.group(ask.s("echo", [0, 1]), ask.s("echo", 2)).apply_async(countdown=1)
    yield result
    yield {**ask.outcome(result), "tree": "[add, add]"}


REASON = {"error": "ChordError", "args": ["ValueError('1 is wrong')"]}


@behaviour(
    raises(
        "ValueError", "1 is wrong", tree="[fail_if, fail_if!, fail_if]", joined=[0, ["ValueError", "1 is wrong"], 2]
    ),
    stores=STORED,
)
def group_with_a_failing_member(ask):
    result = ask.lib.group(ask.s("fail_if", n, 1) for n in range(3)).apply_async()
    yield result
    found = ask.outcome(result)
    joined = result.join(timeout=ask.seconds(), propagate=False)
    yield {
        **found,
        "joined": [[type(each).__name__, *each.args] if isinstance(each, Exception) else each for each in joined],
    }


@behaviour(gives([1, 3], "[add, add]", restored=[1, 3], deleted=None), **EVERYWHERE)
def group_saved_and_restored(ask):
    result = ask.lib.group(ask.s("add", 0, 1), ask.s("add", 1, 2)).apply_async()
    result.save()
    other = ask.lib.group(ask.s("add", 0, 1)).apply_async()
    other.save()
    yield result
    found = ask.outcome(result)
    restored = ask.lib.result.GroupResult.restore(result.id, app=ask.app)
    other.delete()
    ask.hand_over(restore=result.id)
    gone = ask.lib.result.GroupResult.restore(other.id, app=ask.app)
    yield {**found, "restored": restored and restored.join(timeout=ask.seconds()), "deleted": gone}


@behaviour({"value": [1, 3], "completed": 2, "native": [1, 3], "ready": True, "successful": True, "failed": False})
def group_counted_and_joined(ask):
    result = ask.lib.group(ask.s("add", 0, 1), ask.s("add", 1, 2)).apply_async()
    yield result
    found = ask.get(result)
    yield {
        **found,
        "completed": result.completed_count(),
        "native": result.join_native(timeout=ask.seconds()),
        "ready": result.ready(),
        "successful": result.successful(),
        "failed": result.failed(),
    }


@behaviour({"value": [2, 4], "notes": [2, 4]})
def link_of_a_groups_members(ask):
    members = [ask.s("add", n, n) for n in (1, 2)]
    for member in members:
        member.link(ask.s("note", token=ask.token))
    result = ask.lib.group(members).apply_async()
    yield result
    yield {**ask.get(result), "notes": sorted(entry["value"] for entry in ask.seen("note", 2))}


@behaviour({"error": "KeyError", "args": ["k"], "told": 2})
def errback_of_a_group(ask):
    members = ask.lib.group(ask.s("fail", "key"), ask.s("fail", "key"))
    members.link_error(ask.s("told_failure", token=ask.token))
    result = members.apply_async()
    yield result
    yield {**ask.get(result), "told": len(ask.told("told failure", 2))}


@behaviour(
    gives(
        [0, 1],
        "[see, see]",
        families={"member": MEMBERS},
    )
)
def families_of_a_group(ask):
    result = ask.lib.group(ask.s("see", n, token=ask.token, step="member") for n in range(2)).apply_async()
    yield result
    yield {**ask.outcome(result), "families": ask.families(member=2)}


@behaviour(gives([4, 5, 13], "add([add, add, add])"), **EVERYWHERE)
def chain_into_a_group(ask):
    return (ask.s("add", 1, 2) | ask.lib.group(ask.s("add", 1), ask.s("add", 2), ask.s("add", 10))).delay()


@behaviour(gives([13, 14], "[add>add, add>add]"))
def group_of_chains(ask):
    return ask.lib.group(ask.s("add", n, 2) | ask.s("add", 10) for n in (1, 2)).apply_async()


# -- chords ------------------------------------------------------------------------------------------


@behaviour(gives(6, "[add, add, add]"), **EVERYWHERE)
def chord(ask):
    return ask.lib.chord([ask.s("add", n, n) for n in range(3)], ask.s("total")).apply_async()


@behaviour(gives([3, 5], "[add, add]"))
def chord_called(ask):
    return ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 2, 3)])(ask.s("echo"))


@behaviour(gives([1, 2, 3], "[late, echo, echo]"))
def chord_whose_first_member_is_last(ask):
    return ask.lib.chord([ask.s("late", 1), ask.s("echo", 2), ask.s("echo", 3)], ask.s("echo")).apply_async()


@behaviour(gives([1, 2], "[echo, late]"))
def chord_whose_second_member_is_last(ask):
    return ask.lib.chord([ask.s("echo", 1), ask.s("late", 2)], ask.s("echo")).apply_async()


@behaviour(gives(190, "[" + ", ".join(["echo"] * 20) + "]"), stores=("dynamodb",))
def chord_of_twenty(ask):
    return ask.lib.chord([ask.s("echo", n) for n in range(20)], ask.s("total")).apply_async()


@behaviour(gives([5], "[echo]"))
def chord_of_one(ask):
    return ask.lib.chord([ask.s("echo", 5)], ask.s("echo")).apply_async()


@behaviour(gives([], "[]"))
def chord_of_none(ask):
    return ask.lib.chord([], ask.s("echo")).apply_async()


@behaviour(gives(16, "[add, add]"))
def chord_body_with_keywords(ask):
    return ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 1, 2)], ask.s("total", more=10)).apply_async()


@behaviour(gives("alone", "[add, add]"), stores=STORED)
def chord_with_an_immutable_body(ask):
    return ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 1, 2)], ask.si("fixed", "alone")).apply_async()


DEPENDENCY = {"error": "ChordError", "args": ["Dependency <id> raised ValueError('1 is wrong')"]}

REASON = {"error": "ChordError", "args": ["ValueError('1 is wrong')"]}


@behaviour(
    raises("ValueError", "1 is wrong", tree="[fail_if, fail_if!, fail_if]", stored=DEPENDENCY, alone=DEPENDENCY),
    on_stores={store: {"stored": REASON, "alone": REASON} for store in STORED},
    **EVERYWHERE,
)
def chord_with_a_failing_member(ask):
    result = ask.lib.chord([ask.s("fail_if", n, 1) for n in range(3)], ask.s("total")).apply_async()
    yield result
    # A result that knows its header raises what the member raised; one of the id alone the chord's own error.
    alone = ask.get(ask.app.AsyncResult(result.id))
    yield {**ask.outcome(result), "stored": ask.fresh(result).result, "alone": alone}


@behaviour({"error": "ChordError", "told": ["the id", "ChordError", True], "told id": True}, stores=STORED)
def errback_of_a_chords_body(ask):
    body = ask.s("total")
    body.link_error(ask.s("told_failure", token=ask.token))
    body.link_error(ask.s("told_id", token=ask.token))
    result = ask.lib.chord([ask.s("fail_if", n, 1) for n in range(2)], body).apply_async()
    yield result
    found = ask.get(ask.app.AsyncResult(result.id))
    told = failure_told(ask, result)
    yield {
        "error": found.get("error"),
        "told": told and [*told[:2], "1 is wrong" in told[2]],
        "told id": [entry["id"] for entry in ask.told("told id")] == [result.id],
    }


@behaviour({"error": "ChordError", "told": 1})
def errback_of_a_chord(ask):
    sig = ask.lib.chord([ask.s("fail_if", n, 1) for n in range(2)], ask.s("total"))
    result = sig.on_error(ask.s("told_failure", token=ask.token)).apply_async()
    yield result
    yield {"error": ask.get(ask.app.AsyncResult(result.id)).get("error"), "told": len(ask.told("told failure"))}


@behaviour(raises("KeyError", "k", tree="[add, add]"))
def chord_whose_body_fails(ask):
    return ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 1, 2)], ask.si("fail", "key")).apply_async()


@behaviour(gives(26, "[add>add, add>add]"), stores=STORED)
def chord_with_chain_members(ask):
    members = [ask.s("add", n, 2) | ask.s("add", 10) for n in (1, 1)]
    return ask.lib.chord(members, ask.s("total")).apply_async()


@behaviour({"error": "ChordError", "args": ["Dependency <id> raised ValueError('3 is wrong')"], "state": "FAILURE"})
def chord_whose_chain_member_fails_early(ask):
    member = ask.s("add", 1, 2) | ask.s("fail_if", 3) | ask.s("add", 10)
    result = ask.lib.chord([member, ask.s("echo", 1)], ask.s("total")).apply_async()
    yield result
    yield {**ask.get(ask.app.AsyncResult(result.id)), "state": result.state}


@behaviour(gives([1, 3, 5], "[add, add, add]"))
def chord_with_a_group_member(ask):
    members = [ask.s("add", 0, 1), ask.lib.group(ask.s("add", 1, 2), ask.s("add", 2, 3))]
    result = ask.lib.chord(members, ask.s("echo")).apply_async()
    yield result
    found = ask.outcome(result)
    # Members of the inner group are numbered from 0 again, so Celery's order of equals is that of their ids.
    yield {**found, "value": sorted(found["value"])} if isinstance(found.get("value"), list) else found


@behaviour(gives([[1, 3], 7], "[[add, add]>echo, echo]"))
def chord_with_a_chord_member(ask):
    inner = ask.lib.chord([ask.s("add", 0, 1), ask.s("add", 1, 2)], ask.s("echo"))
    return ask.lib.chord([inner, ask.s("echo", 7)], ask.s("echo")).apply_async()


@behaviour(gives([[1, 3], [1, 3]], "[[add, add]>echo, [add, add]>echo]"))
def chord_of_chords(ask):
    inner = [ask.lib.chord([ask.s("add", 0, 1), ask.s("add", 1, 2)], ask.s("echo")) for _ in range(2)]
    return ask.lib.chord(inner, ask.s("echo")).apply_async()


@behaviour(gives(117, "[add, add]"), stores=STORED)
def chord_whose_body_is_a_chain(ask):
    members = [ask.s("add", 1, 2), ask.s("add", 2, 2)]
    return ask.lib.chord(members, ask.s("total") | ask.s("add", 10) | ask.s("add", 100)).apply_async()


@behaviour(gives([7, 17], "[add, add]"), stores=STORED)
def chord_whose_body_is_a_group(ask):
    members = [ask.s("add", 1, 2), ask.s("add", 2, 2)]
    body = ask.lib.group(ask.s("total"), ask.s("total", more=10))
    return ask.lib.chord(members, body).apply_async()


@behaviour(gives(27, "[add, add]"))
def chord_whose_body_is_a_chord(ask):
    members = [ask.s("add", 1, 2), ask.s("add", 2, 2)]
    body = ask.lib.chord([ask.s("total"), ask.s("total", more=13)], ask.s("total"))
    return ask.lib.chord(members, body).apply_async()


@behaviour(gives(6, "[add, add]", seen=[6]))
def link_of_a_chord(ask):
    sig = ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 1, 2)], ask.s("total"))
    sig.link(ask.s("note", token=ask.token))
    result = sig.apply_async()
    yield result
    yield {**ask.outcome(result), "seen": [entry["value"] for entry in ask.seen("note")]}


@behaviour(gives([[4, 1], 5], "[flaky, echo]"))
def chord_with_a_retried_member(ask):
    return ask.lib.chord([ask.s("flaky", 4, times=1), ask.s("echo", 5)], ask.s("echo")).apply_async()


@behaviour({"value": [1, 2], "state": "SUCCESS"})
def chord_with_a_member_whose_result_is_ignored(ask):
    quiet = ask.s("echo", 2).set(ignore_result=True)
    result = ask.lib.chord([ask.s("echo", 1), quiet], ask.s("echo")).apply_async()
    yield result
    yield {**ask.get(result), "state": result.state}


@behaviour(
    gives(
        [0, 1],
        "[see, see]",
        families={"member": MEMBERS, "body": ["root=member parent=member group=0 index=None"]},
    ),
    before=(
        (5, 6),
        gives(
            [0, 1],
            "[see, see]",
            families={"member": MEMBERS, "body": ["root=member parent=member group=None index=None"]},
        ),
        "the body did not know its header's group",
    ),
)
def families_of_a_chord(ask):
    members = [ask.s("see", n, token=ask.token, step="member") for n in range(2)]
    result = ask.lib.chord(members, ask.s("see", token=ask.token, step="body")).apply_async()
    yield result
    yield {**ask.outcome(result), "families": ask.families(member=2, body=1)}


# -- what becomes a chord ----------------------------------------------------------------------------


@behaviour({"value": 12, "state": "SUCCESS"}, stores=STORED)
def chain_group_task(ask):
    result = (ask.s("add", 1, 2) | ask.lib.group(ask.s("add", 1), ask.s("add", 5)) | ask.s("total")).delay()
    yield result
    yield {**ask.get(result), "state": result.state}


@behaviour(gives(9, "[add, add]"))
def group_bar_task(ask):
    return (ask.lib.group(ask.s("add", 1, 2), ask.s("add", 1, 5)) | ask.s("total")).delay()


@behaviour(gives(1112, "add([add, add])"))
def chain_with_a_chord_in_the_middle(ask):
    middle = ask.lib.group(ask.s("add", 1), ask.s("add", 5))
    return (ask.s("add", 1, 2) | middle | ask.s("total") | ask.s("add", 100) | ask.s("add", 1000)).delay()


@behaviour(gives(224, "add([add, add])"))
def chain_with_two_chords(ask):
    first = ask.lib.group(ask.s("add", 1), ask.s("add", 5))
    second = ask.lib.group(ask.s("add", 100), ask.s("add", 100))
    return (ask.s("add", 1, 2) | first | ask.s("total") | second | ask.s("total")).delay()


@behaviour({"value": [[4, 5], 13], "state": "SUCCESS"})
def groups_after_groups(ask):
    first = ask.lib.group(ask.s("add", 1), ask.s("add", 2))
    second = ask.lib.group(ask.s("echo"), ask.si("echo", 13))
    result = (ask.s("add", 1, 2) | first | second).delay()
    yield result
    # ``get`` of Celery before 5.7 waits for ever if the results were there first, ``join`` does not.
    yield {"value": result.join(timeout=ask.seconds()), "state": ask.state(result)}


@behaviour(
    {"state": "FAILURE", "error": "ChordError"},
    before=(
        (5, 7),
        {"state": "PENDING", "error": "NoneType"},
        "steps after the body of a chord that failed were not told",
    ),
)
def chain_whose_chord_fails(ask):
    middle = ask.lib.group(ask.s("add", 1), ask.s("fail_if", 3))
    result = (ask.s("add", 1, 2) | middle | ask.s("total") | ask.s("add", 100)).delay()
    yield result
    ask.until(result.ready, seconds=4)
    yield {"state": result.state, "error": type(result.result).__name__}


@behaviour(gives(68, "[[[add, add]>total, echo]>total, [[add, add]>total, echo]>total]"), stores=("dynamodb",))
def nested_three_deep(ask):
    def inner(number):
        innermost = ask.lib.chord([ask.s("add", number, 1), ask.s("add", number, 2)], ask.s("total"))
        return ask.lib.chord([innermost, ask.s("echo", 10)], ask.s("total"))

    return ask.lib.chord([inner(1), inner(20)], ask.s("total")).apply_async()


# -- chunks, map, starmap ----------------------------------------------------------------------------


@behaviour(gives([[1, 3], [5, 7], [9]], "[starmap, starmap, starmap]"), stores=STORED)
def chunks(ask):
    pairs = [(n, n + 1) for n in range(5)]
    return ask.task("add").chunks(pairs, 2).apply_async(**ask.to())


@behaviour(gives([1, [2]], "map"))
def mapped(ask):
    return ask.task("echo").map([1, [2]]).apply_async(**ask.to())


@behaviour(gives([3, 7], "starmap"))
def star_mapped(ask):
    return ask.task("add").starmap([(1, 2), (3, 4)]).apply_async(**ask.to())


# -- tasks that change what they are part of -----------------------------------------------------------


def _swaps():
    expected = {"task": (101, "add"), "chain": (1101, "add"), "group": ([11, 21], "accumulate"), "chord": (32, "total")}
    for kind, (value, tree) in expected.items():

        def send(ask, kind=kind):
            return ask.s("swap", 1, kind=kind, queues=ask.queues(3)).apply_async()

        options = {"stores": STORED} if kind in {"task", "chord"} else {}
        behaviour(gives(value, tree), name=f"replaced-by-a-{kind}", **options)(send)


_swaps()


@behaviour(gives(1101, "add(add)"))
def replaced_in_a_chain_by_a_task(ask):
    first = ask.s("swap", 1, kind="task", queues=ask.queues(3))
    return (first | ask.s("add", 1000)).delay()


@behaviour(gives(1032, "total(add)"))
def replaced_in_a_chain_by_a_chord(ask):
    first = ask.s("swap", 1, kind="chord", queues=ask.queues(3))
    return (first | ask.s("add", 1000)).delay()


@behaviour(gives([11, 21, 5], "echo(accumulate(add))"))
def replaced_in_a_chain_by_a_group(ask):
    middle = ask.s("swap", kind="group", queues=ask.queues(3))
    return (ask.s("echo", 1) | middle | ask.s("add", [5])).delay()


@behaviour(gives([101, 7], "[add, echo]"))
def replaced_in_a_chord_by_a_task(ask):
    member = ask.s("swap", 1, kind="task", queues=ask.queues(3))
    return ask.lib.chord([member, ask.s("echo", 7)], ask.s("echo")).apply_async()


@behaviour(gives([32, 7], "[total, echo]"))
def replaced_in_a_chord_by_a_chord(ask):
    member = ask.s("swap", 1, kind="chord", queues=ask.queues(3))
    return ask.lib.chord([member, ask.s("echo", 7)], ask.s("echo")).apply_async()


@behaviour(gives(101, "add(note)", told=[101]))
def replaced_with_a_link(ask):
    sig = ask.s("swap", 1, kind="task", queues=ask.queues(3))
    result = sig.apply_async(link=ask.s("note", token=ask.token))
    yield result
    yield {**ask.outcome(result), "told": [entry["value"] for entry in ask.seen("note")]}


@behaviour({"sorted": [1, 2, 20]})
def added_to_a_chord(ask):
    members = [ask.s("grow", 2, ask.queue()), ask.s("late", 1)]
    result = ask.lib.chord(members, ask.s("echo")).apply_async()
    yield result
    found = ask.get(result)
    yield {"sorted": sorted(found["value"])} if isinstance(found.get("value"), list) else found


# -- stamps ------------------------------------------------------------------------------------------


@behaviour({"value": 1, "headers": ["tenant"], "stamps": {"tenant": "a"}})
def stamped(ask):
    sig = ask.s("stamps", 1, ask.token, "only")
    sig.stamp(tenant="a")
    result = sig.apply_async()
    yield result
    found = ask.get(result)
    yield {**found, **(ask.seen("only") or [{}])[0]}


@behaviour({"value": 1, "first": {"tenant": "a"}, "second": {"tenant": "a"}, "linked": {"tenant": "a"}})
def stamped_chain_with_a_link(ask):
    second = ask.s("stamps", token=ask.token, step="second")
    second.link(ask.s("stamps", token=ask.token, step="linked"))
    sig = ask.s("stamps", 1, token=ask.token, step="first") | second
    sig.stamp(tenant="a")
    result = sig.apply_async()
    yield result
    found = ask.get(result)
    yield {**found, **{step: (ask.seen(step) or [{}])[0].get("stamps") for step in ("first", "second", "linked")}}


@behaviour({"value": [0, 1], "member": {"kind": "in", "of": "chord"}, "body": {"kind": "out", "of": "chord"}})
def stamped_by_a_visitor(ask):
    class Visitor(ask.lib.canvas.StampingVisitor):
        def on_signature(self, sig, **headers):
            kind = "out" if sig.kwargs.get("step") == "body" else "in"
            return {"kind": kind, "of": "chord", "stamped_headers": ["kind", "of"]}

    members = [ask.s("stamps", n, token=ask.token, step="member") for n in range(2)]
    sig = ask.lib.chord(members, ask.s("stamps", token=ask.token, step="body"))
    sig.stamp(visitor=Visitor())
    result = sig.apply_async()
    yield result
    found = ask.get(result)
    yield {**found, **{step: (ask.seen(step) or [{}])[0].get("stamps") for step in ("member", "body")}}


# -- signatures as text --------------------------------------------------------------------------------


@drawing(gives(5, "add"))
def task(ask):
    return ask.s("add", 2, y=3)


@drawing(gives(10, "add(add(add))"), stores=STORED)
def steps(ask):
    return ask.s("add", 1, 2) | ask.s("add", 3) | ask.s("add", 4)


@drawing(gives([1, 3], "[add, add]"))
def members(ask):
    return ask.lib.group(ask.s("add", 0, 1), ask.s("add", 1, 2))


@drawing(gives(9, "[add, add]"), stores=STORED)
def counted(ask):
    return ask.lib.chord([ask.s("add", 1, 2), ask.s("add", 1, 5)], ask.s("total"))


@drawing(gives(112, "add([add, add])"))
def mixture(ask):
    return ask.s("add", 1, 2) | ask.lib.group(ask.s("add", 1), ask.s("add", 5)) | ask.s("total") | ask.s("add", 100)


@drawing(gives([["<id>", None], [[["<id>", None], None], [["<id>", None], None]]], "chunks([starmap, starmap])"))
def pieces(ask):
    return ask.task("add").chunks([(0, 1), (1, 2), (2, 3)], 2)
