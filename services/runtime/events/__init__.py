"""Facts, carried from the transaction that made them to everyone who reacts: in order, once in effect.

`publish` writes them, `sequencer` gives them their order, `dispatcher` carries them; `backbone` runs the last
two in a process. Services import `Reaction` and `Envelope` from `envelope`.
"""
