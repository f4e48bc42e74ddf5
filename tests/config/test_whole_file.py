# SPDX-License-Identifier: Apache-2.0
"""A file that sets everything there is to set is taken: no entry of the reference is a trap."""

import json
from pathlib import Path
from typing import Any

from beffroi.config.load import load
from beffroi.config.reference import reference

FILE: dict[str, Any] = {
    "server": {
        "host": "127.0.0.1",
        "port": 8400,
        "control_host": "127.0.0.1",
        "control_port": 8401,
        "webhook_networks": ["10.2.0.0/16"],
        "workers": 2,
        "data": "here",
        "tls": {"certificate": "c.pem", "key": "k.pem", "client_ca": "a.pem", "client_certificates": "optional"},
        "control_url": "https://beffroi.example:8401",
        "database": "env:E_KEY",
        "fleet_secret": "env:E_KEY",
        "trust_keys": 60.0,
        "hold_journal": 60.0,
        "hold_journal_bytes": 1 << 21,
        "valkey": "redis://127.0.0.1:6379/0",
        "valkey_prefix": "town-hall",
        "mail": {
            "host": "mail.example",
            "port": 465,
            "tls": "tls",
            "sender": "beffroi@example.org",
            "user": "u",
            "password": "env:E_KEY",
            "ca_file": "ca.pem",
        },
    },
    "resources": {
        "secret_stores": [
            {
                "name": "s",
                "kind": "kubernetes",
                "at": "https://k:6443",
                "token": "file:token",
                "ca_file": "ca.pem",
                "namespace": "prod",
                "mount": "kv",
                "organisations": ["*"],
            }
        ],
        "engines": [
            {
                "name": "e",
                "url": "https://e:8000",
                "kind": "vllm",
                "machine": "m",
                "api_key": "env:E_KEY",
                "ca_file": "ca.pem",
            }
        ],
        "models": [
            {
                "id": "m",
                "aliases": ["n"],
                "targets": [{"engine": "e", "model": "org/M"}],
                "owned_by": "us",
                "created": 1,
                "max_model_len": 4096,
                "max_output": 1024,
                "default_max_tokens": 512,
                "endpoints": ["chat"],
                "fallbacks": ["o"],
                "prices": [
                    {
                        "input": "0.9",
                        "output": 4,
                        "reasoning": 21,
                        "cached": "0.45",
                        "currency": "EUR",
                        "version": "2025-06",
                    },
                    {"effective": "2026-02-10", "input": "1.9", "output": 8},
                ],
            }
        ],
    },
}


def places(value: Any, at: str = "") -> set[str]:
    """The names of everything that is set, as the reference writes them."""
    if isinstance(value, dict):
        return {found for name, part in value.items() for found in places(part, f"{at}.{name}" if at else name)}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {found for part in value for found in places(part, f"{at}[]")}
    return {at}


def test_every_setting_can_be_set(tmp_path: Path, monkeypatch: Any) -> None:
    """The file above names every process setting and every field of a resource, and loads."""
    monkeypatch.setenv("E_KEY", "secret")
    named = {setting.name for setting in reference() if not setting.name.startswith("gateway.")}
    assert places(FILE) == named
    path = tmp_path / "beffroi.yaml"
    path.write_text(json.dumps(FILE))
    document = load(path).document
    assert document.resources.models[0].prices[0].version == "2025-06"
