# SPDX-License-Identifier: Apache-2.0
"""From a configuration to the snapshot: names resolved, clashes refused, prices exact."""

from pathlib import Path

import pytest

from beffroi.config.compile import compile_config
from beffroi.config.load import Invalid, parse, resources
from beffroi.core.price import Tokens, cost_of, price_at
from beffroi.core.snapshot import Config, Target

ENGINE = "  engines: [{name: a, url: 'http://127.0.0.1:8000'}]\n"


def compiled(body: str, environ: dict[str, str] | None = None, base: Path = Path()) -> Config:
    """A config from the resources part of a file."""
    return compile_config([parse("resources:\n" + body, "b.yaml", base=base)], 7, environ or {})


def refusal(body: str, environ: dict[str, str] | None = None) -> str:
    """The text of a refusal."""
    with pytest.raises(Invalid) as caught:
        compiled(body, environ)
    return str(caught.value)


def test_a_model_without_targets_goes_to_the_only_engine() -> None:
    """Two lines are a configuration."""
    config = compiled(ENGINE + "  models: [{id: m}]\n")
    assert config.revision == 7
    assert config.models[0].targets == (Target("a", "m"),)
    assert config.engines[0].machine == "a"


def test_a_target_can_name_the_model_otherwise() -> None:
    """What the engine calls it stays inside."""
    config = compiled(ENGINE + "  models: [{id: m, targets: [{engine: a, model: org/M-FP8}]}]\n")
    assert config.models[0].targets == (Target("a", "org/M-FP8"),)


def test_names_that_clash_are_refused() -> None:
    """Engines, models, and aliases with both."""
    assert "already an engine `a`" in refusal("  engines: [{name: a, url: 'http://x'}, {name: a, url: 'http://y'}]\n")
    text = refusal(ENGINE + "  models:\n    - {id: m, aliases: [x]}\n    - {id: x}\n    - {id: n, aliases: [m]}\n")
    assert "b.yaml:5:12: resources.models[1].id: `x` already names the model `m`" in text
    assert "b.yaml:6:25: resources.models[2].aliases[0]: `m` already names the model `m`" in text


def test_a_target_must_name_an_engine_there_is() -> None:
    """And the refusal lists them."""
    assert "there is no engine `b`; there are `a`" in refusal(ENGINE + "  models: [{id: m, targets: [{engine: b}]}]\n")
    assert "there is no engine" in refusal("  models: [{id: m}]\n")


def test_an_engine_stands_once_in_a_pool() -> None:
    """Also under another name of the model: the pool knows an engine by one, and the other would be lost."""
    text = refusal(ENGINE + "  models: [{id: m, targets: [{engine: a, model: one}, {engine: a, model: two}]}]\n")
    assert "targets[1]: the engine `a` stands twice in this pool" in text


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:8000",
        "ftp://x",
        "http://",
        "http://x:99999",
        "http://u:p@x",
        "http://x?a=b",
        "unix:relative",
        "http://x/v1",
    ],
)
def test_a_url_of_another_form_is_refused(url: str) -> None:
    """Credentials and queries too: neither has a place there."""
    assert "url" in refusal(f"  engines: [{{name: a, url: '{url}'}}]\n")


@pytest.mark.parametrize("url", ["http://x", "https://x.y:8443/api", "http://[::1]:8000", "unix:/run/engine.sock"])
def test_a_url_of_the_known_forms_is_taken(url: str) -> None:
    """As it was written."""
    assert compiled(f"  engines: [{{name: a, url: '{url}'}}]\n").engines[0].url == url


def test_prices_are_exact_and_dated_in_the_configured_zone() -> None:
    """The source's figures, 0.9, 4 and 21 € per million, as integers."""
    body = (
        "  models: [{id: m, prices: [{input: 0.9, output: 4, reasoning: 21}, {effective: 2026-02-10, input: 1.9}]}]\n"
    )
    first, second = compiled(ENGINE + body).models[0].prices
    assert (first.input, first.output, first.reasoning) == (900_000_000, 4_000_000_000, 21_000_000_000)
    assert cost_of(Tokens(input=42, output=150, reasoning=8), first).total == 805_800
    assert second.effective == 1_770_678_000  # midnight in Paris, an hour before midnight UTC
    assert price_at((first, second), second.effective - 1) is first
    assert (first.version, second.version) == ("m@start", "m@2026-02-10")


def test_reasoning_costs_as_output_and_cached_as_input_unless_listed() -> None:
    """A short price list has no free classes by accident."""
    (price,) = compiled(ENGINE + "  models: [{id: m, prices: [{input: 1, output: 2}]}]\n").models[0].prices
    assert (price.reasoning, price.cached) == (price.output, None)


@pytest.mark.parametrize(
    "price", ["{input: -1}", "{input: abc}", "{input: 0.0000000001}", "{input: .nan}", "{input: .inf}"]
)
def test_an_amount_that_is_none_is_refused(price: str) -> None:
    """Negative, not a number, finer than a nano-unit."""
    assert "prices[0].input" in refusal(ENGINE + f"  models: [{{id: m, prices: [{price}]}}]\n")


def test_two_prices_of_one_day_are_refused() -> None:
    """Nobody could say which holds."""
    assert "the same day" in refusal(ENGINE + "  models: [{id: m, prices: [{input: 1}, {input: 2}]}]\n")


def test_engine_keys_are_references_and_never_shown(tmp_path: Path) -> None:
    """From the environment or a file; a key written into the configuration is refused without repeating it."""
    (tmp_path / "key").write_text("from-file\n")
    body = (
        "  engines: [{name: a, url: 'http://x', api_key: 'env:K'}, {name: b, url: 'http://x', api_key: 'file:key'}]\n"
    )
    config = compiled(body, {"K": "from-env"}, tmp_path)
    assert [engine.api_key for engine in config.engines] == ["from-env", "from-file"]
    assert "the environment has no K" in refusal("  engines: [{name: a, url: 'http://x', api_key: 'env:K'}]\n")
    text = refusal("  engines: [{name: a, url: 'http://x', api_key: 'sk-canary'}]\n")
    assert "env:NAME" in text and "canary" not in text
    text = refusal("  engines: [{name: a, url: 'http://x', api_key: 'env:K'}]\n", {"K": "two\nlines-canary"})
    assert "canary" not in text


def test_settings_that_types_cannot_check_are_checked() -> None:
    """Zone, proxies, guard."""
    text = "gateway: {time_zone: Paris, trusted_proxies: [here], guard: {tools: block, hidden_text: maybe}}"
    with pytest.raises(Invalid) as caught:
        compile_config([parse(text, "b.yaml")], 1, {})
    assert [problem.name for problem in caught.value.problems] == [
        "gateway.time_zone",
        "gateway.trusted_proxies[0]",
        "gateway.guard.tools",
        "gateway.guard.hidden_text",
    ]
    with pytest.raises(Invalid, match=r"needs `gateway\.trusted_proxies`"):
        compile_config([parse("gateway: {proxy_protocol: true}", "b.yaml")], 1, {})


def test_what_was_found_joins_what_the_file_says() -> None:
    """A model of the file may use an engine that was found; a clash between the two is told."""
    found = resources({"engines": [{"name": "e", "url": "http://127.0.0.1:1"}], "models": [{"id": "n"}]}, "(found)")
    source = parse("resources: {models: [{id: m, targets: [{engine: e}]}]}", "b.yaml")
    assert [model.id for model in compile_config([source, found], 1, {}).models] == ["m", "n"]
    clash = parse("resources: {models: [{id: n, targets: [{engine: e}]}]}", "b.yaml")
    with pytest.raises(Invalid, match="already names"):
        compile_config([clash, found], 1, {})


def test_fallbacks_must_be_other_models_that_are_there() -> None:
    """Each once, four at most, by id, priced in the same money; two may stand in for each other."""
    config = compiled(ENGINE + "  models: [{id: m, fallbacks: [n]}, {id: n, fallbacks: [m]}]\n")
    assert [model.fallbacks for model in config.models] == [("n",), ("m",)]
    text = refusal(
        ENGINE
        + "  models:\n    - {id: m, fallbacks: [m, o, nn, n, n, p, q], prices: [{input: 1}]}\n    - {id: n, aliases: [nn]}\n"
        "    - {id: p, prices: [{input: 1, currency: USD}]}\n    - {id: q}\n"
    )
    for told in (
        "resources.models[0].fallbacks[0]: a model cannot stand in for itself",
        "fallbacks[1]: there is no model `o`; there are `m`, `n`, `p`, `q`",
        "fallbacks[2]: `nn` is another name of `n`; write n",
        "fallbacks[4]: stands twice in this list",
        "fallbacks[5]: is one too many: a model has 4 fallbacks at most",
    ):
        assert told in text, text
    priced = "  models: [{id: m, fallbacks: [p], prices: [{input: 1}]}, {id: p, prices: [{input: 1, currency: USD}]}]\n"
    assert "is priced in USD, and `m` in EUR" in refusal(ENGINE + priced)
