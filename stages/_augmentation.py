"""Images as a student and its teacher are shown them: shifted, mirrored, with noise, mixed two by two."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from stages.base import Frozen


class Augmentation(Frozen):
    """All in the units of the model's own input, drawn anew every step from the seed."""

    shift: int = Field(0, ge=0, description="most pixels an image is moved by, the border repeated")
    mirror: bool = Field(False, description="half of the images mirrored left to right")
    noise: float = Field(0.0, ge=0, description="standard deviation of noise, as a share of the images' own")
    mix: float = Field(0.0, ge=0, description="mixup: parameter of the Beta distribution of shares, 0 for none")

    @property
    def changes(self) -> bool:
        """Whether images are shown other than they are."""
        return self != Augmentation()

    def moved(self, images: Any, rng: np.random.Generator) -> Any:
        """Shifted, mirrored and with noise: what an image's label survives. Shape (n, channels, height, width)."""
        import torch

        shown = images
        if self.shift:
            shown = torch.stack([_shifted(image, self.shift, rng) for image in shown])
        if self.mirror:
            turned = torch.from_numpy(rng.random(len(shown)) < 0.5)
            shown = torch.where(turned[:, None, None, None], shown.flip(-1), shown)
        if self.noise:
            drawn = torch.from_numpy(rng.standard_normal(tuple(shown.shape), dtype=np.float32))
            shown = shown + drawn * (self.noise * float(images.std()))
        return shown

    def mixed(self, images: Any, rng: np.random.Generator) -> Any:
        """Each image with a share of another one of the batch (Zhang et al. 2018); their labels hold no more."""
        import torch

        if not self.mix:
            return images
        share = torch.from_numpy(rng.beta(self.mix, self.mix, len(images)).astype(np.float32))[:, None, None, None]
        return share * images + (1 - share) * images[torch.from_numpy(rng.permutation(len(images)))]


def _shifted(image: Any, most: int, rng: np.random.Generator) -> Any:
    import torch

    height, width = image.shape[-2:]
    down, right = (int(place) for place in rng.integers(0, 2 * most + 1, 2))
    padded = torch.nn.functional.pad(image[None], (most,) * 4, mode="replicate")[0]
    return padded[:, down : down + height, right : right + width]
