"""Descriptions for machines: OpenAPI of the routes, AsyncAPI of what is delivered."""
