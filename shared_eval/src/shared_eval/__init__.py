"""Methods next to each other and next to their papers' numbers.

Methods are run as subprocesses and never imported, so each may live in its own environment.
Read in this order: `items` (what a user asks for), `drive` (the subprocesses), `run` (features,
then results), `papers` (their numbers as Results), `join` (what may stand in one table), `table`
and `report` (how it looks), `compare`, `check_method`.
"""
