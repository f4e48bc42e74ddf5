# SPDX-License-Identifier: Apache-2.0
"""The page of settings, the annotated example and the JSON Schema, all written from the schema.

In: `beffroi.config`. Out: the text of each file.
"""

import json

from beffroi.config.json_schema import json_schema
from beffroi.config.reference import Setting, bounds, reference

HEAD = """\
# Settings

A configuration is one file, YAML or TOML (`.toml`): the one that `--config` names, else `$BEFFROI_CONFIG`, else `beffroi.yaml`
or `beffroi.toml` in the working directory. A file needs only what differs from the defaults, and Beffroi serves without any.
[How to configure](../how-to/configure.md) goes through it step by step.

```yaml
resources:
  engines:
    - name: gpu1
      url: http://127.0.0.1:8000
      kind: vllm
      api_key: env:GPU1_KEY
  models:
    - id: chat-small
      aliases: [chat]
      targets: [{engine: gpu1, model: org/Chat-Small-FP8}]
      max_model_len: 32768
      prices:
        - {input: 0.9, output: 4, reasoning: 21}
        - {effective: 2026-02-10, input: 1.9, output: 8, reasoning: 8}
```

[beffroi.example.yaml](beffroi.example.yaml) names every setting with its default; `beffroi config example` prints it.
[beffroi.schema.json](beffroi.schema.json) is the JSON Schema for editors; `beffroi config schema` prints it.

## How it is read

- **Strictly**: a name that does not exist is refused with the nearest one that does; every fault is told at once, with file, line,
  column and what to do. A configuration with a fault starts nothing. `beffroi config check` finds the same faults
  without starting anything.
- **While running**: a changed file is taken over within a second, or at once on SIGHUP. One with faults is refused, each is
  named in the log, and the configuration before it stays.
- **YAML** is read as its version 1.2 has it: `off`, `no` and `1:30` are text; only `true` and `false` are that.
  A group or a setting with nothing behind it counts as left out.
- **Paths** in a file count from the file's folder, those in variables and options from the working directory.

## Where a value comes from

The command line wins over environment variables, those over the file, the file over the default. `beffroi config show` has for
each setting the value that holds and where it comes from.

The variable of a setting is `BEFFROI_`, then its name in capitals with **two** underscores where the file has a dot:
`server.tls.key` is `BEFFROI_SERVER__TLS__KEY`. Lists are written with commas (`10.0.0.0/8,::1`), maps as
`hidden_text=block,template_token=off`. An empty variable counts as not set. A variable with two underscores that names no
setting is refused with the nearest one that does; one that only looks like a setting (`BEFFROI_SERVER_PORT`) is named in a note,
for Kubernetes sets such names by itself. `resources` stand in a file only.

## Secrets

A secret is never written into the file. Where one can stand (`api_key`), write a reference: `env:NAME`, the environment variable of that
name, or `file:PATH`, a file that holds it and nothing else. SIGHUP has them read again. Credentials in an engine's `url` are refused.
No message, log or command shows a secret; `beffroi config show` shows the reference.
"""
PARTS = {
    "server": "## `server`: processes\n\nRead at start; a change takes effect at the next one.",
    "gateway": "## `gateway`: the data plane\n\nTaken over while running. Sizes are in bytes, times in seconds.",
    "resources": "## `resources`: what is served\n\nTaken over while running. Amounts are money per million tokens. "
    "`[]` stands for each item of a list.",
}
WRITTEN = "\n_Written from the code by `python -m tests.house.pages`; edit there._\n"


def page() -> str:
    """Every setting of the configuration file."""
    lines = [HEAD.rstrip()]
    for part, head in PARTS.items():
        found = [setting for setting in reference() if setting.name.startswith(f"{part}.")]
        variables = any(setting.variable for setting in found)
        headings = ["Setting", "Type", "Default", *(["Variable"] if variables else []), "Meaning"]
        lines += ["", head, "", f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
        lines += [f"| {' | '.join(_row(setting, variables))} |" for setting in found]
    return "\n".join(lines) + "\n" + WRITTEN


def _row(setting: Setting, variables: bool) -> list[str]:
    default = "required" if setting.default == "required" else f"`{setting.default}`"
    variable = [f"`{setting.variable}`"] if variables else []
    kind = (setting.type + bounds(setting.kind)).replace("|", "\\|")
    return [f"`{setting.name}`", kind, default, *variable, setting.sentence.replace("|", "\\|")]


def schema() -> str:
    """The JSON Schema as a file."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
