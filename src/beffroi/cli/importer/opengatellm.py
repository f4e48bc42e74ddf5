# SPDX-License-Identifier: Apache-2.0
"""OpenGateLLM's file: `models` with their providers become engines and models with pools, prices and other names.

In: its parsed file, and the environment that its `${NAME:-default}` speak of. Out: what `pools` gathers.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from beffroi.cli.importer.draft import Secret
from beffroi.cli.importer.pools import Pools
from beffroi.cli.importer.reading import Part

_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_ENDPOINTS = {
    "text-generation": ["chat", "completions"],
    "image-text-to-text": ["chat", "completions"],
    "text-embeddings-inference": ["embeddings"],
}
_PRICES = {"cost_prompt_tokens": "input", "cost_completion_tokens": "output"}
_KINDS = {"vllm": "hosted_vllm"}
_PROVIDER = (
    (("model_hosting_zone", "model_total_params", "model_active_params", "model_carbon_*"),
     "energy is not estimated from sizes and zones", ""),
    (("qos_metric", "qos_limit", "max_parallel_requests"), "an engine has no limits in Beffroi; keys have them",
     "`beffroi keys create NAME --concurrency …`, and the engine's own queue"),
    (("basic_auth",), "engines are called with a key, not with a name and a password",
     "give the engine a key (`--api-key` of vLLM), and write it as `api_key`"),
)  # fmt: skip
_OTHERWISE = (
    (("usage_tokenizer",), "tokens are those that the engine counted"),
    (("rate_limiting_strategy",), "rates slide: no span of a minute holds more than the limit"),
    (("routing_*", "load_balancing_*"), "up to three engines of a pool are tried, the one with less work in hand first"),
    (("log_*",), "see the settings of the process log; prompts and answers are never logged"),
    (("monitoring_prometheus_enabled", "monitoring_postgres_enabled", "usage_source"),
     "/metrics and the ledger are always there"),
    (("swagger_*", "app_title", "hidden_routers"), "there is no page of that kind to set up"),
    (("auth_master_key", "auth_secret_key", "auth_bootsrap_*", "auth_bootstrap_*"),
     "administration goes through a socket that only its user may open; keys are hashed with a secret that Beffroi makes"),
    (("postgres", "redis", "celery"),
     "Beffroi keeps all its state in its data directory; no database or cache server is needed"),
)  # fmt: skip
_LEFT = (
    (("auth_key_max_expiration_days",), "keys live a year unless told otherwise", "`beffroi keys create NAME --expires-days …`"),
    (("auth_*",), "there are no users, roles and logins yet", "make a key for each user or application: `beffroi keys create NAME`"),
    (("playground_*", "front_url"), "there is no playground", ""),
    (("disabled_routers",), "endpoints are told for each model", "write `endpoints` under the model"),
    (("vector_store_model", "document_parsing_*", "elasticsearch", "albert", "marker"),
     "documents and searches in them are not served", "keep that service, and give it a key of Beffroi for its models"),
    (("monitoring_*", "langfuse", "sentry"), "Beffroi sends records nowhere", "read its /metrics, its ledger and its logs from there"),
)  # fmt: skip


def convert(root: Part, environ: Mapping[str, str]) -> Pools:
    """The whole file."""
    return _OpenGateLLM(environ).convert(root)


class _OpenGateLLM(Pools):
    def __init__(self, environ: Mapping[str, str]) -> None:
        super().__init__("EUR", environ)
        self._parts: dict[str, Part] = {}

    def convert(self, root: Part) -> Pools:
        for router in root.groups("models"):
            self._router(router)
        self.settle_prices(self._parts)
        self.settle_times()
        for router in self._parts.values():
            aliases = router.take("aliases") or []
            for index, alias in enumerate(aliases if isinstance(aliases, list) else [aliases]):
                self.alias(router, str(alias), str(router.values["name"]).strip(), "aliases", index)
            self._judge(router)
        for section in ("settings", "dependencies"):
            self._judge(root.group(section))
        self._judge(root)
        self.finish("Write `prices` where money is counted.")
        self.report.note(
            "Its prices name no currency; they became euros. Write `currency` under `prices` if they were another."
        )
        self.report.note(
            "Users, roles, their limits and keys are in OpenGateLLM's database: make a key for each with"
            " `beffroi keys create`, with the limits of its role. Models made in its playground are there too."
        )
        return self

    def _plain(self, part: Part, name: str) -> str | None:
        """A setting with its variables replaced, as OpenGateLLM does when it starts."""
        text = part.text(name)
        if text is None:
            return None
        missing = [match[1] for match in _VARIABLE.finditer(text) if match[2] is None and match[1] not in self.environ]
        if missing:
            self.report.left(
                part,
                name,
                message=f"the environment has no {missing[0]}, so its value is not known",
                advice=f"set {missing[0]} and import again",
            )
            return None
        return _VARIABLE.sub(lambda match: self.environ.get(match[1]) or match[2] or "", text) or None

    def _router(self, router: Part) -> None:
        name = router.text("name")
        if name is None or not self.usable_name(router, name, "name"):
            if name is None:
                self.report.left(router, message="it has no `name`")
            return
        kind = router.text("type") or "text-generation"
        if kind not in _ENDPOINTS:
            self.report.left(router, message=f"{name}: Beffroi serves chat, completions and embeddings, not `{kind}`")
            return
        prices = {field: router.take(field) for field in _PRICES}
        owner = router.text("owned_by")
        for provider in router.groups("providers"):
            self._provider(router, provider, name, prices)
        model = self.draft.models.get(name)
        if model is None:
            self.report.left(router, message=f"{name}: no provider of it is an engine of yours")
            return
        self._parts[name] = router
        model.fields["endpoints"] = _ENDPOINTS[kind]
        if owner is not None:
            model.fields["owned_by"] = owner

    def _provider(self, router: Part, provider: Part, name: str, prices: dict[str, Any]) -> None:
        kind = provider.text("type") or ""
        base = self._plain(provider, "url")
        if base is None and provider.values.get("url"):
            return  # its address is not known, and the report says so
        address = self.address(provider, name, _KINDS.get(kind, kind), base)
        if address is None:
            return
        upstream = self._plain(provider, "model_name") or name
        model = self.deploy(provider, name, upstream, address, self._key(provider))
        if model is None:
            return
        found = {
            _PRICES[field]: (router, field, value) for field, value in prices.items() if value is not None
        }  # an older file tells them by provider
        for field, kind_of_token in _PRICES.items():
            value = provider.take(f"model_{field}")
            if value is not None:
                found[kind_of_token] = (provider, f"model_{field}", value)
        model.prices.append(self.price(found, 1))
        self.time("answer_timeout", provider, "timeout", whole=False)
        self._judge(provider)

    def _key(self, provider: Part) -> Secret | None:
        text = provider.text("key")
        whole = _VARIABLE.fullmatch(text) if text else None
        if whole is None:
            return self.secret(provider, "key", None, self._plain(provider, "key"))
        if whole[2] and whole[1] not in self.environ:
            return self.secret(provider, "key", None, whole[2])  # the default is what it used
        return self.secret(provider, "key", whole[1], None)

    def _judge(self, part: Part) -> None:
        for name in list(part.rest()):
            if part.take(name) in (None, "", False, [], {}):
                continue
            for patterns, message in _OTHERWISE:
                if any(fnmatchcase(name, pattern) for pattern in patterns):
                    self.report.otherwise(part, name, message=message)
                    break
            else:
                message, advice = next(
                    (
                        (message, advice)
                        for patterns, message, advice in (*_PROVIDER, *_LEFT)
                        if any(fnmatchcase(name, pattern) for pattern in patterns)
                    ),
                    ("the importer does not know it", "look whether you need it"),
                )
                self.report.left(part, name, message=message, advice=advice)
