# SPDX-License-Identifier: Apache-2.0
"""Documents of tenants, made at random, each of which can be applied.

In: nothing. Out: hypothesis strategies.
"""

from typing import Any

from hypothesis import strategies as st

slugs = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,6}[a-z0-9])?", fullmatch=True)
names = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=12)
roles = st.sampled_from(["owner", "admin", "billing", "developer", "auditor", "viewer"])
states = st.sampled_from(["active", "suspended"])
counts = st.integers(1, 1 << 40)
amounts = st.sampled_from(["0", "10.50", 3, 0.000000001, "1000000"])
MODELS = ["small", "chat", "large"]
NETWORKS = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]


def maybe(**fields: Any) -> Any:
    """Objects with any of those fields."""
    return st.fixed_dictionaries({}, optional=fields)


limits = maybe(
    requests_per_minute=counts, output_tokens_per_day=counts, concurrency=counts, hard_budget=amounts, soft_budget=amounts,
    budget_period=st.sampled_from(["day", "month", "total"]), monthly_cap=amounts,
)  # fmt: skip
moments = st.sampled_from(["2026-01-01", "2027-03-28", "2026-06-01T12:34:56Z", "2030-10-27T00:00:00+02:00"])
daily = maybe(requests_per_day=counts, soft_budget=amounts, monthly_cap=amounts)
tiers = st.lists(
    st.fixed_dictionaries(
        {"name": slugs},
        optional={"title": names, "limits": limits.filter(lambda found: found.get("budget_period") != "total"), "credit": amounts,
                  "effective": moments},
    ),
    max_size=2,
    unique_by=lambda tier: tier["name"],
)  # fmt: skip
rotations = st.fixed_dictionaries(
    {"every_days": st.integers(1, 300)},
    optional={"notice_seconds": st.integers(0, 1000), "idle_seconds": st.none() | st.integers(300, 9000)},
)


@st.composite
def organisations(draw: Any) -> dict[str, Any]:
    """One organisation, whose parts refer to one another."""
    one: dict[str, Any] = {"id": draw(slugs)} | draw(maybe(name=names, state=states))
    policy = maybe(max_key_days=st.integers(30, 900), rotation_overlap_hours=st.integers(0, 99))
    if draw(st.booleans()):
        one["policy"] = draw(policy)
    projects = draw(st.lists(slugs, min_size=1, max_size=3, unique=True))
    one["projects"] = [{"id": each, **draw(maybe(name=names, state=states))} for each in projects]
    place = st.sampled_from(projects)
    mails = st.builds("{}@{}.example".format, slugs, slugs)
    one["members"] = [
        {"email": each, "role": draw(roles), **draw(maybe(name=names, project=place, state=states))}
        for each in draw(st.lists(mails, max_size=3, unique=True))
    ]
    # Somebody owns it, for the last owner cannot be suspended.
    one["members"].append({"email": "the.owner@x.example", "role": "owner"})
    one["service_accounts"] = [
        {"name": each, "role": draw(roles), **draw(maybe(project=place, state=states))}
        for each in draw(st.lists(names, max_size=2, unique=True))
    ]
    systems = draw(st.lists(names, max_size=2, unique=True))
    one["systems"] = [
        {
            "name": each,
            "purpose": "p",
            "owner": "o",
            **draw(maybe(models=st.lists(st.sampled_from(MODELS), max_size=2))),
        }
        for each in systems
    ]
    optional: dict[str, Any] = {
        "models": st.lists(st.sampled_from(MODELS), min_size=1, max_size=3),
        "endpoints": st.lists(st.sampled_from(["chat", "embeddings", "models"]), min_size=1, max_size=2),
        "addresses": st.lists(st.sampled_from(NETWORKS), max_size=2),
        "limits": limits,
        "rotation": rotations,
        "owner": names,
    }
    if systems:
        optional["system"] = st.sampled_from(systems)
    one["keys"] = [
        {"name": each, "project": draw(place), **draw(maybe(**optional))}
        for each in draw(st.lists(names, max_size=3, unique=True))
    ]
    one["tiers"] = draw(tiers)
    named = sorted({tier["name"] for tier in one["tiers"]})
    scopes = st.fixed_dictionaries(
        {
            "project": st.sampled_from(["", *projects]),
            "model": st.sampled_from(["", *MODELS]),
            "each_end_user": st.booleans(),
        }
    )
    if one["keys"]:
        key = st.sampled_from(one["keys"]).map(lambda found: {"key": found["name"], "project": found["project"]})
        scopes = scopes | key
    allowed = st.just({"limits": {"concurrency": 3}}) | st.builds(
        lambda found: {"limits": {"concurrency": 1, **found}}, daily
    )
    if named:
        allowed = allowed | st.sampled_from(named).map(lambda name: {"tier": name})
    dated = st.lists(st.tuples(moments, allowed), min_size=1, max_size=3, unique_by=lambda pair: pair[0]).map(
        lambda pairs: {"terms": [{"since": since, **term} for since, term in pairs]}
    )
    one["quotas"] = [
        {**scope, **draw(allowed | dated), **draw(maybe(name=names))}
        for scope in draw(st.lists(scopes, max_size=3, unique_by=_scope))
    ]
    return one


def _scope(scope: dict[str, Any]) -> tuple[Any, ...]:
    model = scope.get("model", "")
    return (
        scope.get("project"),
        scope.get("key"),
        {"chat": "small"}.get(model, model),
        scope.get("each_end_user", False),
    )


documents = st.builds(
    lambda found, house: {"organisations": found, "tiers": house},
    st.lists(organisations(), max_size=3, unique_by=lambda one: one["id"]),
    tiers,
)
