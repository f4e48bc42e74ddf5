# SPDX-License-Identifier: Apache-2.0
"""What becomes of each thing in LiteLLM's file, and what is said of what could not be kept."""

import pytest

from tests.cli.importer.conftest import Importer

HEAD = "model_list:\n  - model_name: m\n    litellm_params:\n      model: {model}\n"


def test_the_agencys_file_is_told_line_by_line(importer: Importer) -> None:
    """Nothing of it is passed over: each thing that is lost has its line and, where there is one, a way out."""
    done = importer("litellm", importer.sample("litellm-agency.yaml"), env={"QWEN_BASE": "http://qwen:8000/v1"})
    assert done.status == 3
    left = {(item["line"], item["name"]) for item in done.report["left"]}
    text = importer.sample("litellm-agency.yaml").read_text().splitlines()
    lines = {name: number for number, row in enumerate(text, 1) for name in [row.strip().partition(":")[0]]}
    for setting in ("temperature", "max_tokens", "success_callback", "cache", "master_key"):
        assert any(line == lines[setting] and name.endswith(setting) for line, name in left), setting
    for place in ("model_list[3]", "model_list[4]", "model_list[5]", "model_list[6]", "model_list[7].model_name"):
        assert place in {name for _, name in left}, place
    for setting in ("context_window_fallbacks", "fallbacks", "max_budget", "alerting", "store_model_in_db", "gpt-4"):
        assert [name for _, name in left if name.endswith(setting)], setting
    assert [name for _, name in left if name.startswith("guardrails")]
    assert done.document["gateway"] == {"answer_timeout": 120, "first_token_timeout": 30}
    assert done.model("assistant")["prices"] == [
        {"input": 0.5, "output": 2, "reasoning": 3, "cached": 0.1, "currency": "USD"}
    ]
    assert any("hashes" in note for note in done.report["notes"])
    assert [done.model(name).get("fallbacks") for name in ("assistant", "drafts", "vault")] == [
        ["vault"],
        None,
        ["drafts"],
    ]
    assert "gpt-4o" in done.said("left", "router_settings.fallbacks")[0]["message"]


def test_a_file_that_is_taken_whole_ends_with_status_zero(importer: Importer) -> None:
    """One engine, one model, what Beffroi does anyway: nothing was left."""
    file = importer.text(
        "model_list:\n  - model_name: m\n    litellm_params: {model: hosted_vllm/x, api_base: 'http://g:8000/v1'}\n"
        "litellm_settings: {drop_params: true, num_retries: 3, timezone: Europe/Brussels, cache: false}\n"
        "router_settings: {routing_strategy: least-busy}\n"
    )
    done = importer("litellm", file)
    assert done.status == 0, done.report["left"]
    assert done.report["complete"] is True
    assert done.document == {
        "gateway": {"time_zone": "Europe/Brussels"},
        "resources": {
            "engines": [{"name": "g-8000", "url": "http://g:8000", "kind": "vllm"}],
            "models": [{"id": "m", "targets": [{"engine": "g-8000", "model": "x"}]}],
        },
    }


@pytest.mark.parametrize(
    ("model", "base", "engine"),
    [
        ("hosted_vllm/x", "http://g:8000/v1/", {"name": "g-8000", "url": "http://g:8000", "kind": "vllm"}),
        ("openai/x", "http://g:8000/proxy/v1", {"name": "g-8000", "url": "http://g:8000/proxy"}),
        ("openai/x", "http://g:8000/v1/chat/completions", {"name": "g-8000", "url": "http://g:8000"}),
        ("openai/x", "http://10.0.0.9:11434/v1", {"name": "10.0.0.9-11434", "url": "http://10.0.0.9:11434", "kind": "ollama"}),
        ("ollama/x", None, {"name": "ollama-11434", "url": "http://localhost:11434", "kind": "ollama"}),
        ("ollama_chat/x", "http://desk.lan:11434", {"name": "desk-11434", "url": "http://desk.lan:11434", "kind": "ollama"}),
        ("lm_studio/x", None, {"name": "openai-1234", "url": "http://127.0.0.1:1234"}),
        ("mistral/x", "https://llm.town.example/v1", {"name": "llm", "url": "https://llm.town.example"}),
        ("org/x", "http://[fd00::9]:8000/v1", {"name": "fd00--9-8000", "url": "http://[fd00::9]:8000"}),
    ],
)  # fmt: skip
def test_an_address_becomes_an_engine(importer: Importer, model: str, base: str | None, engine: dict[str, str]) -> None:
    """The dialect from the prefix, `/v1` left out, a name that a person reads."""
    text = HEAD.format(model=model) + (f"      api_base: '{base}'\n" if base else "")
    done = importer("litellm", importer.text(text))
    assert done.document["resources"]["engines"] == [engine]


@pytest.mark.parametrize(
    ("model", "base", "why"),
    [
        ("gpt-4o", None, "remote"),
        ("openai/gpt-4o", None, "OpenAI"),
        ("openai/gpt-4o", "https://api.openai.com/v1", "api.openai.com"),
        ("azure/gpt-4o", "https://x.openai.azure.com", "Azure"),
        ("anthropic/claude", None, "Anthropic"),
        ("bedrock/x", None, "Bedrock"),
        ("mistral/mistral-large-latest", None, "Mistral"),
        ("openai/x", "https://x.endpoints.huggingface.cloud/v1", "huggingface.cloud"),
        ("triton/x", "http://gpu:8000", "protocol of its own"),
        ("hosted_vllm/x", None, "no address"),
        ("hosted_vllm/x", "http://user:hush@gpu:8000/v1", "a name and a password"),
        ("hosted_vllm/x", "gopher://gpu:8000", "no address of an engine"),
        ("openai/*", "http://gpu:8000/v1", "any name"),
    ],
)
def test_what_is_no_engine_of_ours_is_left(importer: Importer, model: str, base: str | None, why: str) -> None:
    """Beffroi calls nobody outside; with nothing to serve no file is written."""
    text = HEAD.format(model=model) + (f"      api_base: {base}\n" if base else "")
    done = importer("litellm", importer.text(text))
    assert done.status == 1
    assert not done.config.exists()
    said = " ".join(item["message"] for item in done.report["left"])
    assert why in said
    assert "hush" not in done.output + done.error


def test_an_address_from_the_environment_must_be_there(importer: Importer) -> None:
    """Without it nobody knows the engine; the report says which variable to set."""
    file = importer.text(HEAD.format(model="hosted_vllm/x") + "      api_base: os.environ/GPU_BASE\n")
    (item,) = importer("litellm", file).said("left", "api_base")
    assert (item["line"], "GPU_BASE" in item["advice"]) == (5, True)
    done = importer("litellm", file, env={"GPU_BASE": "http://gpu:9/v1"})
    assert done.document["resources"]["engines"][0]["url"] == "http://gpu:9"


def test_one_engine_stands_once_in_a_pool(importer: Importer) -> None:
    """The same again is no second engine; under another name it would be another model."""
    entry = "  - model_name: m\n    litellm_params: {{model: hosted_vllm/{}, api_base: 'http://g:1/v1'}}\n"
    done = importer("litellm", importer.text("model_list:\n" + entry.format("a") * 2 + entry.format("b")))
    assert done.model("m")["targets"] == [{"engine": "g-1", "model": "a"}]
    assert "in its pool already" in done.said("otherwise", "model_list[1]")[0]["message"]
    assert "`a`" in done.said("left", "model_list[2]")[0]["message"]


def test_deployments_of_different_prices_get_the_dearest(importer: Importer) -> None:
    """A model has one price; which was taken is said. One that tells none changes nothing."""
    entry = "  - model_name: m\n    litellm_params: {{model: hosted_vllm/a, api_base: 'http://g{0}:1/v1'{1}}}\n"
    prices = [", input_cost_per_token: 1e-6, output_cost_per_token: 2e-6", ", input_cost_per_token: 3e-6", ""]
    text = "model_list:\n" + "".join(entry.format(number, price) for number, price in enumerate(prices))
    done = importer("litellm", importer.text(text))
    assert done.model("m")["prices"] == [{"input": 3, "output": 2, "currency": "USD"}]
    assert "dearest" in done.said("left", "model_list[0]")[0]["message"]


@pytest.mark.parametrize(
    ("price", "written"),
    [("0.00000015", 0.15), ("1.2345e-11", "0.000012345"), ("4e-6", 4), ("0", None)],
)
def test_a_price_is_kept_to_its_last_digit(importer: Importer, price: str, written: object) -> None:
    """However it is written; nothing is free that was not, and what was free stays without a price."""
    file = HEAD.format(model="ollama/x") + f"    model_info: {{input_cost_per_token: {price}}}\n"
    done = importer("litellm", importer.text(file))
    prices = done.model("m").get("prices")
    assert prices == (None if written is None else [{"input": written, "currency": "USD"}])


def test_a_price_finer_than_money_can_be_is_left(importer: Importer) -> None:
    """With its line, and not rounded away."""
    file = (
        HEAD.format(model="ollama/x")
        + "    model_info:\n      input_cost_per_token: 1.0e-17\n      input_cost_per_second: 1\n"
    )
    done = importer("litellm", importer.text(file))
    assert "finer" in done.said("left", "input_cost_per_token")[0]["message"]
    assert "per token" in done.said("left", "input_cost_per_second")[0]["message"]
    assert "prices" not in done.model("m")


def test_names_that_clash_or_cannot_be_are_left(importer: Importer) -> None:
    """An alias never takes a model's name, and never stands for what is not there."""
    text = (
        "model_list:\n"
        "  - {model_name: a, litellm_params: {model: ollama/x}}\n"
        "  - {model_name: b, litellm_params: {model: ollama/y}}\n"
        "  - {model_name: two words, litellm_params: {model: ollama/z}}\n"
        "router_settings: {model_group_alias: {b: a, c: a, d: e, 'f g': a}}\n"
    )
    done = importer("litellm", importer.text(text))
    assert done.model("a")["aliases"] == ["c"]
    assert [model["id"] for model in done.document["resources"]["models"]] == ["a", "b"]
    left = {item["name"] for item in done.report["left"]}
    assert {f"router_settings.model_group_alias.{name}" for name in ("b", "d", "f g")} <= left
    assert "model_list[2].model_name" in left


def test_a_page_of_keys_says_that_there_are_more(importer: Importer) -> None:
    """What LiteLLM answers is a page; who imports one must know of the others."""
    file = importer.text("model_list:\n  - {model_name: a, litellm_params: {model: ollama/a}}\n")
    page = importer.text('{"keys": [{"key_alias": "k"}], "total_pages": 3, "current_page": 1}', "keys.json")
    done = importer("litellm", file, "--keys", str(page))
    assert "page 1 of 3" in done.said("left", "total_pages")[0]["message"]
    bare = importer.text('[{"key_alias": "k", "tpm_limit": 0, "duration": "90m", "soft_budget": 3}]', "keys.json")
    done = importer("litellm", file, "--keys", str(bare), "--force")
    assert "make k --expires-days 1\n" in (done.folder / "beffroi-keys.sh").read_text()
    assert {item["name"] for item in done.report["left"]} == {
        "keys.json: keys[0].tpm_limit",
        "keys.json: keys[0].soft_budget",
    }


def test_bounds_of_deployments_fit_each_other(importer: Importer) -> None:
    """However the old file contradicts itself, what is written can be served."""
    text = "model_list:\n" + "".join(
        f"  - {{model_name: a, litellm_params: {{model: ollama/a, api_base: 'http://{host}:1'}}, model_info: {info}}}\n"
        for host, info in (("x", "{max_output_tokens: 9000}"), ("y", "{max_input_tokens: 100, max_output_tokens: 5}"))
    )
    done = importer("litellm", importer.text(text + "litellm_settings: {timezone: Moon/Back}\n"))
    assert (done.model("a")["max_output"], done.model("a")["max_model_len"]) == (9000, 9000)
    assert "Moon/Back" in done.said("left", "timezone")[0]["message"]


def test_fallbacks_are_ids_of_models_that_serve_the_same(importer: Importer) -> None:
    """By alias or name, each once and not itself; four at most; a list of its own comes before the one for all."""
    entry = "  - {{model_name: {0}, litellm_params: {{model: ollama/{0}}}{1}}}\n"
    text = (
        "model_list:\n"
        + "".join(entry.format(name, "") for name in "abcdef")
        + entry.format("v", ", model_info: {mode: embedding}")
        + "router_settings:\n  model_group_alias: {bee: b}\n"
        "  fallbacks: [{a: [bee, b, a]}, {bee: [a, c, d, e, f]}, {c: [v]}, {nobody: [a]}]\n"
        "litellm_settings:\n  fallbacks: [{'*': [a]}]\n"
    )
    done = importer("litellm", importer.text(text))
    assert {name: done.model(name).get("fallbacks") for name in "abcdv"} == {
        "a": ["b"],
        "b": ["a", "c", "d", "e"],
        "c": ["a"],
        "d": ["a"],
        "v": None,
    }
    left = " ".join(item["message"] for item in done.said("left", "router_settings.fallbacks"))
    assert "`nobody`" in left and "four" not in left and "4 others" in left


def test_one_time_out_for_all_models(importer: Importer) -> None:
    """What held for all stands; what a deployment wanted otherwise is told. Without one for all, the longest."""
    entry = "  - model_name: m{0}\n    litellm_params: {{model: ollama/{0}, timeout: {0}0}}\n"
    text = "model_list:\n" + entry.format(1) + entry.format(9)
    done = importer("litellm", importer.text(text))
    assert done.document["gateway"] == {"answer_timeout": 90}
    assert [item["line"] for item in done.said("left", "timeout")] == [3]
    done = importer("litellm", importer.text(f"{text}litellm_settings: {{request_timeout: 10}}\n"), "--force")
    assert done.document["gateway"] == {"answer_timeout": 10}
    assert [item["line"] for item in done.said("left", "timeout")] == [5]


def test_keys_of_the_file_and_of_a_listing_become_a_script(importer: Importer) -> None:
    """Names, models, limits, budgets and ends; what has no counterpart is told; no token is in any of it."""
    file = importer.sample("litellm-campus.yaml")
    listing = importer.sample("litellm-keys.json")
    done = importer("litellm", file, "--keys", str(listing), env={"CAMPUS_VLLM_KEY": "k", "REDIS_HOST": "r"})
    script = (done.folder / "beffroi-keys.sh").read_text()
    assert (
        "make 'timetable bot' --model campus-chat --tokens-per-minute 20000 --requests-per-minute 2 --concurrency 4"
        " --soft-budget 20.5 --budget-period month --expires-days 365\n"
    ) in script
    assert "--model bge-m3" in script and "--long-lived" in script
    assert "old" not in script and "shut" not in script and "pictures" not in script
    assert 'make "$name" --model campus-chat --tokens-per-minute 60000 --requests-per-minute 30' in script
    assert "88dc28d0" not in script + done.output + done.config.read_text()
    left = {item["name"]: item["message"] for item in done.report["left"]}
    assert "gpt-4-vision" in left["litellm-keys.json: keys[1].models"]
    assert "per 7d" in left["litellm-keys.json: keys[1].max_budget"]
    assert "not made" in left["litellm-keys.json: keys[4]"]
