"""ItemClassMean: a pair has the class shares of the item's other known labels, smoothed by those of all labels."""

from recbole_mm.model.class_mean import ClassMean


class ItemClassMean(ClassMean):
    """P(class | u, m) = (labels of the class by the item + s share) / (labels by the item + s)."""

    side = "item"
