"""The console of a project on Google Cloud: `aep console --google` serves it on the operator's machine.

`records.py` reads and changes by the operator's own credentials, `pages.py` has the pages that differ from
those of one machine, `links.py` the URLs of Google's console for what is live. It shares the way in, the
templates and the pages of PIMs.
"""
