# SPDX-License-Identifier: Apache-2.0
"""A small companion of the OpenAI SDK, for what the SDK does not know: `pip install 'beffroi[client]'`.

In: answers and errors of the SDK. Out: `bill` (cost, energy), `hints` (what is going to change), `patiently` (429).
"""

from beffroi.client.bill import Bill, Tariff, bill
from beffroi.client.hints import hints
from beffroi.client.patience import patiently, patiently_async

__all__ = ["Bill", "Tariff", "bill", "hints", "patiently", "patiently_async"]
