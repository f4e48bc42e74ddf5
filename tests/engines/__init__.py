# SPDX-License-Identifier: Apache-2.0
"""Engines for tests that count, follow a script or misbehave on command; each is a real server on a real socket."""
