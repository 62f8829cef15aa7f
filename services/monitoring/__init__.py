"""The contract monitor: keeps the contracts that the mesh is watched by and records every violation of them.

Services tell it by the event `contract.violated`, published with the state that it judges; others by RecordViolations.
No violation is lost because its contract is unknown, and none is counted twice.
"""
