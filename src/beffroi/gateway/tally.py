# SPDX-License-Identifier: Apache-2.0
"""What an ended exchange adds to the worker's counts.

In: an exchange that is settled. Out: numbers in `WorkerMetrics`; refusals without a valid key by reason and address
prefix, which the sweep writes to the journal once a second (decision D21).
"""

from ipaddress import ip_address

from beffroi.core.exchange import Exchange
from beffroi.gateway.house import House
from beffroi.telemetry.metrics import observe

MAX_REFUSED = 1000


def prefix_of(address: str) -> str:
    """The network of an address: /24 of IPv4, /48 of IPv6; whole addresses of strangers are not kept."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return "local"
    if parsed.version == 4:
        return ".".join(address.split(".")[:3]) + ".0/24"
    return ":".join(parsed.exploded.split(":")[:3]) + "::/48"


def note(x: Exchange, house: House) -> None:
    """Count an exchange."""
    metrics = house.metrics
    if x.refusal is not None:
        code = x.refusal.code or "invalid_request"
        metrics.refusals[code] = metrics.refusals.get(code, 0) + 1
        if x.key is None:
            refuse_stranger(house, code, x.address)
    if x.model is None:
        return
    counts = x.model.metrics
    counts.requests[x.outcome] = counts.requests.get(x.outcome, 0) + 1
    tokens = x.tokens
    counts.input_tokens += tokens.input
    counts.cached_tokens += tokens.cached
    counts.output_tokens += tokens.output
    counts.reasoning_tokens += tokens.reasoning
    counts.cost_nano += x.cost.total
    if x.attempt:
        now = house.clock.mono_ns()
        observe(counts.total_us, (now - x.started) // 1000)
        if x.first_ns:
            observe(counts.first_us, (x.first_ns - x.started) // 1000)
            if x.request.stream and (made := tokens.completion) > 1:
                observe(counts.between_us, (now - x.first_ns) // (1000 * (made - 1)))


def refuse_stranger(house: House, reason: str, address: str) -> None:
    """Count a refusal without a valid key; a flood of prefixes is folded into one."""
    name = f"{reason} {prefix_of(address)}"
    refused = house.refused
    if name not in refused and len(refused) >= MAX_REFUSED:
        name = f"{reason} others"
    refused[name] = refused.get(name, 0) + 1
