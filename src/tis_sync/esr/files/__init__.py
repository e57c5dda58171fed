"""Files for ESR: layouts, flat-file writer and parser, numbering, store and destinations."""
