"""An importance matrix: for every matrix of a model the sum of squares of what came into each of its columns.

The file is llama.cpp's own (tools/imatrix): a GGUF of type `imatrix` with two float32 tensors a matrix, `NAME.in_sum2`
of shape (1, columns) and `NAME.counts` of shape (1, 1), which hold the sums and the number of tokens they are over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.base import Refused

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KIND = "imatrix"
FILE = "imatrix.gguf"
_SUMS, _COUNTS = ".in_sum2", ".counts"


@dataclass(frozen=True)
class Imatrix:
    """`sums` of squared inputs, shape (columns,) a matrix by llama.cpp's name, over `tokens` tokens in windows."""

    sums: Mapping[str, NDArray[np.float32]]
    tokens: int
    window: int
    dataset: str

    def importance(self, name: str) -> NDArray[np.float32] | None:
        """Mean squared input of each column, shape (columns,); None for a matrix that was not looked at."""
        import numpy as np

        found = self.sums.get(name)
        return None if found is None else found / np.float32(self.tokens)

    def save(self, file: Path) -> None:
        """Write the GGUF, matrices in the order of their names."""
        import gguf
        import numpy as np

        writer = gguf.GGUFWriter(file, arch="")
        writer.kv_data[0].clear()  # the writer names an architecture; llama.cpp's own files name none
        writer.add_type(KIND)
        writer.add_array("imatrix.datasets", [self.dataset])
        writer.add_uint32("imatrix.chunk_count", self.tokens // self.window)
        writer.add_uint32("imatrix.chunk_size", self.window)
        for name, sums in sorted(self.sums.items()):
            writer.add_tensor(name + _SUMS, sums.astype(np.float32).reshape(1, -1))
            writer.add_tensor(name + _COUNTS, np.full((1, 1), self.tokens, dtype=np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    @classmethod
    def load(cls, file: Path) -> Imatrix:
        """Read a file of llama.cpp's or our own; several matrices in one entry (experts) keep their rows in order.

        Raises:
            Refused: no importance matrix, or one whose parts do not belong together.
        """
        import gguf
        import numpy as np

        reader = gguf.GGUFReader(file)
        kind = reader.get_field("general.type")
        if kind is None or kind.contents() != KIND:
            raise Refused(f"{file.name} is no importance matrix: its general.type is not `imatrix`", "collect one")
        tensors = {tensor.name: np.array(tensor.data) for tensor in reader.tensors}
        names = {name.removesuffix(_SUMS) for name in tensors if name.endswith(_SUMS)}
        if lonely := sorted(name for name in names if name + _COUNTS not in tensors):
            raise Refused(f"{file.name}: `{lonely[0]}` has sums and no counts", "collect the importance matrix again")
        tokens = max((int(tensors[name + _COUNTS].max()) for name in names), default=0)
        if not tokens:
            raise Refused(f"{file.name}: the importance matrix is of no tokens", "collect it again")
        window = reader.get_field("imatrix.chunk_size")
        datasets = reader.get_field("imatrix.datasets")
        return cls(
            sums={name: _rescaled(tensors[name + _SUMS], tensors[name + _COUNTS], tokens) for name in names},
            tokens=tokens,
            window=int(window.contents()) if window else tokens,
            dataset=", ".join(datasets.contents()) if datasets else "",
        )


def _rescaled(sums: NDArray[np.float32], counts: NDArray[np.float32], tokens: int) -> NDArray[np.float32]:
    """Sums as if all were over as many tokens; an expert that saw none counts 1 everywhere, as in llama.cpp."""
    import numpy as np

    per_row = counts.reshape(-1, 1)
    mean = np.where(per_row > 0, sums.reshape(len(per_row), -1) / np.maximum(per_row, 1), 1)
    flat: NDArray[np.float32] = (mean * tokens).astype(np.float32).reshape(-1)
    return flat
