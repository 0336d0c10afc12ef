"""UserClassMean: a pair has the class shares of the user's other known labels, smoothed by those of all labels."""

from recbole_mm.model.class_mean import ClassMean


class UserClassMean(ClassMean):
    """P(class | u, m) = (labels of the class by the user + s share) / (labels by the user + s)."""

    side = "user"
