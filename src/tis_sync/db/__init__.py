"""SQL databases: engines, transactions, translated driver errors, bulk inserts."""
