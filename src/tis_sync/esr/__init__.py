"""Export to ESR: records, layouts, numbered files, commands, and what became of each."""
