# SPDX-License-Identifier: Apache-2.0
"""What becomes of each thing in OpenGateLLM's file."""

from tests.cli.importer.conftest import Importer

ENV = {"VLLM_KEY": "k"}


def test_the_ministrys_file_is_told_line_by_line(importer: Importer) -> None:
    """Its machines and prices are kept; what lives elsewhere or is not served is named."""
    done = importer("opengatellm", importer.sample("opengatellm-ministry.yml"), env=ENV)
    assert done.status == 3
    large = done.model("ministry-large")
    assert large["aliases"] == ["openweight-large", "chat"]
    assert large["owned_by"] == "DINUM"
    assert large["endpoints"] == ["chat", "completions"]
    assert large["prices"] == [{"input": 0.25, "output": 1.1}]
    assert [target["engine"] for target in large["targets"]] == ["h100-a-8000", "h100-b-8000"]
    assert done.document["gateway"] == {"answer_timeout": 120}
    assert done.model("embeddings")["prices"] == [{"input": 0.01}]
    engines = {engine["name"]: engine for engine in done.document["resources"]["engines"]}
    assert engines["h100-a-8000"]["api_key"] == "env:VLLM_KEY"
    assert engines["tei-8080"]["api_key"] == "file:beffroi.secrets/tei-8080"
    left = " ".join(f"{item['name']}: {item['message']}" for item in done.report["left"])
    for told in ("Albert API", "elasticsearch", "model_hosting_zone", "qos_limit", "auth_login_type", "transcription"):
        assert told in left, told
    assert "auth_key_max_expiration_days" in left and "playground_opengatellm_url" in left
    kept = {item["name"] for item in done.report["otherwise"]}
    assert {"dependencies.postgres", "dependencies.redis", "settings.rate_limiting_strategy"} <= kept
    assert any("roles" in note for note in done.report["notes"])
    assert "changeme" not in done.output


def test_a_variable_with_a_default_is_what_it_would_have_been(importer: Importer) -> None:
    """From the environment where it is set, else the default; a key stays a reference as long as it can."""
    text = (
        "models:\n  - name: m\n    type: text-generation\n    providers:\n"
        "      - {type: vllm, url: '${BASE:-http://one:1}', key: '${KEY:-fallback-key}', model_name: x}\n"
    )
    done = importer("opengatellm", importer.text(text))
    (engine,) = done.document["resources"]["engines"]
    assert (engine["url"], engine["api_key"]) == ("http://one:1", "file:beffroi.secrets/one-1")
    assert (done.folder / "beffroi.secrets" / "one-1").read_text() == "fallback-key\n"
    done = importer("opengatellm", importer.text(text), "--force", env={"BASE": "http://two:2", "KEY": "k"})
    (engine,) = done.document["resources"]["engines"]
    assert (engine["url"], engine["api_key"]) == ("http://two:2", "env:KEY")


def test_a_model_whose_providers_are_all_remote_is_left(importer: Importer) -> None:
    """And so are its other names."""
    text = (
        "models:\n  - {name: a, type: text-generation, aliases: [b], providers: [{type: openai, key: '${K}', model_name: gpt}]}\n"
        "  - {name: c, type: text-generation, providers: [{type: vllm, url: 'http://g:1', model_name: x, basic_auth: {username: u, password: hush}}]}\n"
    )
    done = importer("opengatellm", importer.text(text))
    assert [model["id"] for model in done.document["resources"]["models"]] == ["c"]
    assert done.said("left", "models[0]") and done.said("left", "basic_auth")
    assert "hush" not in done.output
