"""The recommender over HTTP, with a page; needs the extra ``serve``."""
