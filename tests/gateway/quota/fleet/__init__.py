"""The counters of a fleet, over a real Valkey or Redis that is killed, slowed and emptied."""
