"""The console: pages in a browser to look at the platform and to act.

`app.py` has the checks that each request passes, `serving.py` its listener. The routes of a page are in the
module of its name; `views.py` makes contexts of what was read, `templates/` shows them.
"""
