# SPDX-License-Identifier: Apache-2.0
"""The administration verbs of a LiteLLM proxy, over the services of Beffroi: scripts that make keys and teams go on working."""
