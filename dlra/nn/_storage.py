"""Networks as files."""

from __future__ import annotations

from typing import Any

from dlra.backend import to_host
from dlra.lowrank import LowRank
from dlra.nn._layer import Layer, WeightLayer
from dlra.nn.network import Sequential
from dlra.solution import portable, revived

__all__ = ["about", "load", "save"]


def save(net: Sequential, path: Any, about: dict[str, Any] | None = None) -> None:
    """Write layers and parameters to an HDF5 file, with what else there is to say about the network."""
    from dlra import _files

    for layer in net.layers:
        if type(layer).__name__ not in known_layers():
            raise TypeError(f"only layers of dlra.nn can be stored, got {layer!r}")
    tree = {
        "layers": [
            {
                "class": type(layer).__name__,
                "config": layer.config(),
                "parameters": [_on_host(p) for p in layer.members],
            }
            for layer in net.layers
        ],
        "about": about or {},
    }
    _files.write(path, "network", tree)


def load(path: Any) -> Sequential:
    """Read a network that ``net.save(path)`` has written, as NumPy arrays; its weights have the rank they had.

    Parameters
    ----------
    path : path

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
    ValueError
        The file is foreign, torn, or holds something else, or a layer that this version does not know.
    """
    from dlra import _files

    layers = []
    for i, item in enumerate(_files.read(path, "network")["layers"]):
        known = known_layers()
        if item["class"] not in known:
            raise ValueError(
                f"{path} has a layer {i} of class {item['class']}, which this version of dlra does not know (it knows "
                f"{', '.join(known)}): upgrade dlra"
            )
        parameters = tuple(revived(p) for p in item["parameters"])
        layers.append(known[item["class"]].from_config(item["config"], parameters))
    return Sequential(layers)


def about(path: Any) -> dict[str, Any]:
    """Return what was stored beside the network."""
    from dlra import _files

    return _files.read(path, "network")["about"]


def known_layers() -> dict[str, type[Layer]]:
    """The layers that a file may hold, by name."""
    from dlra.nn import composed, convolution, layers

    found = {}
    for module in (layers, convolution, composed):
        for name in module.__all__:
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, Layer) and value is not WeightLayer:
                found[name] = value
    return found


def _on_host(p: Any) -> Any:
    """A parameter as NumPy arrays, in a form that a file can hold."""
    if isinstance(p, LowRank):
        U, S, V = (to_host(a) for a in p.factors)
        return portable(LowRank._make(U, S, V, p._orthonormal))
    return to_host(p)
