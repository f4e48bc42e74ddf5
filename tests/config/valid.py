# SPDX-License-Identifier: Apache-2.0
"""Two valid configuration files that say the same, and the folder of files that they name."""

from pathlib import Path

from tests.gateway.certificates import Authority

YAML = """\
server:
  host: 127.0.0.1
  port: 8400
  control_port: 8401
  workers: 2
  webhook_networks: [10.2.0.0/16]
  tls:
    certificate: chain.pem
    key: key.pem
    client_certificates: optional
gateway:
  max_body: 1048576
  max_headers: 50
  head_timeout: 5.5
  trusted_proxies: [10.0.0.0/8, "::1"]
  proxy_protocol: true
  guard: {hidden_text: block, bidi_override: off}
  time_zone: Europe/Paris
resources:
  engines:
    - name: gpu1
      url: http://127.0.0.1:8000
      kind: vllm
      api_key: env:GPU1_KEY
    - name: gpu2
      url: https://gpu2.example.org/api
      api_key: file:secret
      ca_file: chain.pem
  models:
    - id: chat-small
      aliases: [chat, small]
      max_model_len: 32768
      max_output: 4096
      endpoints: [chat]
      targets:
        - engine: gpu1
          model: org/Chat-Small
        - engine: gpu2
      prices:
        - input: 0.9
          output: 4
          currency: EUR
        - effective: 2026-02-10
          input: 1.9
          output: "8"
    - id: embed
      owned_by: us
      default_max_tokens: 16
      targets: [{engine: gpu2, model: e5}]
"""

TOML = """\
[server]
host = "127.0.0.1"
port = 8400
control_port = 8401
workers = 2
webhook_networks = ["10.2.0.0/16"]

[server.tls]
certificate = "chain.pem"
key = "key.pem"
client_certificates = "optional"

[gateway]
max_body = 1_048_576
max_headers = 50
head_timeout = 5.5
trusted_proxies = ["10.0.0.0/8", "::1"]
proxy_protocol = true
guard = { hidden_text = "block", bidi_override = "off" }
time_zone = "Europe/Paris"

[[resources.engines]]
name = "gpu1"
url = "http://127.0.0.1:8000"
kind = "vllm"
api_key = "env:GPU1_KEY"

[[resources.engines]]
name = "gpu2"
url = 'https://gpu2.example.org/api'
api_key = "file:secret"
ca_file = "chain.pem"

[[resources.models]]
id = "chat-small"
aliases = ["chat", "small"]
max_model_len = 32768
max_output = 4096
endpoints = ["chat"]

[[resources.models.targets]]
engine = "gpu1"
model = "org/Chat-Small"

[[resources.models.targets]]
engine = "gpu2"

[[resources.models.prices]]
input = 0.9
output = 4
currency = "EUR"

[[resources.models.prices]]
effective = 2026-02-10
input = 1.9
output = "8"

[[resources.models]]
id = "embed"
owned_by = "us"
default_max_tokens = 16
targets = [{ engine = "gpu2", model = "e5" }]
"""
CANARY = "canary0secret"
ENVIRON = {"GPU1_KEY": CANARY}


def house(folder: Path) -> Path:
    """The folder, with the files that the valid configurations name, and a key that fits none of them."""
    for name in ("chain", "other"):
        Authority(folder, name)
    (folder / "chain.key").rename(folder / "key.pem")
    (folder / "other.key").rename(folder / "other.pem")
    (folder / "secret").write_text(CANARY)
    (folder / "secret").chmod(0o600)
    return folder
