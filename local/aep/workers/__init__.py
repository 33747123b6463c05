"""Delivery in processes of its own, each of which exchanges batches with the owner of the file
(docs/decisions/0026).

`channel` carries calls between two processes, `owner` is the owner's side, `remote` the worker's view of the
store. `process` starts workers and has the program that each runs.
"""
