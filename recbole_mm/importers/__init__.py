"""Raw data sets to atomic files, feature files and a data set YAML; one kind of raw data set a file.

Nothing here imports RecBole or a model. Tables go through polars: columnar, streamed from disk, and never unpickled.
"""
