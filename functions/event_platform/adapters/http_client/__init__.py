"""A small HTTP/1.1 client on asyncio and httptools, for requests to strangers.

`requests` writes what is sent, `answers` reads what comes back, `connection` is the socket between them,
`pool` keeps connections, `client` puts them together.
"""
