# SPDX-License-Identifier: Apache-2.0
"""What things of a file refer to, and does not exist: projects, AI systems, tiers, keys, models.

In: what is wanted, what is there, the models of the configuration. Out: obstacles, each at its place in the file.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from beffroi.config.problems import Place
from beffroi.config.reader import nearest
from beffroi.control.declare.diff import Obstacle
from beffroi.control.declare.state import HOUSE, Ref, Thing


class _Known:
    """Names there will be, once the file is applied."""

    def __init__(self, wanted: Sequence[Thing], held: Sequence[Thing]) -> None:
        self._names: dict[tuple[str, str], set[str]] = {}
        for thing in (*held, *wanted):
            name = thing.ref.name[0] if thing.ref.kind == "tier" else "/".join(thing.ref.name)
            self._names.setdefault((thing.ref.kind, thing.ref.organisation), set()).add(name)

    def of(self, kind: str, organisation: str) -> set[str]:
        found = set(self._names.get((kind, organisation), ()))
        if kind == "tier":
            found |= self._names.get((kind, HOUSE), set())
        return found


def missing(wanted: Sequence[Thing], held: Sequence[Thing], models: frozenset[str]) -> Iterator[Obstacle]:
    """Every one."""
    known = _Known(wanted, held)
    yield from _ambiguous(wanted, held)
    for thing in wanted:
        organisation = thing.ref.organisation
        for kind, name, at in _mentioned(thing):
            names = known.of(kind, organisation)
            if name not in names:
                yield _obstacle((*thing.place, *at), kind, name.rpartition("/")[2], names)
        for name, at in _models(thing):
            if name not in models:
                yield _obstacle((*thing.place, *at), "model", name, models)


def _mentioned(thing: Thing) -> Iterator[tuple[str, str, Place]]:
    kind, fields = thing.ref.kind, thing.fields
    if kind == "member" and thing.ref.name[0]:
        yield "project", thing.ref.name[0], ("project",)
    if kind in ("service account", "AI system") and fields["project"]:
        yield "project", fields["project"], ("project",)
    if kind == "key":
        yield "project", thing.ref.name[0], ("project",)
        if fields["system"]:
            yield "AI system", fields["system"], ("system",)
    if kind == "quota":
        project, key = (part.partition(" ")[2] for part in thing.ref.name[:2])
        if project:
            yield "project", project, ("project",)
        if key:
            yield "key", f"{project}/{key}", ("key",)
        many = len(fields["terms"]) > 1
        for index, term in enumerate(fields["terms"]):
            if term.get("tier"):
                yield "tier", term["tier"], ("terms", index, "tier") if many else ("tier",)


def _models(thing: Thing) -> Iterator[tuple[str, Place]]:
    if thing.ref.kind in ("key", "AI system"):
        for name in thing.fields["models"] or ():
            yield name, ("models",)
    if thing.ref.kind == "quota" and thing.ref.name[2]:
        yield thing.ref.name[2].partition(" ")[2], ("model",)


def _ambiguous(wanted: Sequence[Thing], held: Sequence[Thing]) -> Iterator[Obstacle]:
    counts = Counter(thing.ref for thing in held)
    places: dict[Ref, Place] = {thing.ref: thing.place for thing in wanted}
    for ref, count in counts.items():
        if count > 1 and ref in places:
            said = f"there are {count} living {ref.kind}s {ref}, and the file cannot tell which it means"
            yield Obstacle(places[ref], said, "rename or revoke the others, then plan again")


def _obstacle(place: Place, kind: str, name: str, names: set[str] | frozenset[str]) -> Obstacle:
    short = {one.rpartition("/")[2] for one in names}
    near = nearest(name, short)
    remedy = f"did you mean `{near[0]}`?" if near else _there(short)
    return Obstacle(place, f"there is no {kind} `{name[:60]}`", remedy)


def _there(names: set[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in sorted(names)[:10])
    return f"there are {shown}" if shown else "there is none yet; declare it here, or make it first"
