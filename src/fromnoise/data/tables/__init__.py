"""Tables: reading files, missing cells, types of columns."""
