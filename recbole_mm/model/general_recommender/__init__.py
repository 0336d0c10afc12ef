"""General recommenders: one model, one file, one YAML."""
