"""The printed module is ordinary PyTorch: it trains, compiles, copies, saves, and stays exact."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from gatewright.backends.torch.build import build_module, with_weights
from gatewright.frontend.importer import import_model
from gatewright.frontend.quantise import quantise
from gatewright.ir.formats import ScalarFormat
from gatewright.ir.graph import Graph
from gatewright.ir.ops.cast import Cast
from gatewright.ir.transforms.legalise import legalise
from gatewright.sim.golden import evaluate
from tests.torch_backend.models import tiny


def golden(graph: Graph, inputs: torch.Tensor) -> np.ndarray:
    """The golden model's outputs as reals."""
    integers = legalise(graph).graph
    format = integers.inputs[0].format
    assert isinstance(format, ScalarFormat)
    codes = evaluate(integers, [format.encode(inputs.double().numpy())])[0]
    return integers.outputs[0].format.decode(codes)  # type: ignore[attr-defined]


def batch(size: int = 64, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 8, generator=generator) * 3


def test_forward_equals_golden_in_every_mode() -> None:
    _, graph = tiny()
    module, x = build_module(graph), batch()
    expected = golden(graph, x)
    with torch.no_grad():
        np.testing.assert_array_equal(module(x).double().numpy(), expected)
        np.testing.assert_array_equal(module(x).double().numpy(), expected)
    np.testing.assert_array_equal(module(x).detach().double().numpy(), expected)
    np.testing.assert_array_equal(module.train()(x).detach().double().numpy(), expected)
    with torch.inference_mode():
        np.testing.assert_array_equal(module.eval()(x).double().numpy(), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(module(x).detach().double().numpy(), expected)
    np.testing.assert_array_equal(copy.deepcopy(module).double()(x.double()).detach().numpy(), expected)


@pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
def test_forward_and_training_on_every_device(device: str) -> None:
    _, graph = tiny()
    module, x = build_module(graph).to(device), batch()
    with torch.no_grad():
        np.testing.assert_array_equal(module(x.to(device)).cpu().double().numpy(), golden(graph, x))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        module.train()(x.to(device)).square().mean().backward()
        optimizer.step()
    trained = with_weights(graph, module)
    with torch.no_grad():
        found = module.eval()(x.to(device)).cpu().double().numpy()
    np.testing.assert_array_equal(found, golden(trained, x))


def test_state_dict_has_the_original_keys_and_loads_both_ways() -> None:
    model, graph = tiny()
    module = build_module(graph)
    assert {name: value.shape for name, value in module.state_dict().items()} == {
        name: value.shape for name, value in model.state_dict().items()
    }
    assert [name for name, _ in module.named_parameters()] == [name for name, _ in model.named_parameters()]
    module.load_state_dict(model.state_dict())
    model.load_state_dict(module.state_dict())


def test_names_that_python_has_no_letters_for() -> None:
    names = ['q"\\$n*/', "a\nb", "été", "class", "a-b"]
    model = nn.Sequential()
    for name in names:
        model.add_module(name, nn.Linear(4, 4))
    x = torch.randn(6, 4)
    graph = quantise(import_model(model.eval(), (x,)), "fixed<8,4>")
    module = build_module(graph)
    assert set(module.state_dict()) == set(model.state_dict())
    assert torch.equal(module(x).double(), torch.from_numpy(golden(graph, x)))


def test_source_is_readable() -> None:
    _, graph = tiny()
    code = build_module(graph, "Tiny").code
    assert "class QuantisedTiny(gw.Module):" in code
    assert "F.linear(" in code
    assert "self.quantised(self.body[0].weight," in code
    assert "# first (models.py:" in code
    compile(code, "printed", "exec")


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiles(backend: str) -> None:
    _, graph = tiny()
    module, x = build_module(graph), batch()
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    expected = golden(graph, x)
    with torch.no_grad():
        np.testing.assert_array_equal(compiled(x).double().numpy(), expected)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            np.testing.assert_array_equal(compiled(x).double().numpy(), expected)
    torch._dynamo.reset()


def test_compiled_training_has_the_eager_gradients() -> None:
    _, graph = tiny()
    module, x = build_module(graph).train(), batch()
    module(x).square().sum().backward()
    expected = {name: value.grad.clone() for name, value in module.named_parameters()}
    module.zero_grad()
    torch.compile(module, backend="aot_eager", fullgraph=True)(x).square().sum().backward()
    for name, value in module.named_parameters():
        torch.testing.assert_close(value.grad, expected[name])
    torch._dynamo.reset()


def test_copies_and_pickles() -> None:
    _, graph = tiny()
    module, x = build_module(graph), batch()
    expected = module(x)
    duplicate = copy.deepcopy(module)
    restored = pickle.loads(pickle.dumps(module))
    with torch.no_grad():
        module.first.weight.zero_()
    assert torch.equal(duplicate(x), expected)
    assert torch.equal(restored(x), expected)
    assert restored.code == module.code


def test_kept_weights_follow_every_change() -> None:
    _, graph = tiny()
    module, x = build_module(graph), batch()
    with torch.no_grad():
        before = module(x)
        module.head.weight.mul_(0.5)
        changed = module(x)
        assert not torch.equal(before, changed)
        module.head.weight = nn.Parameter(module.head.weight * 2)
        assert torch.equal(module(x), before)
        module.load_state_dict({name: value * 0 for name, value in module.state_dict().items()})
        assert not module(x).any()


def test_training_lowers_the_loss_and_the_result_compiles_again() -> None:
    model, graph = tiny()
    module, x = build_module(graph).train(), batch(256)
    target = (x[:, :3] * x[:, 3:6]).clamp(-4, 4)
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(module(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    module.eval()
    again = quantise(import_model(module, (x[:4],)), None)
    casts = [str(node.op.spec) for node in graph.nodes if isinstance(node.op, Cast)]
    assert sorted(str(node.op.spec) for node in again.nodes if isinstance(node.op, Cast)) == sorted(casts)
    with torch.no_grad():
        found = module(x).double().numpy()
    np.testing.assert_array_equal(golden(again, x), found)
    np.testing.assert_array_equal(golden(with_weights(graph, module), x), found)
    model.load_state_dict(module.state_dict())
