"""COCO's counting of boxes over columns: what is found, by greedy matching, and precision and recall of it."""
