# SPDX-License-Identifier: Apache-2.0
"""LiteLLM's proxy file: `model_list` becomes engines and models with pools, prices and other names.

In: its parsed file, and the environment that its `os.environ/NAME` speak of. Out: what `pools` gathers, and its keys.
"""

import zoneinfo
from collections.abc import Mapping
from typing import Any

from beffroi.cli.importer.draft import Model
from beffroi.cli.importer.engines import split_model
from beffroi.cli.importer.fallbacks import Fallbacks
from beffroi.cli.importer.keys import Keys
from beffroi.cli.importer.litellm_settings import judge
from beffroi.cli.importer.pools import Pools
from beffroi.cli.importer.reading import Part

_ENVIRONMENT = "os.environ/"
_MODES = {"chat", "completion", "embedding"}
_PRICES = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "output_cost_per_reasoning_token": "reasoning",
    "cache_read_input_token_cost": "cached",
}
_LIMITS = {"tpm", "rpm", "max_parallel_requests"}
_ORDER = {"weight", "order"}
_RETRIES = {"num_retries", "max_retries", "retry_after", "cooldown_time", "allowed_fails"}
_FACTS = {"id", "description", "base_model", "version", "litellm_provider", "mode", "supported_openai_params", "key"}


def convert(root: Part, environ: Mapping[str, str], keys: Part | None) -> tuple[Pools, Keys]:
    """The whole file, and the list of keys beside it, if there is one."""
    return _LiteLLM(root, environ).convert(keys)


class _LiteLLM(Pools):
    def __init__(self, root: Part, environ: Mapping[str, str]) -> None:
        super().__init__("USD", environ)
        self._root = root
        self._given = root.group("environment_variables")
        self._credentials = {
            part.text("credential_name"): part.group("credential_values") for part in root.groups("credential_list")
        }
        self._parts: dict[str, Part] = {}

    def convert(self, keys: Part | None) -> tuple[Pools, Keys]:
        root = self._root
        for entry in root.groups("model_list"):
            self._deployment(entry)
        for variable in self._given.rest():
            if self._given.values[variable] is not None:
                self.report.otherwise(
                    self._given, variable, message="engines' keys apart, Beffroi reads no environment of its own file"
                )
        self.settle_prices(self._parts)
        settings, router = root.group("litellm_settings"), root.group("router_settings")
        general = root.group("general_settings")
        self._aliases(router, "model_group_alias")
        self._aliases(settings, "model_alias_map")
        fallbacks = Fallbacks(self.draft, self.report)
        fallbacks.read(settings)
        fallbacks.read(router)
        fallbacks.settle()
        self.time("answer_timeout", router, "timeout", whole=True)
        self.time("answer_timeout", settings, "request_timeout", whole=True)
        self.time("first_token_timeout", router, "stream_timeout", whole=True)
        self.settle_times()
        self._sizes(general)
        self._zone(settings)
        if general.take("master_key") is not None:
            self.report.left(
                general,
                "master_key",
                message="there is no master key: administration goes through a socket that only its user may open",
                advice="clients that used it need a key of their own: `beffroi keys create NAME`",
            )
        made = Keys(self.report, self.draft)
        made.defaults(settings)
        for listing in (root, keys):
            if listing is not None:
                made.listed(listing)
        for section in (settings, router, general):
            judge(section, self.report)
        judge(root, self.report)
        self.finish("LiteLLM's own table of prices is not carried over; write `prices` where money is counted.")
        self.report.note(
            "LiteLLM's keys are in its database as hashes and cannot be carried over: clients need new keys"
            " (`beffroi keys create`; `--keys` reads the answer of its /key/list for names and limits)."
        )
        self.report.note(
            "LiteLLM listens on port 4000: `beffroi serve --port 4000` keeps the address that clients know."
        )
        self.report.note("Amounts were in US dollars and stay so; a budget counts in the currency of the price.")
        return self, made

    def _plain(self, part: Part, name: str) -> str | None:
        """A setting whose value may be named in the environment."""
        text = part.text(name)
        if text is None or not text.startswith(_ENVIRONMENT):
            return text
        variable = text.removeprefix(_ENVIRONMENT)
        value = self._given.text(variable) or self.environ.get(variable)
        if not value:
            self.report.left(
                part,
                name,
                message=f"the environment has no {variable}, so its value is not known",
                advice=f"set {variable} and import again",
            )
        return value

    def _deployment(self, entry: Part) -> None:
        name = entry.text("model_name")
        params, info = entry.group("litellm_params"), entry.group("model_info")
        if name is None or not self.usable_name(entry, name, "model_name"):
            if name is None:
                self.report.left(entry, message="it has no `model_name`")
            return
        credential = self._credential(params)
        if credential is None:
            return
        full = self._plain(params, "model")
        if full is None:
            self.report.left(entry, message=f"{name}: `litellm_params.model` is missing")
            return
        mode = info.text("mode") or params.text("mode") or "chat"
        if mode not in _MODES:
            self.report.left(entry, message=f"{name}: Beffroi serves chat, completions and embeddings, not `{mode}`")
            return
        prefix, upstream = split_model(full, params.text("custom_llm_provider"))
        told = "api_base" if "api_base" in {*params.values, *credential.values} else "base_url"
        holder = params if told in params.values else credential
        base = self._plain(holder, told)
        if base is None and holder.values.get(told) is not None:
            return  # its address is not known, and the report says so
        if "*" in upstream:
            self.usable_name(params, upstream, "model")
            return
        address = self.address(entry, name, prefix, base)
        if address is None:
            return
        model = self.deploy(entry, name, upstream, address, self._key(params, credential))
        if model is None:
            return
        self._parts.setdefault(name, entry)
        if mode == "embedding":
            model.fields["endpoints"] = ["embeddings"]
        self._prices(model, params, info)
        self._bounds(model, params, info)
        self.time("answer_timeout", params, "timeout", whole=False)
        self.time("first_token_timeout", params, "stream_timeout", whole=False)
        self._others(entry, params, info)

    def _credential(self, params: Part) -> Part | None:
        name = params.text("litellm_credential_name")
        if name is None:
            return Part({}, params.place, {}, "")
        found = self._credentials.get(name)
        if found is None:
            self.report.left(params, "litellm_credential_name", message=f"there is no `{name}` in `credential_list`")
        return found

    def _key(self, params: Part, credential: Part) -> Any:
        part = params if "api_key" in params.values else credential
        text = part.text("api_key")
        if text is None or not text.startswith(_ENVIRONMENT):
            return self.secret(part, "api_key", None, text)
        variable = text.removeprefix(_ENVIRONMENT)
        given = self._given.text(variable)
        if given is None:
            return self.secret(part, "api_key", variable, None)
        return self.secret(self._given, variable, None, given)

    def _prices(self, model: Model, params: Part, info: Part) -> None:
        found: dict[str, tuple[Part, str, Any]] = {}
        for part in (info, params):  # what stands beside the address wins
            for name, kind in _PRICES.items():
                value = part.take(name)
                if value is not None:
                    found[kind] = (part, name, value)
        model.prices.append(self.price(found, 1_000_000))

    def _bounds(self, model: Model, params: Part, info: Part) -> None:
        """`max_output_tokens` bounds an answer; the context is bounded by it and `max_input_tokens` together."""
        output = info.take("max_output_tokens") or info.take("max_tokens")
        context = info.take("max_input_tokens")
        fields = model.fields
        if _count(output):
            fields.setdefault("max_output", output)
        if _count(context):
            fields["max_model_len"] = max(context + (output if _count(output) else 0), fields.get("max_output", 0))
            self.report.converted(
                info,
                "max_input_tokens",
                message=f"{model.id}: max_model_len {fields['max_model_len']}, input and output together;"
                " write the engine's own context if it is another",
            )
        default = params.take("max_tokens")
        if _count(default):
            fields["default_max_tokens"] = default
            self.report.left(
                params,
                "max_tokens",
                message=f"{model.id}: sent only where a hard budget needs a bound (default_max_tokens), not with every request",
                advice="set it in the clients, or bound answers with `max_output`",
            )

    def _others(self, entry: Part, params: Part, info: Part) -> None:
        for part in (params, info, entry):
            for name in list(part.rest()):
                if part.take(name) in (None, "", False, [], {}):
                    continue
                if name in _LIMITS:
                    self.report.left(
                        part,
                        name,
                        message="an engine has no limits in Beffroi; keys have them",
                        advice="limit keys (`beffroi keys create NAME --tokens-per-minute …`), and the engine's own queue",
                    )
                elif name in _ORDER:
                    self.report.left(part, name, message="engines of a pool are equal; the one with less work is asked")
                elif name in _RETRIES:
                    self.report.otherwise(part, name, message="the same for all engines in Beffroi")
                elif "cost" in name:
                    self.report.left(
                        part, name, message="prices are per token, by class: input, cached, output, reasoning"
                    )
                elif name in ("access_groups", "team_id"):
                    self.report.left(
                        part, name, message="models are permitted by key", advice="`beffroi keys create NAME --model …`"
                    )
                elif part is info and (name in _FACTS or name.startswith("supports_")):
                    self.report.otherwise(part, name, message="a remark; Beffroi asks the engine and not a table")
                elif part is not params:
                    self.report.left(
                        part, name, message="the importer does not know it", advice="look whether you need it"
                    )
                else:
                    self.report.left(
                        part,
                        name,
                        message="LiteLLM put it into each request; Beffroi sends what the client sent",
                        advice="set it in the clients, or start the engine with it",
                    )

    def _aliases(self, part: Part, name: str) -> None:
        group = part.group(name)
        for alias, value in group.values.items():
            target = value.get("model") if isinstance(value, dict) else value
            self.alias(group, alias, str(target), alias)

    def _sizes(self, general: Part) -> None:
        for name, setting in (("max_request_size_mb", "max_body"), ("max_response_size_mb", "max_answer")):
            value = general.take(name)
            if isinstance(value, int | float) and 0.01 <= value <= 1024:
                self.draft.gateway[setting] = int(value * (1 << 20))
                self.report.converted(general, name, message=f"gateway.{setting}")
            elif value is not None:
                self.report.left(general, name, message=f"`gateway.{setting}` is between 0.01 and 1024 MiB")

    def _zone(self, settings: Part) -> None:
        zone = self._plain(settings, "timezone")
        if zone is None:
            return
        try:
            zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            self.report.left(
                settings, "timezone", message=f"there is no zone `{zone}`", advice="write `gateway.time_zone`"
            )
            return
        self.draft.gateway["time_zone"] = zone
        self.report.converted(settings, "timezone", message="gateway.time_zone")


def _count(value: Any) -> bool:
    """Whether it is a whole number above zero."""
    return type(value) is int and value > 0
