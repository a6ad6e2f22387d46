"""GemNet-OC layer by layer over the lists of triplets and quadruplets; the oracle.

Written straight from gemnet_oc sections 4 to 7, with the weights of a network of ours
but with none of its code: every sum over triplets and quadruplets has a zero-padded
row of items for each edge, every layer is an operation of its own, and derivatives are
those of autograd. It is the yardstick of numbers, and of what a training step takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear, silu

from jmp_calc.graph.batch import AtomGraph, EdgeSet
from jmp_calc.models.jmp import JMPModel, Prediction
from oracle.enumerated import enumerate_lists

SINE_FLOOR = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Items:
    """Items grouped by the row that sums them, each with a place in a padded table."""

    n_rows: int
    width: int
    place: Tensor
    """Flat place of each item in (rows, width)."""

    @classmethod
    def of(cls, row: Tensor, n_rows: int) -> Items:
        """Group items by their row."""
        count = torch.bincount(row, minlength=n_rows)
        first = torch.cumsum(count, 0) - count
        order = torch.argsort(row, stable=True)
        inner = torch.empty_like(row)
        inner[order] = torch.arange(len(row)) - first[row[order]]
        width = max(int(count.max()), 1) if n_rows else 1
        return cls(n_rows=n_rows, width=width, place=row * width + inner)

    def pad(self, x: Tensor) -> Tensor:
        """Return a table (rows, width, ...) of values of items, zero where none is."""
        table = x.new_zeros((self.n_rows * self.width, *x.shape[1:]))
        table = table.index_copy(0, self.place, x)
        return table.view(self.n_rows, self.width, *x.shape[1:])


@dataclass(frozen=True, kw_only=True, slots=True)
class Topology:
    """Index lists of a graph, ready for use: they are not part of a step."""

    e2e: Tensor
    a2e: Tensor
    e2a: Tensor
    triplet_in: Tensor
    quadruplets: Tensor
    quad_triplet: Tensor
    """Row of ``triplet_in`` of each quadruplet."""
    e2e_items: Items
    a2e_items: Items
    e2a_items: Items
    quad_items: Items
    pair_items: Items

    @classmethod
    def of(cls, graph: AtomGraph) -> Topology:
        """Enumerate the lists of a graph."""
        found = enumerate_lists(graph)
        lists = {
            name: torch.from_numpy(getattr(found, name))
            for name in ("e2e", "a2e", "e2a", "triplet_in", "quadruplets")
        }
        n_main, n_quad = graph.main.n_edges, graph.quadruplet.n_edges
        d_to_b, b_to_a, c_to_a = lists["quadruplets"]
        key = lists["triplet_in"][0] * n_quad + lists["triplet_in"][1]
        ordered, order = torch.sort(key)
        place = torch.searchsorted(ordered, d_to_b * n_quad + b_to_a)
        return cls(
            **lists,
            quad_triplet=order[place],
            e2e_items=Items.of(lists["e2e"][1], n_main),
            a2e_items=Items.of(lists["a2e"][1], n_main),
            e2a_items=Items.of(lists["e2a"][1], graph.atom_edge.n_edges),
            quad_items=Items.of(c_to_a, n_main),
            pair_items=Items.of(graph.atom_atom.target, graph.n_atoms),
        )


class EnumeratedNetwork(JMPModel):
    """The same network on one graph, enumerated; it shares the weights of the other."""

    def __init__(self, model: JMPModel, graph: AtomGraph) -> None:
        torch.nn.Module.__init__(self)
        self.config, self.heads = model.config, model.heads
        self.embedding, self.backbone = model.embedding, model.backbone
        self.head_layers = model.head_layers
        self.topology = Topology.of(graph)

    def forward(self, graph: AtomGraph, head: Any, **request: Any) -> Prediction:
        """Return energy and gradient forces of the graph, for training.

        Args:
            graph: The one that the network was made with.
            head: Name of the task, or one name per system, all the same.
            request: As for ``JMPModel``; anything but what training with gradient
                forces asks for is not there.
        """
        assert request["forces"] == "gradient"
        assert request["create_graph"]
        (name,) = {head} if isinstance(head, str) else set(head)
        positions = graph.positions.detach().clone().requires_grad_()
        moved = graph.with_positions(positions, graph.cell)
        layer: Any = self.head_layers[name]
        atom_energy = layer.energy(self._atom_features(moved))[:, 0].double()
        total = atom_energy.new_zeros(graph.n_systems)
        energy = total.index_add(0, graph.system_index, atom_energy)
        (gradient,) = torch.autograd.grad(energy.sum(), positions, create_graph=True)
        return Prediction(energy=energy, atom_energy=atom_energy, forces=-gradient)

    def _atom_features(self, graph: AtomGraph) -> Tensor:
        net: Any = self.backbone
        main, atom = graph.main, self.embedding(graph.numbers - 1)
        bases = _Bases(net.bases, graph, self.topology, net.config)
        joined = torch.cat([atom[main.source], atom[main.target], bases.main], dim=1)
        edge = _dense(net.edge_embedding, joined)
        outputs = [_output(net.outputs[0], atom, edge, bases)]
        for block, output in zip(net.blocks, net.outputs[1:], strict=True):
            atom, edge = _block(block, atom, edge, bases)
            outputs.append(_output(output, atom, edge, bases))
        first, *stack = net.energy_mlp
        return _residuals(stack, _dense(first, torch.cat(outputs, dim=1)))


class _Bases:
    """Radial factors and angular functions (section 4), once per pass."""

    def __init__(
        self, net: Any, graph: AtomGraph, topology: Topology, config: Any
    ) -> None:
        self.graph, self.lists, n = graph, topology, config.num_spherical
        dtype = net.radial.offset.dtype
        unit, radial = {}, {}
        for name in ("main", "atom_edge", "quadruplet", "atom_atom"):
            unit[name], scaled = _unit_and_scaled(graph, getattr(graph, name))
            unit[name] = unit[name].to(dtype)
            radial[name] = _radial(net.radial, scaled.to(dtype))
        main = self.main = radial["main"]
        for name, key in (
            ("qint", "main"),
            ("tint", "main"),
            ("aeint", "atom_edge"),
            ("eaint", "main"),
            ("h", "main"),
            ("out", "main"),
            ("aint", "atom_atom"),
        ):
            layer = getattr(net, f"mlp_rbf_{name}")
            setattr(self, f"rad_{name}", linear(radial[key], layer.weight))
        self.u_tint = _factors(net.mlp_cbf_tint, main)
        self.u_aeint = _factors(net.mlp_cbf_aeint, main)
        self.u_eaint = _factors(net.mlp_cbf_eaint, radial["atom_edge"])
        self.u_sbf = _factors(net.mlp_sbf_qint, main)
        clamp = config.rules == "published"
        v, x, q = unit["main"], unit["atom_edge"], unit["quadruplet"]
        inner, outer = topology.e2e
        self.y_e2e = topology.e2e_items.pad(_circular(v[outer], v[inner], n, clamp))
        inner, outer = topology.a2e
        self.y_a2e = topology.a2e_items.pad(_circular(v[outer], x[inner], n, clamp))
        inner, outer = topology.e2a
        self.y_e2a = topology.e2a_items.pad(_circular(x[outer], v[inner], n, clamp))
        inner, outer = topology.triplet_in
        factors = _factors(net.mlp_cbf_qint, radial["quadruplet"])[outer]
        circular = _circular(q[outer], v[inner], n, clamp)
        self.cbf_in = (factors * circular[:, None]).sum(-1)
        self.y_quad = topology.quad_items.pad(
            _spherical(v, q, topology.quadruplets, n, clamp)
        )


def _unit_and_scaled(graph: AtomGraph, edges: EdgeSet) -> tuple[Tensor, Tensor]:
    cell = graph.cell[graph.system_index[edges.target]]
    shift = (edges.shift.to(cell.dtype)[:, None] @ cell)[:, 0]
    vector = graph.positions[edges.target] - graph.positions[edges.source] - shift
    distance = torch.linalg.vector_norm(vector, dim=1)
    cutoff = edges.envelope_cutoff[graph.system_index[edges.target]]
    return vector / distance[:, None], distance / cutoff


def _radial(basis: Any, x: Tensor) -> Tensor:
    envelope = torch.where(x < 1, 1 - 21 * x**5 + 35 * x**6 - 15 * x**7, 0.0)
    gauss = torch.exp(-basis.temps.abs() * (x[:, None] - basis.offset) ** 2)
    return envelope[:, None] * gauss


def _factors(layer: Any, radial: Tensor) -> Tensor:
    """U (edges, embedding, angular), with the quirk of the layout of its weight."""
    n_radial, n_angular, n_embedding = layer.weight.shape
    product = radial @ layer.weight.reshape(n_radial, -1)
    return product.view(-1, n_embedding, n_angular)


def _legendre(c: Tensor, n: int) -> Tensor:
    """Y_l of a cosine, l on the last axis."""
    p = [torch.ones_like(c), c]
    for m in range(1, n - 1):
        p.append(((2 * m + 1) * c * p[m] - m * p[m - 1]) / (m + 1))
    scale = [math.sqrt((2 * m + 1) / (4 * math.pi)) for m in range(n)]
    return torch.stack([s * x for s, x in zip(scale, p[:n], strict=True)], dim=-1)


def _circular(a: Tensor, b: Tensor, n: int, clamp: bool) -> Tensor:
    c = (a * b).sum(-1)
    return _legendre(c.clamp(-1, 1) if clamp else c, n)


def _spherical(v: Tensor, q: Tensor, quads: Tensor, n: int, clamp: bool) -> Tensor:
    """Y_l of the angle c, a, b times Y_k of the dihedral: columns (l, k)."""
    d_to_b, b_to_a, c_to_a = quads
    angle = _circular(v[c_to_a], q[b_to_a], n, clamp)
    across_c = torch.linalg.cross(v[c_to_a], q[b_to_a])
    across_d = torch.linalg.cross(v[d_to_b], q[b_to_a])
    x = (across_c * across_d).sum(-1)
    if clamp:
        y = torch.linalg.vector_norm(torch.linalg.cross(across_c, across_d), dim=-1)
        theta = torch.atan2(y.clamp(min=SINE_FLOOR), x)
        dihedral = _legendre(torch.cos(theta), n)
    else:
        dihedral = _smooth_dihedral(x, across_c, across_d, n)
    return (angle[:, :, None] * dihedral[:, None]).flatten(1)


def _smooth_dihedral(x: Tensor, p: Tensor, q: Tensor, n: int) -> Tensor:
    """Smooth rules: cos(j theta) times (sin sin)^j, a polynomial of the vectors."""
    square = (p * p).sum(-1) * (q * q).sum(-1)
    t = [torch.ones_like(x), x]
    while len(t) < n:
        t.append(2 * x * t[-1] - square * t[-2])
    # coefficients of Y_k in cos(j theta), from values at Chebyshev points
    angles = torch.arange(n, dtype=torch.float64).add(0.5) * (math.pi / n)
    values = _legendre(torch.cos(angles), n)  # (points, k)
    cosines = torch.cos(angles[:, None] * torch.arange(n))  # (points, j)
    series = torch.linalg.solve(cosines, values)  # (j, k)
    return torch.stack(t[:n], dim=-1) @ series.to(x.dtype)


def _act(x: Tensor) -> Tensor:
    return silu(x) / 0.6


def _dense(layer: Any, x: Tensor) -> Tensor:
    return _act(linear(x, layer.weight))


def _residuals(stack: Any, x: Tensor) -> Tensor:
    for layer in stack:
        x = (x + _dense(layer[1], _dense(layer[0], x))) / math.sqrt(2)
    return x


def _scaled(layer: Any, x: Tensor) -> Tensor:
    return x if layer.factor == 0 else x * layer.factor


def _bilinear(layer: Any, u: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Efficient bilinear layer over padded items: y (rows, width, k), x likewise."""
    z = y.transpose(1, 2) @ x
    return linear((u @ z).flatten(1), layer.weight)


def _gated(part: Any, x: Tensor, radial: Tensor) -> Tensor:
    x = _scaled(part.scale_radial, x * linear(radial, part.radial.weight))
    return _dense(part.down, x)


def _both_ways(part: Any, y: Tensor, graph: AtomGraph) -> Tensor:
    there, back = _dense(part.up_ca, y), _dense(part.up_ac, y)
    return (there + back[graph.swap]) / math.sqrt(2)


def _triplet(part: Any, edge: Tensor, bases: Any) -> Tensor:
    x = _gated(part, _dense(part.dense, edge), bases.rad_tint)
    items = bases.lists.e2e_items.pad(x[bases.lists.e2e[0]])
    y = _bilinear(part.bilinear, bases.u_tint, bases.y_e2e, items)
    return _both_ways(part, _scaled(part.scale_sum, y), bases.graph)


def _quadruplet(part: Any, edge: Tensor, bases: Any) -> Tensor:
    lists = bases.lists
    x = _gated(part, _dense(part.dense, edge), bases.rad_qint)
    x = x[lists.triplet_in[0]] * linear(bases.cbf_in, part.circular.weight)
    x = _scaled(part.scale_circular, x)
    items = lists.quad_items.pad(x[lists.quad_triplet])
    y = _bilinear(part.bilinear, bases.u_sbf, bases.y_quad, items)
    return _both_ways(part, _scaled(part.scale_sum, y), bases.graph)


def _atom_to_edge(part: Any, atom: Tensor, bases: Any) -> Tensor:
    source = bases.graph.atom_edge.source
    x = _gated(part, _dense(part.dense, atom)[source], bases.rad_aeint)
    items = bases.lists.a2e_items.pad(x[bases.lists.a2e[0]])
    y = _bilinear(part.bilinear, bases.u_aeint, bases.y_a2e, items)
    return _both_ways(part, _scaled(part.scale_sum, y), bases.graph)


def _edge_to_atom(part: Any, edge: Tensor, bases: Any) -> Tensor:
    x = _gated(part, _dense(part.dense, edge), bases.rad_eaint)
    items = bases.lists.e2a_items.pad(x[bases.lists.e2a[0]])
    z = bases.u_eaint @ (bases.y_e2a.transpose(1, 2) @ items)
    total = _sum(z.flatten(1), bases.graph.atom_edge.target, bases.graph.n_atoms)
    y = _scaled(part.scale_sum, linear(total, part.bilinear.weight))
    return _dense(part.up_ca, y)


def _atom_to_atom(part: Any, atom: Tensor, bases: Any) -> Tensor:
    items = bases.lists.pair_items
    x = items.pad(_dense(part.down, atom)[bases.graph.atom_atom.source])
    total = items.pad(bases.rad_aint).transpose(1, 2) @ x
    y = _scaled(part.scale_sum, linear(total.flatten(1), part.bilinear.weight))
    return _dense(part.up, y)


def _sum(x: Tensor, row: Tensor, n_rows: int) -> Tensor:
    return x.new_zeros((n_rows, x.shape[1])).index_add(0, row, x)


def _update(part: Any, edge: Tensor, radial: Tensor, graph: AtomGraph) -> Tensor:
    gated = edge * linear(radial, part.radial.weight)
    x = _scaled(part.scale_sum, _sum(gated, graph.main.target, graph.n_atoms))
    if hasattr(part.dense_in, "weight"):
        x = _dense(part.dense_in, x)
    return _residuals(part.residuals, x)


def _output(part: Any, atom: Tensor, edge: Tensor, bases: Any) -> Tensor:
    x = _update(part, edge, bases.rad_out, bases.graph)
    if len(part.after_atom):
        x = _residuals(part.after_atom, (x + atom) / math.sqrt(2))
    return x


def _block(block: Any, atom: Tensor, edge: Tensor, bases: Any) -> tuple[Tensor, Tensor]:
    main = bases.graph.main
    x = _dense(block.dense_ca, edge)
    x = x + _triplet(block.triplet, edge, bases)
    x = x + _quadruplet(block.quadruplet, edge, bases)
    x = (x + _atom_to_edge(block.atom_to_edge, atom, bases)) / 2
    to_atom = _edge_to_atom(block.edge_to_atom, edge, bases)
    atom = (atom + to_atom + _atom_to_atom(block.atom_to_atom, atom, bases)) / 3**0.5
    edge = (edge + _residuals(block.before_skip, x)) / math.sqrt(2)
    edge = _residuals(block.after_skip, edge)
    atom = _residuals(block.atom_residuals, atom)
    update = _update(block.atom_update, edge, bases.rad_h, bases.graph)
    atom = (atom + update) / math.sqrt(2)
    joined = torch.cat([atom[main.source], atom[main.target], edge], dim=1)
    new = _residuals(block.concat_residuals, _dense(block.concat, joined))
    return atom, (edge + new) / math.sqrt(2)
