"""Random canvases as plain data, which our library and real Celery both build: ``build(library, step, tree)``.

A tree is ``["task", tag]``, ``["chain", [trees]]``, ``["group", [trees]]`` or ``["chord", [trees], tree]``. The task ``step``
gives its tag with a digest of what it was given, so that one value at the end tells of every value and order before it.
"""

import hashlib
import json


def digest(value, tag):
    return f"{tag}:{hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]}"


def grow(random, depth):
    """A random tree of at most ``depth`` levels.

    Groups have two members at least: of one whose only member is a group Celery gives that one's values when it is sent, and a
    list around them when it is run eagerly.
    """
    kind = random.choice(["task", "chain", "group", "chord"]) if depth > 0 else "task"
    if kind == "task":
        return ["task", f"t{random.randrange(1000)}"]
    parts = [grow(random, depth - 1) for _ in range(random.randint(1 if kind == "chord" else 2, 3))]
    return [kind, parts, grow(random, depth - 1)] if kind == "chord" else [kind, parts]


def build(library, step, tree):
    kind = tree[0]
    if kind == "task":
        return step.s(tree[1])
    parts = [build(library, step, part) for part in tree[1]]
    if kind == "chord":
        return library.chord(parts, build(library, step, tree[2]))
    return library.chain(*parts) if kind == "chain" else library.group(parts)


def size(tree):
    """How many tasks a tree has."""
    return 1 if tree[0] == "task" else sum(map(size, tree[1])) + (size(tree[2]) if tree[0] == "chord" else 0)
