# SPDX-License-Identifier: Apache-2.0
"""The compiled kernel beside its twins in Python: the same bytes in, the same objects out."""
