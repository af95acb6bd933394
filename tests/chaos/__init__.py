"""Faults, for real: worker processes killed, stopped and moved, servers taken away, and the outcome exact."""
