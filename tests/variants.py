"""Small runs of every kind of model that recommends."""

FACTS = {"genre": {"field": "class", "encoding": "multi_hot"}, "age": {"field": "year", "encoding": "bumps"}}
VARIANTS = {
    "default": ("MMFusion", {}),
    "content": ("MMFusion", {"engine": "content"}),
    "cosine": ("MMFusion", {"matching": "cosine", "fusion": "gated", "item_item_weight": 0.0}),
    "mlp": ("MMFusion", {"matching": "mlp", "fusion": "attention", "loss": "bpr"}),
    "collaborative": ("MMFusion", {"engine": "collaborative", "fusion": "mean"}),
    "VBPR": ("VBPR", {}),
    "EASE": ("EASE", {}),
    "ItemKNN": ("ItemKNN", {}),
    "BPR": ("BPR", {}),
    "LightGCN": ("LightGCN", {}),
}
