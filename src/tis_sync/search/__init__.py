"""Search: one protocol; Elasticsearch, OpenSearch and an embedded engine behind it."""
