"""What attention needs of the cameras, on the device: made once, then only read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from ...geometry.correspondence import Correspondences, Pair, SampleTable
from .bags import Piece
from .codes import code_of_zero, position_code
from .compiled import may_serve
from .memory import Memory, nbytes, on_cpu
from .projected import Layers, LayerWeights, Projected, Weights, by_products, normal
from .reads import Reads, seen_codes
from .softmax import HEAD, accumulation_dtype
from .unprojected import Unprojected

PER_QUERY = 4  # codes for a query, of which more are not projected: it would not pay within a few steps
WAYS = "auto", "torch", "plain"  # to attend: fast.py with compiled kernels where they work, without them, plain.py
CODES = "code", "centred"  # of the plain and of the fast way
OUTSIDE = -3.0  # normalised coordinate whose bilinear taps all lie outside of any map
FLOAT64 = ("cpu", "cuda")  # devices that are known to have it
T = TypeVar("T")
Numbers = tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]  # code, cosines, valid of a `SampleTable`


@dataclass(frozen=True, eq=False)
class PlainTable:
    """One `SampleTable` ready for the plain attention.

    query: (n,) which queries the rows belong to.
    grid: (n, S, 2) normalised sample positions for `grid_sample(align_corners=False)`; invalid ones lie outside, and so
        read zero. fp32 at least: fp16 could not name a pixel of a large map.
    code: (n, S, C) position codes in the features' dtype, zero where invalid.
    """

    query: torch.Tensor
    grid: torch.Tensor
    code: torch.Tensor


@dataclass(frozen=True, eq=False)
class SharingPairs:
    """P pairs of views that read the same rows of one table, and whose query views are distinct.

    rows: (n,) which of the table's, on the device; None: all. query_views, key_views: (P,) int64, among the B V views
        of the batch.
    """

    table: int
    rows: torch.Tensor | None
    query_views: torch.Tensor
    key_views: torch.Tensor

    def of(self, values: torch.Tensor) -> torch.Tensor:
        """These rows of a table's (N, ...) values."""
        return values if self.rows is None else values[self.rows]

    def queries(self, pixels: torch.Tensor, size: int) -> torch.Tensor:
        """(P n,) numbers, among the B V h w queries of the batch, of n query pixels; `size` is h w."""
        return (self.query_views[:, None] * size + pixels).flatten()


class Tables:
    """The tables of cameras at one feature size. Geometry and codes are computed in float64, then cast.

    What follows from cameras alone stays on the device for a run, as far as `memory` allows; of the rest, codes wait in
    the CPU's memory, or are made anew where that is short, too. Between runs kept.py holds them.

    way: how blocks attend, one of WAYS.
    sampling: whether the blocks' weights stay as they are for as long as the tables live. The fast ways then call the
        layers, whatever they do with their weights, and keep what follows from weights and cameras: gradients of
        features are right, those of weights are not. Otherwise, as in training, they read the weights at each use: all
        gradients are right, and weights may change between uses without a word to the tables.
    shared: where the weights of layers are kept, together with those for other tables; None: with these alone.
    """

    def __init__(
        self,
        correspondences: Correspondences,
        memory: Memory | None = None,
        way: str = WAYS[0],
        sampling: bool = False,
        shared: LayerWeights | None = None,
    ) -> None:
        self.correspondences = correspondences
        self.memory = memory or Memory()
        self.way, self.sampling = way, sampling
        self._made: dict[tuple, Any] = {}
        self._of_layers: WeakKeyDictionary[Any, dict[tuple, Any]] = WeakKeyDictionary()
        self._shared = shared or LayerWeights()
        self._layers: dict[tuple, Layers] = {}  # of this run
        self._weights: dict[tuple, Weights] = {}  # of this run

    def begin(self, memory: Memory, device: torch.device) -> None:
        """Begins another sampling run, of which `memory` is the allowance: what there is of an earlier one counts."""
        if memory.piece_bytes != self.memory.piece_bytes:
            self._made = {key: item for key, item in self._made.items() if key[0] != "pieces"}
        self.memory = memory
        for code in (item for key, item in self._made.items() if key[0] in CODES):
            if code.device == device:
                memory.code_bytes -= code.nbytes
            else:
                memory.waiting_bytes -= code.nbytes
        items = (entry for of_layer in self._of_layers.values() for entry in of_layer.items())
        memory.projected_bytes -= sum(nbytes(item) for key, item in items if key[0] == "projected")

    @property
    def nbytes(self) -> int:
        """Of all that is there."""
        return sum(nbytes(item) for items in (self._made, *self._of_layers.values()) for item in items.values())

    def rest(self, left: int) -> int:
        """Ends a run: gives back what is on a card, or what would take more than `left` bytes; returns what stays."""
        self._layers.clear()
        self._weights.clear()
        taken = 0
        for items in (self._made, *self._of_layers.values()):
            for key, item in sorted(items.items(), key=lambda entry: nbytes(entry[1])):
                size = nbytes(item)
                if item is not None and on_cpu(item) and taken + size <= left:  # None: not projected in this run
                    taken += size
                else:
                    del items[key]
        return taken

    def sharing(self, batch: int, device: torch.device) -> list[SharingPairs]:
        """All pairs of a batch of that many panoramas, grouped."""
        return self._once(("sharing", batch, device), lambda: _sharing(self.correspondences, batch, device))

    def plain(self, table: int, bands: torch.Tensor, like: torch.Tensor) -> PlainTable:
        """Table number `table` for features of the dtype and device of `like`; `bands` are (N,) frequencies."""
        samples, place = self.correspondences.tables[table], (table, like.dtype, like.device)
        numbers: Numbers = samples.code, samples.cosines, samples.valid
        return PlainTable(
            self._once(("query", *place), lambda: samples.query.to(like.device)),
            self._once(("grid", *place), lambda: self._grid(samples, like)),
            self._kept_code((CODES[0], table), lambda: numbers, bands, like).to(like.device),
        )

    def reads(self, like: torch.Tensor) -> Reads:
        """All tables as the fast attention reads them, on the device of `like`."""
        dtype, device = accumulation_dtype(like.dtype), like.device
        made = self._once(("reads", dtype, "cpu"), lambda: Reads.of(self.correspondences, dtype))
        return made if device.type == "cpu" else self._once(("reads", dtype, device), lambda: made.to(device))

    def whole(self, like: torch.Tensor) -> Piece:
        """Who reads what of `reads` in a batch of (B V, h, w, C) features, codes being sources."""
        return self._pieces(like, [None], coded=True)[0]

    def by_view(self, like: torch.Tensor) -> list[Piece]:
        """The same for the queries of each view by itself, without the codes."""
        views, size = self.correspondences.views, self.correspondences.height * self.correspondences.width
        return self._pieces(like, list(torch.arange(views * size, device=like.device).split(size)), coded=False)

    def _pieces(self, like: torch.Tensor, parts: Sequence[torch.Tensor | None], coded: bool) -> list[Piece]:
        panoramas, heads = len(like) // self.correspondences.views, like.shape[-1] // HEAD

        def make() -> list[Piece]:
            reads, at_once = self.reads(like), self.memory.piece_bytes
            return [Piece.of(reads, panoramas, heads, part, at_once, coded) for part in parts]

        key = "pieces", panoramas, heads, coded, accumulation_dtype(like.dtype), like.device
        return self._once(key, make)

    def query_code(self, bands: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """(C,) the code of queries; of depth, whose code is half as long, it is zero."""
        key = "query code", like.dtype, like.device, tuple(bands.tolist())
        return self._once(key, lambda: code_of_zero(bands)[: like.shape[-1]].to(like))

    def codes(self, bands: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
        """(R, S, C) codes of the rows of `reads`, less their means over C; on the CPU where memory is short."""
        return self._kept_code((CODES[1],), lambda: seen_codes(self.correspondences), bands, like)

    @torch.no_grad()
    def layers(self, layer: Any, norm: Any, like: torch.Tensor) -> Layers:
        """What projects while sampling: the layer behind its norm, as they are.

        What an earlier run kept of other weights is given up.
        """
        key = id(layer), like.dtype, like.device
        if key not in self._layers:
            layers = self._layers[key] = Layers.of(layer, norm, like)
            mark = self._of_layers.setdefault(layer, {}).get(("mark", *key[1:]))
            if mark is None or not torch.equal(mark, layers.mark):
                self._of_layers[layer] = {("mark", *key[1:]): layers.mark}
        return self._layers[key]

    def weights(self, layers: Layers, like: torch.Tensor) -> Weights:
        """What `layers` project by, in the dtype and on the device of `like`."""
        key = id(layers.layer), like.dtype, like.device
        if key not in self._weights:
            self._weights[key] = self._shared.of(layers, like)
        return self._weights[key]

    def projected(self, layers: Layers, bands: torch.Tensor, like: torch.Tensor) -> Projected | Unprojected:
        """The codes of `codes`, projected if that pays: kept for the sampling run, or where memory is short made at
        each use, for kernels alone (torch would copy all of them), and not where gradients would keep them."""
        codes = self.codes(bands, like)
        may = self.may_project(codes) and codes.device == like.device

        def make() -> tuple[torch.Tensor, ...] | None:
            if not (may and self.memory.keep_projected(2 * codes.nbytes)):
                return None
            if by_products(like.device):
                return self.weights(layers, like).project_centred(codes)[1:]
            return layers.project_codes(codes, self.memory)[1:]

        kept = self._once_of(layers, ("projected", like.dtype, like.device), make)
        if kept is not None:
            return Projected(codes, *kept)
        weights = self.weights(layers, like)
        if may and self.way == "auto" and may_serve(like) and not torch.is_grad_enabled():
            return weights.project_centred(codes)
        return Unprojected(codes, *weights.matrices())

    def may_project(self, codes: torch.Tensor) -> bool:
        """Whether (R, S, C) codes are few enough to be projected: for the memory, and for a processor's time."""
        size = self.correspondences
        few = codes.device.type != "cpu" or codes[..., 0].numel() <= PER_QUERY * size.views * size.height * size.width
        return few and self.memory.may_project(2 * codes.nbytes)

    def _once(self, key: tuple, make: Callable[[], T]) -> T:
        """What follows from cameras alone: normal tensors even in inference mode, so that training may use them."""
        if key not in self._made:
            with torch.inference_mode(False), torch.no_grad():
                self._made[key] = make()
        return self._made[key]

    def _once_of(self, layers: Layers, key: tuple, make: Callable[[], tuple[torch.Tensor, ...] | None]) -> Any:
        """What the host's layers make, in the mode that they are called in; kept as normal tensors."""
        items = self._of_layers[layers.layer]
        if key not in items:
            with torch.no_grad():
                made = make()
            items[key] = made and normal(made)
        return items[key]

    def _grid(self, table: SampleTable, like: torch.Tensor) -> torch.Tensor:
        size = torch.tensor([self.correspondences.width, self.correspondences.height], dtype=torch.float64)
        normalised = torch.where(table.valid[..., None], (2 * table.coords + 1) / size - 1, OUTSIDE)
        return normalised.to(accumulation_dtype(like.dtype)).to(like.device)

    def _kept_code(
        self, kind: tuple, numbers_of: Callable[[], Numbers], bands: torch.Tensor, like: torch.Tensor
    ) -> torch.Tensor:
        """Codes, made once and kept on the device of `like` or on the CPU, as far as memory allows.

        They are normal tensors, as those of `_once`.
        """
        key, cpu = (*kind, like.dtype, like.device, tuple(bands.tolist())), torch.device("cpu")
        code = self._made.get(key)
        if code is not None and code.device == like.device:
            return code
        with torch.inference_mode(False), torch.no_grad():
            if code is not None:
                if self.memory.keep_code(code.nbytes):  # it waited: there is room now
                    self._made[key] = code.to(like.device)
                return self._made[key]
            numbers = numbers_of()
            size = numbers[2].numel() * like.shape[-1] * like.element_size()
            if self.memory.keep_code(size):
                place = like.device if like.device.type in FLOAT64 else cpu
                self._made[key] = _codes(numbers, bands, like, place, kind[0] == CODES[1]).to(like.device)
            else:
                code = _codes(numbers, bands, like, cpu, kind[0] == CODES[1])
                if self.memory.keep_waiting(size):
                    self._made[key] = code
        return self._made.get(key, code)


def _sharing(correspondences: Correspondences, batch: int, device: torch.device) -> list[SharingPairs]:
    """The pairs by table, those of a part of one by themselves; a query view that uses one table twice (two views) has
    its second pair in another group."""
    members: dict[tuple, list[Pair]] = {}
    for number, pair in enumerate(correspondences.pairs):
        turn = 0 if pair.rows is None else -1 - number
        while any(other.query_view == pair.query_view for other in members.get((pair.table, turn), ())):
            turn += 1
        members.setdefault((pair.table, turn), []).append(pair)
    first = correspondences.views * torch.arange(batch)[:, None]
    return [
        SharingPairs(
            table,
            None if group[0].rows is None else group[0].rows.to(device),
            (first + torch.tensor([pair.query_view for pair in group])).flatten().to(device),
            (first + torch.tensor([pair.key_view for pair in group])).flatten().to(device),
        )
        for (table, _), group in members.items()
    ]


def _codes(
    numbers: Numbers, bands: torch.Tensor, like: torch.Tensor, place: torch.device, centred: bool
) -> torch.Tensor:
    """(n, S, C) position codes of (n, S, 2) numbers in the dtype of `like`, zero where invalid; made on `place`."""
    pairs, cosines, valid = numbers
    codes = position_code(pairs.to(place), bands, None if cosines is None else cosines.to(place), like.dtype, centred)
    codes[~valid.to(place)] = 0
    return codes
