"""The contracts: pipeline files, topic names, wire formats and the Kafka transport."""
