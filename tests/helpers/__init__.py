"""What tests share: exact models, files of known content, calls of the command line."""
