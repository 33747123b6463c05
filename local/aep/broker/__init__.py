"""The embedded broker: a durable queue with the semantics of Pub/Sub's ordering keys, and its dispatcher."""
