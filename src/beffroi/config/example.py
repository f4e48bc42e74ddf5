# SPDX-License-Identifier: Apache-2.0
"""A configuration file that names every setting, with its default and its sentence, written from the schema.

In: the structs of `schema`. Out: YAML. What has a default that can be written stands as it is; the rest is commented out with
`#` and no space, so that taking the `#` away makes a setting of it and leaves the sentences alone.
"""

import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from beffroi.config.problems import Place
from beffroi.config.reference import default_of, is_struct, item_struct, reference, strip
from beffroi.config.schema import Document
from beffroi.config.write import scalar

SCHEMA_FILE = "beffroi.schema.json"
_WIDTH = 100
_HEAD = f"""\
# yaml-language-server: $schema={SCHEMA_FILE}
#
# Every setting of Beffroi, with its default. A file needs only what differs from it; `beffroi init` writes one.
# `#name: value` is a setting that has no default, with a value for example: take the # away to set it.
# `$NAME` behind a sentence is the environment variable that sets the same, and wins over the file.
# Sizes are in bytes, times in seconds, amounts in money per million tokens.
"""
# What stands where a default cannot: values of a made-up house.
_SAMPLES: dict[str, Any] = {
    "server.workers": 2,
    "server.data": "/var/lib/beffroi",
    "server.tls.certificate": "/etc/beffroi/chain.pem",
    "server.tls.key": "/etc/beffroi/key.pem",
    "server.tls.client_ca": "/etc/beffroi/clients.pem",
    "server.control_url": "https://beffroi.example:8401",
    "server.mail.host": "mail.example",
    "server.mail.user": "beffroi",
    "server.mail.password": "env:BEFFROI_MAIL_PASSWORD",
    "server.mail.ca_file": "/etc/beffroi/mail-ca.pem",
    "gateway.guard": {"hidden_text": "block", "template_token": "off"},
    "resources.engines[].name": "gpu1",
    "resources.engines[].url": "http://127.0.0.1:8000",
    "resources.engines[].machine": "rack 2, left",
    "resources.engines[].api_key": "env:GPU1_KEY",
    "resources.engines[].ca_file": "/etc/beffroi/engines-ca.pem",
    "resources.models[].id": "chat-small",
    "resources.models[].targets[].engine": "gpu1",
    "resources.models[].targets[].model": "org/Chat-Small-FP8",
    "resources.models[].max_model_len": 32768,
    "resources.models[].max_output": 4096,
    "resources.models[].prices[].effective": "2026-02-10",
    "resources.models[].prices[].reasoning": 0,
    "resources.models[].prices[].cached": 0,
    "resources.models[].prices[].version": "2026-02",
    "resources.secret_stores[].name": "vault",
    "resources.secret_stores[].kind": "vault",
    "resources.secret_stores[].at": "https://vault.example:8200",
    "resources.secret_stores[].token": "file:/run/secrets/vault-token",
    "resources.secret_stores[].ca_file": "/etc/beffroi/vault-ca.pem",
}


def example() -> str:
    """The file's text."""
    return _HEAD + "\n".join(_group(Document, (), 0, off=False)) + "\n"


def _group(struct: type[msgspec.Struct], place: Place, depth: int, *, off: bool) -> Iterator[str]:
    """Lines of one group of settings; `off` comments all of them out."""
    settings = {setting.name: setting for setting in reference()}
    for field in msgspec.structs.fields(struct):
        here = (*place, field.encode_name)
        name = ".".join(map(str, here))
        inner = strip(field.type)
        default = default_of(field)
        if (item := item_struct(inner)) is not None:
            yield _line(f"{field.encode_name}:", depth, off=off)
            inside = (*place, f"{field.encode_name}[]")
            yield from _dashed(_group(item, inside, depth + 2, off=off), "  " * (depth + 1))
        elif is_struct(inner):
            yield ""
            yield from _sentence(inner.__doc__ or "", depth)
            yield _line(f"{field.encode_name}:", depth, off=off or default is None)
            yield from _group(inner, here, depth + 1, off=off or default is None)
        else:
            setting = settings[name]
            told = f"{setting.sentence} ${setting.variable}" if setting.variable else setting.sentence
            yield from _sentence(told, depth)
            value = _SAMPLES.get(name, default)
            yield _line(
                f"{field.encode_name}: {scalar(value)}", depth, off=off or (not field.required and value != default)
            )


def _line(text: str, depth: int, *, off: bool) -> str:
    return f"{'  ' * depth}{'#' if off else ''}{text}"


def _dashed(lines: Iterator[str], indent: str) -> Iterator[str]:
    """A list item: its first setting gets the dash."""
    dash = f"{indent}- "
    for line in lines:
        setting = not line.lstrip().startswith("# ")
        yield dash + line.lstrip() if setting and dash else line
        dash = "" if setting else dash


def _sentence(text: str, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield from textwrap.wrap(
        text.partition("\n")[0],
        _WIDTH,
        initial_indent=f"{indent}# ",
        subsequent_indent=f"{indent}# ",
        break_on_hyphens=False,
    )
