"""Kafka: records for subscribers' topics, on aiokafka."""
