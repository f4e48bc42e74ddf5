# SPDX-License-Identifier: Apache-2.0
"""The supervisor: what `beffroi serve` is.

In: a `Plan`. Out: one tree of processes (workers, control, the embedded engine) that is kept alive and ends as one.
"""
