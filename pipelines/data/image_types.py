"""What a set of labelled images is held as."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.generic]
Labels = NDArray[np.int64]
Images = tuple[Pixels, Labels]
"""Pixels of shape (n, height, width, channels), and the class number of each."""
