# SPDX-License-Identifier: Apache-2.0
"""Which engine stands behind a provider's name and address: one of ours to call, or somebody else's service.

In: a provider prefix (`hosted_vllm`), an address. Out: an `Address` in Beffroi's form, or `Foreign` with the reason.
"""

import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

# Servers that people run themselves: dialect, environment variable of the address, address when none is told.
SERVERS = {
    "hosted_vllm": ("vllm", "HOSTED_VLLM_API_BASE", None),
    "vllm": ("vllm", "HOSTED_VLLM_API_BASE", None),
    "ollama": ("ollama", "OLLAMA_API_BASE", "http://localhost:11434"),
    "ollama_chat": ("ollama", "OLLAMA_API_BASE", "http://localhost:11434"),
    "llamafile": ("llamacpp", "LLAMAFILE_API_BASE", "http://127.0.0.1:8080"),
    "lm_studio": ("openai", "LM_STUDIO_API_BASE", "http://127.0.0.1:1234"),
    "xinference": ("openai", "XINFERENCE_API_BASE", "http://127.0.0.1:9997"),
    "lemonade": ("openai", "LEMONADE_API_BASE", None),
    "docker_model_runner": ("openai", "DOCKER_MODEL_RUNNER_API_BASE", None),
    "litellm_proxy": ("openai", "LITELLM_PROXY_API_BASE", None),
    "huggingface": ("openai", "HF_API_BASE", None),
    "infinity": ("openai", "INFINITY_API_BASE", None),
    "tei": ("openai", "", None),
    "openai_like": ("openai", "OPENAI_LIKE_API_BASE", None),
    "custom_openai": ("openai", "", None),
}
# Providers whose protocol is OpenAI's: with an address of one's own they are an engine, without one their service.
SPEAK_OPENAI = {
    "openai": "OpenAI",
    "text-completion-openai": "OpenAI",
    "mistral": "Mistral",
    "deepseek": "DeepSeek",
    "groq": "Groq",
    "together_ai": "Together",
    "fireworks_ai": "Fireworks",
    "openrouter": "OpenRouter",
    "perplexity": "Perplexity",
    "xai": "xAI",
    "deepinfra": "DeepInfra",
    "nvidia_nim": "NVIDIA NIM",
    "cerebras": "Cerebras",
    "scaleway": "Scaleway",
    "ovhcloud": "OVHcloud",
    "nebius": "Nebius",
    "sambanova": "SambaNova",
    "albert": "Albert API",
}
# Providers with a protocol of their own, wherever they are.
FOREIGN = {
    "azure": "Azure OpenAI",
    "azure_ai": "Azure AI",
    "azure_text": "Azure OpenAI",
    "anthropic": "Anthropic",
    "bedrock": "AWS Bedrock",
    "sagemaker": "AWS SageMaker",
    "sagemaker_chat": "AWS SageMaker",
    "vertex_ai": "Google Vertex AI",
    "vertex_ai_beta": "Google Vertex AI",
    "gemini": "Google Gemini",
    "cohere": "Cohere",
    "cohere_chat": "Cohere",
    "replicate": "Replicate",
    "watsonx": "IBM watsonx",
    "databricks": "Databricks",
    "snowflake": "Snowflake",
    "cloudflare": "Cloudflare",
    "voyage": "Voyage",
    "jina_ai": "Jina",
    "github": "GitHub Models",
    "github_copilot": "GitHub Copilot",
}
_OWN_PROTOCOL = frozenset(("triton", "oobabooga", "petals", "predibase", "baseten"))
_PUBLIC = re.compile(
    r"(?:^|\.)(?:openai\.com|openai\.azure\.com|azure\.com|azure\.us|anthropic\.com|googleapis\.com|amazonaws\.com"
    r"|mistral\.ai|deepseek\.com|groq\.com|together\.(?:ai|xyz)|fireworks\.ai|openrouter\.ai|perplexity\.ai|x\.ai"
    r"|deepinfra\.com|nvidia\.com|cerebras\.ai|cohere\.(?:ai|com)|huggingface\.(?:co|cloud)|replicate\.com|scaleway\.ai"
    r"|cloud\.ovh\.net|nebius\.(?:ai|com)|sambanova\.ai|albert\.api\.etalab\.gouv\.fr|aliyuncs\.com|moonshot\.(?:ai|cn)"
    r"|github\.com|githubcopilot\.com|voyageai\.com|jina\.ai|databricks\.com|databricks\.net)$"
)
_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_PATH = re.compile(r"[A-Za-z0-9._~/-]*")
_TAIL = re.compile(r"/v1(?:/(?:chat/completions|completions|embeddings))?$")
INSTEAD = "serve a model on an engine of yours under this name, or take the name out of your clients"


class Address(NamedTuple):
    """An engine: its URL in Beffroi's form, its dialect, a name for people, and what was changed on the way."""

    url: str
    kind: str
    name: str
    remark: str = ""


class Foreign(ValueError):
    """Not an engine of ours; the text says what it is, `advice` what to do instead."""

    def __init__(self, reason: str, advice: str = INSTEAD) -> None:
        super().__init__(reason)
        self.advice = advice


def split_model(model: str, provider: str | None) -> tuple[str, str]:
    """`hosted_vllm/org/name` → (`hosted_vllm`, `org/name`); the prefix is empty where there is none that is known."""
    if provider:
        return provider, model.removeprefix(f"{provider}/")
    prefix, slash, name = model.partition("/")
    if slash and (prefix in SERVERS or prefix in SPEAK_OPENAI or prefix in FOREIGN or prefix in _OWN_PROTOCOL):
        return prefix, name
    return "", model


def address_of(prefix: str, base: str | None) -> Address:
    """Where requests go.

    Args:
        prefix: the provider, in LiteLLM's spelling or OpenGateLLM's; empty when none was told.
        base: the address that the file tells.

    Raises:
        Foreign: nobody that Beffroi may or can call.
    """
    if prefix in FOREIGN:
        raise Foreign(f"{FOREIGN[prefix]} is a remote service with a protocol of its own; Beffroi calls engines only")
    if prefix in _OWN_PROTOCOL:
        raise Foreign(
            f"`{prefix}` has a protocol of its own", "start the engine's OpenAI-compatible server, and name that one"
        )
    kind, variable, default = SERVERS.get(prefix, ("openai", "", None))
    base = base or default
    if base is None and prefix in SERVERS:
        hint = f"add `api_base`, or set {variable} and import again" if variable else "add the address of the engine"
        raise Foreign("there is no address of the engine", hint)
    if base is None:
        whose = SPEAK_OPENAI.get(prefix, f"`{prefix}`" if prefix else "OpenAI or another service by its name")
        raise Foreign(f"without an address it is {whose}, which is remote; Beffroi calls your engines and nobody else")
    return _address(base, kind)


def _address(base: str, kind: str) -> Address:
    text = base if "://" in base else f"http://{base}"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Foreign(f"`{base}` is no address", "write one such as http://gpu1:8000") from None
    if parts.username or parts.password:
        raise Foreign("its address carries a name and a password", "give the engine a key, and write it as `api_key`")
    if (
        parts.scheme not in ("http", "https")
        or not _HOST.fullmatch(host)
        or parts.query
        or not _PATH.fullmatch(parts.path)
    ):
        raise Foreign(f"`{base}` is no address of an engine", "write one such as http://gpu1:8000")
    if _PUBLIC.search(host):
        raise Foreign(f"{host} is a remote service; Beffroi calls your engines and nobody else")
    path = parts.path.rstrip("/")
    prefix = _TAIL.sub("", path)
    remark = ""
    if kind == "openai" and prefix == path:
        remark = "Beffroi asks under `/v1`, which the address did not have"
    if kind == "openai" and port == 11434:
        kind = "ollama"  # nobody else's port, and its dialect has traps
    shown = f"[{host}]" if ":" in host else host
    url = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{prefix}"
    return Address(url, kind, _name(host, port, kind), remark)


def _name(host: str, port: int | None, kind: str) -> str:
    """A short name: `gpu1-8000`, or the dialect where the host says nothing."""
    try:
        local = ipaddress.ip_address(host).is_loopback
        short = host.replace(":", "-")
    except ValueError:
        local, short = host == "localhost", host.partition(".")[0]
    short = kind if local else short
    return f"{short}-{port}" if port else short
