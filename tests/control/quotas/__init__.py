"""Tests of tiers, quotas and alerts."""
