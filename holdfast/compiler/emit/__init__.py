"""Stage 5, emit: graph and plan to something that runs; one module a target.

`eager` is the living definition: every other target is compared with it.
"""
