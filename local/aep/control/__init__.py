"""The control socket: how commands act through the platform that runs on their data folder.

`server.py` serves routes on a socket in the folder, `client.py` calls them. A room that has something to be
called adds its routes to `control_app` in `wiring.py`; `operator.py` has those of the management API.
"""
