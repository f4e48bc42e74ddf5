# SPDX-License-Identifier: Apache-2.0
"""The pages of files of tenants and of LiteLLM's verbs, written from the code.

In: the structs of a file of tenants, the tables of LiteLLM's fields. Out: the text of each file.
"""

import json

from beffroi.config.declaration import Declaration
from beffroi.config.json_schema import tenants_schema
from beffroi.config.reference import bounds, reference
from beffroi.control.litellm.fields import VERBS as FIELDS
from beffroi.control.litellm.verbs import VERBS

HEAD = """\
# Files of tenants

What may stand in a file for `beffroi plan` and `beffroi apply`, YAML, TOML (`.toml`) or JSON.
[How to declare tenants](../how-to/declare-tenants.md) goes through it step by step;
[tenants.schema.json](tenants.schema.json) is its JSON Schema for editors, `beffroi config schema --tenants` prints it.

A setting that is left out has its default, so that taking a line away takes away what it said. These alone stay as they are
when they are left out: the name of an organisation or a project, the policy of an organisation, the end of a key.
A day begins at midnight of the zone that budgets follow (`gateway.time_zone`). `[]` stands for each item of a list.
"""
LITELLM = """\
# LiteLLM's administration verbs

Scripts that administer a LiteLLM proxy can administer Beffroi: give them the control port (8401) as base URL and an admin key
(`beffroi admin-keys create`) in the place of the master key, as `Authorization: Bearer bfa-…`. Models and engines are not
administered like that: [they stand in the configuration](settings.md). [Moving from LiteLLM](../how-to/move-from-litellm.md)
has the whole way.

A team is a project; a user is a member if a mail address is known, else a service account; a budget with an id is a tier.
Amounts are in the currency of the prices, and spend is that of the ledger. `token` is the key's id, which every verb takes in the
place of the key. An operator's admin key acts in the organisation `default`, or the one in `organization_id`.

Each field is **kept**; or **told**: it restricts nothing, is not stored, and the answer's `beffroi.told` names it; or
**refused**, for it would restrict or permit something that Beffroi does not do like that. A field in no table is refused. A value
that says nothing (null, false, an empty list or object, zero) is as good as left out. Errors have LiteLLM's shape: `error` with
`message`, `type`, `param`, `code`.
"""


def page() -> str:
    """Every setting of a file of tenants."""
    lines = [HEAD.rstrip(), "", "| Setting | Type | Default | Meaning |", "|---|---|---|---|"]
    for setting in reference(Declaration):
        default = "required" if setting.default == "required" else f"`{setting.default}`"
        kind = (setting.type + bounds(setting.kind)).replace("|", "\\|")
        lines.append(f"| `{setting.name}` | {kind} | {default} | {setting.sentence} |")
    return "\n".join(lines) + "\n"


def schema() -> str:
    """The JSON Schema as a file."""
    return json.dumps(tenants_schema(), indent=2, ensure_ascii=False) + "\n"


def litellm() -> str:
    """Every verb of LiteLLM's, and what becomes of each field."""
    lines = [LITELLM.rstrip()]
    for verb in VERBS:
        name = f"{verb.method} {verb.path}"
        if verb.name and verb.name != name:
            continue
        lines += ["", f"## `{name}`", "", f"Needs the permission `{verb.needs}`.", ""]
        lines += ["| Field | | What it becomes |", "|---|---|---|"]
        lines += [f"| `{field}` | {found.fate} | {found.becomes} |" for field, found in FIELDS[name].items()]
    return "\n".join(lines) + "\n"
