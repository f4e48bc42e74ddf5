# SPDX-License-Identifier: Apache-2.0
"""The page of roles and permissions, written from the table in `control.tenancy.permissions`.

In: the table. Out: Markdown.
"""

from beffroi.control.tenancy.permissions import MEANINGS, NARROWED, PERMISSIONS, Permission, Role


def page() -> str:
    """Which role may do what."""
    heads = ["Permission", *(role.value for role in Role), "in one project", "Meaning"]
    lines = [
        "# Roles and permissions",
        "",
        "Every page of the admin API, every command and every `apply` asks this one table; what is not in it is refused. A role",
        "is held in one organisation, or narrowed to one of its projects: then only what has a dot under *in one project* is left of it,",
        "and of those things only what belongs to that project. `operator` is the whole installation: who can open",
        "`control.sock`, and admin keys of the organisation `*`.",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    for permission in Permission:
        cells = ["•" if permission in PERMISSIONS[role] else "" for role in Role]
        narrowed = "•" if permission in NARROWED else ""
        lines.append(f"| {' | '.join([f'`{permission}`', *cells, narrowed, MEANINGS[permission]])} |")
    return "\n".join(lines) + "\n"
