"""Search: one protocol, implemented by Elasticsearch, OpenSearch and an embedded engine."""
