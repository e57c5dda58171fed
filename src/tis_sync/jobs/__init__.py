"""The nightly jobs: each module declares what one table, column or index should hold."""
