"""One file for each figure, which declares it as FIGURE (see ../figure.py)."""
