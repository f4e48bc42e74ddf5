# SPDX-License-Identifier: Apache-2.0
"""What LiteLLM's settings are in Beffroi, where nothing has to be written for them or nothing can be.

In: the sections of its file. Out: a line in the report for each setting, known or not.
"""

from fnmatch import fnmatchcase

from beffroi.cli.importer.reading import Part
from beffroi.cli.importer.report import Report

_STORE = "Beffroi keeps all its state in its data directory; no database or cache server is needed"
_RETRY = "up to three engines of a pool are tried, within a retry budget, before the first byte of an answer"
_HEALTH = "an engine that fails three times in a row is left out for 5 to 60 s and let back by a trial"
_ROUTE = "each request goes to the engine with the least work in hand of two that are drawn"
_THROUGH = "fields that Beffroi does not know pass to the engine as they came"
_LOGS = "see the settings of the process log; prompts and answers are never logged"
_PLACE = "set on the command line or under `server:`"

OTHERWISE = (
    (("database_*", "redis_*", "store_model_in_db_*", "enable_redis_auth_cache", "use_redis_*"), _STORE),
    (("proxy_batch_write_at", "disable_spend_logs", "disable_spend_updates", "allow_requests_on_db_unavailable",
      "disable_reset_budget", "proxy_budget_rescheduler_*", "disable_budget_reservation", "proxy_batch_polling_interval",
      "fail_closed_budget_enforcement", "maximum_spend_logs_*", "use_shared_health_check", "cache_kwargs"),
     "usage goes through the journal into the ledger, once for each request, whatever fails"),
    (("num_retries", "max_retries", "retry_policy", "retry_after", "model_group_retry_policy"), _RETRY),
    (("allowed_fails", "allowed_fails_policy", "cooldown_time", "disable_cooldowns", "background_health_checks",
      "health_check_*", "enable_pre_call_checks", "enable_health_check_routing"), _HEALTH),
    (("routing_strategy", "routing_strategy_args"), _ROUTE),
    (("max_fallbacks", "enforce_fallback_*"), "a fallback needs the key's permission and is under its limits, always"),
    (("drop_params", "modify_params", "allowed_openai_params", "additional_drop_params"), _THROUGH),
    (("set_verbose", "json_logs", "log_*", "turn_off_message_logging", "redact_*", "debug_level", "suppress_debug_info",
      "request_correlation_in_logs", "store_prompts_in_spend_logs"), _LOGS),
    (("telemetry",), "Beffroi calls nobody"),
    (("port", "host", "num_workers"), _PLACE),
    (("disable_*_return", "ui_*", "master_key_hash", "store_audit_logs", "disable_adding_master_key_hash_to_db",
      "disable_master_key_return", "forward_traceparent_to_llm_provider", "supported_db_objects"),
     "there is nothing in Beffroi that it would switch"),
)  # fmt: skip
_KEYS = "make keys with `beffroi keys create`, with the limits that each needs"
_OBSERVE = "read Beffroi's /metrics, its ledger (`beffroi usage`) and its logs from there"
LEFT = (
    (("callbacks", "success_callback", "failure_callback", "service_callback", "langfuse_*", "callback_settings",
      "*_callback", "audit_log_callbacks"), "Beffroi sends records nowhere", _OBSERVE),
    (("alerting*", "alert_*", "slack_*", "email*"), "Beffroi sends no alerts", "make alerts of its /metrics"),
    (("cache", "cache_params", "enable_caching*", "cache_responses"), "answers are not cached", ""),
    (("context_window_fallbacks", "content_policy_fallbacks"),
     "another model by the kind of error is not there: an error that is the request's fault goes to the client",
     "choose the model by its context in the client"),
    (("max_budget", "budget_duration"), "it is a budget of the whole; Beffroi's budgets belong to keys",
     "share it out: `beffroi keys create NAME --soft-budget …`"),
    (("*_budget", "default_team_*", "default_internal_*", "max_*_budget*"), "there are no users or teams yet", _KEYS),
    (("max_parallel_requests", "global_max_parallel_requests", "max_in_flight_requests_per_worker",
      "max_queued_requests_per_worker"), "concurrency is bounded for each key, not for the whole or an engine",
     "`beffroi keys create NAME --concurrency …`, and the engine's own queue"),
    (("custom_auth*", "enable_jwt_auth", "litellm_jwtauth", "enable_oauth2*", "*sso*", "custom_key_*", "custom_sso",
      "key_generation_settings", "key_management_*", "public_routes", "allowed_routes", "admin_only_routes",
      "enforced_params", "enforce_user_param", "user_header_*", "allowed_ips", "service_account_settings"),
     "clients authenticate with Beffroi's own keys alone", _KEYS),
    (("include",), "files that it includes are not read", "put them into one file and import that"),
    (("store_model_in_db",), "models that were made in its web page are in its database and not in this file",
     "write them into `model_list` and import again"),
    (("pass_through_endpoints", "mcp_*", "search_tools", "vector_store*", "assistant*", "files_settings",
      "finetune_settings", "batch*", "completion_model", "image_generation_model"),
     "Beffroi serves chat, completions and embeddings", ""),
    (("cost_discount_config", "cost_margin_config"), "a price list has no discounts and margins beside it",
     "write the final amounts under `prices`"),
    (("*guardrail*", "prompt_*", "prompts"), "it is not carried over",
     "see `gateway.guard` for the checks that Beffroi has"),
    (("enable_tag_filtering", "tag_*", "enable_weighted_failover", "deployment_affinity*", "routing_groups",
      "provider_budget_config", "optional_pre_call_checks"), "requests are not routed by tag, provider or budget",
     "give each group a model of its own, and permit it with `beffroi keys create NAME --model …`"),
    (("ssl_verify", "ssl_certificate", "force_ipv4", "http2", "disable_aiohttp_transport"),
     "how engines are reached is told for each engine", "`ca_file` of an https engine names its CA"),
    (("use_x_forwarded_for", "mcp_trusted_proxy_ranges"), "the proxies in front are told by address",
     "write them as `gateway.trusted_proxies`"),
)  # fmt: skip


def judge(part: Part, report: Report) -> None:
    """A line for each setting of a section that was not taken."""
    for name in list(part.rest()):
        value = part.take(name)
        if value is None or value in ({}, [], "", False):
            continue  # set to nothing: as good as not set
        for patterns, message in OTHERWISE:
            if _matches(name, patterns):
                report.otherwise(part, name, message=message)
                break
        else:
            message, advice = next(
                ((message, advice) for patterns, message, advice in LEFT if _matches(name, patterns)),
                ("the importer does not know it", "look whether you need it"),
            )
            report.left(part, name, message=message, advice=advice)


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
