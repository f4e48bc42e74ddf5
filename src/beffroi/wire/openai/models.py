# SPDX-License-Identifier: Apache-2.0
"""The models list, in the shape that OpenAI clients and clients of the reference service read.

In: model specs of the snapshot. Out: JSON bytes.
"""

from collections.abc import Iterable
from typing import Any

import msgspec

from beffroi.core.snapshot import ModelSpec

_encode = msgspec.json.Encoder().encode


def row(model: ModelSpec) -> dict[str, Any]:
    """One model object."""
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owned_by,
        "root": model.targets[0].model if model.targets else model.id,
        "parent": None,
        "aliases": list(model.aliases),
        "max_model_len": model.max_model_len,
        "permission": [
            {
                "id": f"modelperm-{model.id}",
                "object": "model_permission",
                "created": model.created,
                "allow_create_engine": False,
                "allow_sampling": True,
                "allow_logprobs": True,
                "allow_search_indices": False,
                "allow_view": True,
                "allow_fine_tuning": False,
                "organization": "*",
                "group": None,
                "is_blocking": False,
            }
        ],
    }


def listing(models: Iterable[ModelSpec]) -> bytes:
    """`GET models`."""
    return _encode({"object": "list", "data": [row(model) for model in models]})


def single(model: ModelSpec) -> bytes:
    """`GET models/{id}`."""
    return _encode(row(model))
