# SPDX-License-Identifier: Apache-2.0
"""`/model/info`: what is served and for how much, in LiteLLM's shape.

In: the configuration in force. Out: models with prices per token. Where engines are and their keys are told nobody.
"""

import time
from typing import Any

from beffroi.control.litellm.call import Ask
from beffroi.core.errors import ModelNotFound
from beffroi.core.money import MILLION, NANO
from beffroi.core.snapshot import ModelSpec


async def info(ask: Ask) -> dict[str, Any]:
    """Every model, or one."""
    models = ask.house.config.models
    wanted = ask.given.get("litellm_model_id")
    if wanted is not None:
        models = tuple(model for model in models if wanted in (model.id, *model.aliases))
        if not models:
            raise ModelNotFound(f"there is no model `{str(wanted)[:100]}`", param="litellm_model_id")
    return {"data": [_shown(model) for model in models]}


def _shown(model: ModelSpec) -> dict[str, Any]:
    now = time.time()
    price = next((one for one in reversed(model.prices) if one.effective <= now), None)
    return {
        "model_name": model.id,
        "litellm_params": {"model": model.id},
        "model_info": {
            "id": model.id,
            "db_model": False,
            "max_tokens": model.max_output or model.max_model_len,
            "max_input_tokens": model.max_model_len,
            "max_output_tokens": model.max_output,
            "input_cost_per_token": None if price is None else price.input / NANO / MILLION,
            "output_cost_per_token": None if price is None else price.output / NANO / MILLION,
            "mode": "embedding" if model.endpoints == ("embeddings",) else "chat",
            "litellm_provider": "beffroi",
        },
    }
