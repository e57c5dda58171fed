"""The nightly jobs: each module declares the desired state of a table, a column or an index."""
