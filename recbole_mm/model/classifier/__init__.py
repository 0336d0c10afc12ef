"""Classifiers of three-class labels: one model, one file, one YAML."""
