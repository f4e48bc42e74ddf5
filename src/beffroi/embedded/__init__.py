# SPDX-License-Identifier: Apache-2.0
"""The embedded engine: llama.cpp's own server on the tiny model that we ship, so that Beffroi answers on its first day.

In: a data directory. Out: what the supervisor starts it with, and the engine and model that the gateway then serves.
"""
