"""hw2_cnn.ipynb: network, training step, augmentation, data rules, download, results."""

import http.server
import io
import re
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, load_definitions
from PIL import Image
from torch import nn

ns = load_definitions("hw2_cnn.ipynb")
ns.device = torch.device("cpu")
ns.precision = torch.float32
ns.criterion = nn.CrossEntropyLoss()
ns.display = lambda *_, **__: SimpleNamespace(update=lambda *_, **__: None)


def test_network_has_what_the_task_asks() -> None:
    net = ns.CNN()
    kinds = [type(m) for m in net.modules()]
    assert kinds.count(nn.Conv2d) >= 2
    assert nn.BatchNorm2d in kinds and nn.ReLU in kinds and nn.Linear in kinds
    assert nn.AdaptiveAvgPool2d in kinds
    net.eval()
    for side in (64, 73, 112):
        assert net(torch.randn(2, 3, side, side)).shape == (2, 2)


def test_block_starts_as_its_shortcut() -> None:
    block = ns.ResidualBlock(8, 8, 1).eval()
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), x.relu())
    nn.init.ones_(block.f[-1].weight)
    assert not torch.allclose(block(x), x.relu())


def test_block_is_left_out_at_its_rate_in_training_only() -> None:
    torch.manual_seed(0)
    block = ns.ResidualBlock(4, 4, 1)
    nn.init.ones_(block.f[-1].weight)
    block.f.eval()  # running statistics, so that f(x) is the same each time
    x = torch.rand(2, 4, 6, 6)
    with torch.no_grad():
        kept = F.relu(x + block.f(x) / (1 - ns.SKIP))
        outs = [block(x) for _ in range(400)]
        skipped = [torch.equal(out, x) for out in outs]
        assert sum(skipped) / 400 == pytest.approx(ns.SKIP, abs=0.06)
        for out, gone in zip(outs, skipped, strict=True):
            assert gone or torch.allclose(out, kept)
        block.eval()
        for _ in range(50):
            torch.testing.assert_close(block(x), F.relu(x + block.f(x)))


def test_clipping_gives_the_stages() -> None:
    net = ns.CNN().eval()
    x = torch.randn(1, 3, 64, 64)
    sizes = [
        tuple(nn.Sequential(*list(net.children())[:k])(x).shape[1:])
        for k in (1, 2, 3, 4)
    ]
    assert sizes == [(32, 32, 32), (64, 16, 16), (128, 8, 8), (192, 4, 4)]
    whole = nn.Sequential(*net.children())(x)
    torch.testing.assert_close(whole, net(x))


def test_loss_and_correct() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0]])
    labels = torch.tensor([0, 1, 1])
    loss, correct = ns.get_loss_and_correct(
        nn.Identity(), (logits, labels), nn.CrossEntropyLoss(), "cpu"
    )
    expected = -(logits.log_softmax(1)[range(3), labels]).mean()
    torch.testing.assert_close(loss, expected)
    assert correct == 2 and isinstance(correct, int)


def test_step_descends_and_clears_gradients() -> None:
    p = nn.Parameter(torch.tensor([1.0]))
    ns.step(p.square().sum(), torch.optim.SGD([p], lr=0.1))
    torch.testing.assert_close(p.data, torch.tensor([0.8]))
    assert p.grad is None or not p.grad.any()


@pytest.mark.parametrize("shape", [(24, 90), (90, 24), (32, 32)])
def test_orthogonalise(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    g = torch.randn(shape)
    u, _, v = torch.linalg.svd(g, full_matrices=False)
    out = ns.orthogonalise(g)
    values = (u.T @ out @ v.T).diagonal()
    assert values.min() > 0.5 and values.max() < 1.3


def test_orthogonalise_is_the_newton_schulz_iteration() -> None:
    torch.manual_seed(0)
    g = torch.randn(24, 90, dtype=torch.float64)
    x = g / g.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    torch.testing.assert_close(
        ns.orthogonalise(g.float()), x.float(), atol=0.01, rtol=0
    )


def test_muon_follows_the_momentum() -> None:
    torch.manual_seed(0)
    p = nn.Parameter(torch.zeros(6, 4, 1, 1))
    optimizer = ns.Muon([{"params": [p], "lr": 0.1, "muon": True}])
    first, second = torch.randn(6, 4, 1, 1), torch.randn(6, 4, 1, 1)
    p.grad = first
    optimizer.step()
    before = p.detach().clone()
    p.grad = second
    optimizer.step()
    mean = 0.05 * (0.95 * first + second)
    nesterov = (0.05 * second + 0.95 * mean).flatten(1)
    want = -0.1 * 1.5**0.5 * ns.orthogonalise(nesterov)
    torch.testing.assert_close((p - before).flatten(1), want, atol=1e-3, rtol=0)


def test_weights_of_a_block_left_out_stay() -> None:
    used, unused = (nn.Parameter(torch.ones(4, 4, 1, 1)) for _ in range(2))
    group = {"params": [used, unused], "lr": 0.1, "decay": 0.5, "muon": True}
    used.grad = torch.randn(4, 4, 1, 1)
    ns.Muon([group]).step()
    assert torch.equal(unused, torch.ones(4, 4, 1, 1))
    assert not torch.equal(used, unused)


def test_optimizer_fits_a_few_pictures() -> None:
    torch.manual_seed(0)
    net = ns.CNN()
    optimizer = ns.make_optimizer(net)
    n_optimised = sum(p.numel() for g in optimizer.param_groups for p in g["params"])
    assert n_optimised == sum(p.numel() for p in net.parameters())
    batch = torch.randn(8, 3, 32, 32), torch.arange(8) % 2
    losses = []
    for _ in range(5):
        loss, _ = ns.get_loss_and_correct(net, batch, ns.criterion, "cpu")
        ns.step(loss, optimizer)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_adam_is_adam() -> None:
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    mine = ns.Muon([{"params": [ours], "lr": 0.01, "decay": 0.1}])
    adam = torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.98), weight_decay=0.1)
    for _ in range(5):
        g = torch.randn(5)
        for p, optimizer in ((ours, mine), (theirs, adam)):
            p.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_first_layer_is_principal_components() -> None:
    torch.manual_seed(0)
    ramp = torch.linspace(0, 255, 80).expand(4, 3, 80, 80)
    filters = ns.principal_patches(ramp + 2 * torch.randn(4, 3, 80, 80), 4).flatten(1)
    assert filters.shape == (8, 75)
    torch.testing.assert_close(filters[:4], -filters[4:])
    gram = filters[:4] @ filters[:4].T / 0.58**2
    torch.testing.assert_close(gram, torch.eye(4), atol=1e-4, rtol=0)
    flat = filters[0] / filters[0].mean()  # brightness varies most, and comes first
    torch.testing.assert_close(flat, torch.ones(75), atol=0.2, rtol=0)


def test_rate_factor() -> None:
    assert ns.rate_factor(0.0) == 0 and ns.rate_factor(1.0) < 1e-9
    assert ns.rate_factor(0.08) == pytest.approx(1)


def test_augment_varies_and_keeps_the_scale() -> None:
    torch.manual_seed(0)
    image = torch.randint(0, 256, (1, 3, 100, 100), dtype=torch.uint8)
    out = ns.augment(image.expand(64, -1, -1, -1), 48)
    assert out.shape == (64, 3, 48, 48) and out.dtype == torch.float32
    assert out.isfinite().all() and out.abs().max() < 8
    assert len({round(x.mean().item(), 5) for x in out}) == 64


def test_random_boxes_stay_inside(monkeypatch) -> None:
    torch.manual_seed(0)
    boxes = ns.random_boxes(4000)
    area = boxes[:, :, :2].det().abs()
    assert area.min() > 0.99 * ns.AREA and area.max() < 1.001
    assert 0.4 < (boxes[:, 0, 0] < 0).float().mean() < 0.6  # mirrored half of the time
    reach = boxes[:, :, 2].abs() + boxes[:, :, :2].norm(dim=1)
    assert reach.max() < 1.25  # a turned box may look over the edge by a little
    monkeypatch.setattr(ns, "TURN", 0.0)
    boxes = ns.random_boxes(4000)
    reach = boxes[:, :, 2].abs() + boxes[:, :, :2].norm(dim=1)
    assert reach.max() < 1 + 1e-6


def test_average_of_weights() -> None:
    a, b = nn.Linear(1, 1), nn.Linear(1, 1)
    nn.init.zeros_(a.weight), nn.init.ones_(b.weight)
    ns.update_average(a, b, 10**6)
    assert a.weight.item() == pytest.approx(1 - ns.AVERAGE, rel=1e-3)


def test_crops_are_the_corners_and_the_centre() -> None:
    ns.model = lambda x: x.mean((2, 3))[:, :2]  # brightness of what is shown
    image = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    image[:, :, :20, 30:] = 255  # top right quarter
    black, white = ns.normalise(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1))[:, 0, 0, 0]
    for down, across in ((0, 0), (0, 1), (1, 0), (1, 1)):
        got = ns.look(image, 8, 0.5, down, across)[0, 0]
        want = white if (down, across) == (0, 1) else black
        torch.testing.assert_close(got, want)
    quarter = black + (white - black) / 4
    torch.testing.assert_close(ns.look(image, 8, 0.5)[0, 0], quarter, atol=0.05, rtol=0)
    torch.testing.assert_close(
        ns.look_at_crops(image, 8, 0.5)[0, 0], quarter, atol=0.05, rtol=0
    )


def test_a_look_is_mirrored_too() -> None:
    ns.model = lambda x: x[..., :4].mean((2, 3))[:, :2]  # brightness of the left half
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    image[..., 4:] = 255
    black, white = ns.normalise(torch.tensor([0.0, 255.0]).view(2, 1, 1, 1))[:, 0, 0, 0]
    torch.testing.assert_close(ns.look(image, 8)[0, 0], (black + white) / 2)


def test_predict() -> None:
    torch.manual_seed(0)
    ns.model = ns.CNN()
    images = torch.randint(0, 256, (3, 3, 50, 81), dtype=torch.uint8)
    p = ns.predict(images)
    assert p.shape == (3, 2)
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    torch.testing.assert_close(ns.predict(images.flip(3)), p, atol=1e-3, rtol=0)
    torch.testing.assert_close(ns.predict(images[1:2]), p[1:2], atol=1e-4, rtol=0)


def test_split_is_the_courses() -> None:
    validation, test = ns.split_halves(1000)
    halves = torch.utils.data.random_split(
        range(1000), [500, 500], generator=torch.Generator().manual_seed(42)
    )
    assert validation.tolist() == list(halves[0]) and test.tolist() == list(halves[1])


def test_stand_in_has_the_layout_and_the_banner(tmp_path: Path) -> None:
    ns.draw_stand_in(tmp_path, 3, 2)
    images, labels = ns.read_pictures(tmp_path / "train")
    assert images.shape == (6, 3, ns.SIDE, ns.SIDE) and images.dtype == torch.uint8
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert "STAND-IN DATA" in ns.BANNER


def test_named_folder_comes_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cats_and_dogs_filtered" / "train").mkdir(parents=True)
    (tmp_path / "mine" / "train").mkdir(parents=True)
    monkeypatch.delenv("CATS_AND_DOGS_DIR", raising=False)
    assert ns.find_data() == (Path("cats_and_dogs_filtered"), False)
    monkeypatch.setenv("CATS_AND_DOGS_DIR", "mine")
    assert ns.find_data() == (Path("mine"), False)


def test_no_data_and_no_network_draws(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATS_AND_DOGS_DIR", "nowhere")
    monkeypatch.setattr(ns, "URL", "http://127.0.0.1:9/none.zip")
    folder, stand_in = ns.find_data()
    assert stand_in and (folder / "validation" / "dogs").is_dir()
    assert "failed and was deleted" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["truncated", "text", "empty"])
def test_broken_picture_is_named(tmp_path: Path, kind: str) -> None:
    ns.draw_stand_in(tmp_path, 2, 1)
    victim = tmp_path / "train" / "dogs" / "001.jpg"
    whole = victim.read_bytes()
    parts = {
        "truncated": whole[: len(whole) // 2],
        "text": b"not a picture",
        "empty": b"",
    }
    victim.write_bytes(parts[kind])
    with pytest.raises(RuntimeError, match="001.jpg is not a whole picture"):
        ns.read_pictures(tmp_path / "train")


def test_missing_class_is_named(tmp_path: Path) -> None:
    (tmp_path / "cats").mkdir()
    with pytest.raises(RuntimeError, match="dogs is missing"):
        (tmp_path / "cats" / "a.png").write_bytes(png())
        ns.read_pictures(tmp_path)


def png() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def archive(extra: str | None = None) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as zipped:
        for split in ("train", "validation"):
            for name in ("cats", "dogs"):
                zipped.writestr(f"cats_and_dogs_filtered/{split}/{name}/0.png", png())
        if extra:
            zipped.writestr(extra, "outside")
    return file.getvalue()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.server.body is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body[: self.server.sent])

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def give(body: bytes | None, sent: int | None = None) -> str:
        server.body, server.sent = body, sent
        return f"http://127.0.0.1:{server.server_port}/cats_and_dogs_filtered.zip"

    yield give
    server.shutdown()
    server.server_close()


WHOLE = archive()
OUTSIDE = archive("../outside.txt")
FAULTS = {
    "truncated file": (WHOLE[:-40], None, len(WHOLE), "should be"),
    "wrong size": (WHOLE + b"more", None, len(WHOLE), "should be"),
    "not a zip": (b"x" * 500, None, 500, "not a zip"),
    "member outside": (OUTSIDE, None, len(OUTSIDE), "points outside"),
    "gone half-way": (WHOLE, len(WHOLE) // 2, len(WHOLE), "should be|bytes read"),
    "not there": (None, None, len(WHOLE), "404"),
    "damaged inside": (WHOLE[:60] + b"\0" * 40 + WHOLE[100:], None, len(WHOLE), "."),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_download_then_recovery(serve, tmp_path: Path, fault: str) -> None:
    body, sent, size, reason = FAULTS[fault]
    target = tmp_path / "in" / "cats_and_dogs_filtered"
    with pytest.raises(RuntimeError) as caught:
        ns.download(serve(body, sent), target, size)
    message = str(caught.value)
    assert "failed and was deleted" in message and "\n" not in message
    assert re.search(reason, message)
    assert not list((tmp_path / "in").iterdir())
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    ns.download(serve(WHOLE), target, len(WHOLE))
    assert ns.read_pictures(target / "train")[1].tolist() == [0, 1]


def test_download_after_a_killed_run(serve, tmp_path: Path) -> None:
    target = tmp_path / "cats_and_dogs_filtered"
    (tmp_path / "cats_and_dogs_filtered.partial" / "cats_and_dogs_filtered").mkdir(
        parents=True
    )
    ns.download(serve(WHOLE), target, len(WHOLE))
    assert [p.name for p in tmp_path.iterdir()] == [target.name]


def test_download_where_nothing_can_be_written(serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, where a folder is needed")
    with pytest.raises(RuntimeError, match="failed and was deleted"):
        ns.download(serve(WHOLE), tmp_path / "file" / "images", len(WHOLE))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_acceptance_of_the_stand_in_says_so(capsys) -> None:
    cells = nbformat.read(ROOT / "hw2_cnn.ipynb", as_version=4).cells
    (cell,) = (c for c in cells if "acceptance" in c.metadata.get("tags", []))
    names = ("validation_accuracy", "test_accuracy", "held_out_accuracy")
    exec(  # noqa: S102
        cell.source, {"stand_in": True, "train_seconds": 5} | dict.fromkeys(names, 1)
    )
    printed = capsys.readouterr().out
    assert "STAND-IN DATA" in printed
    assert printed.count("stand-in") == 4 and "pass" not in printed


def test_committed_results() -> None:
    cells = nbformat.read(ROOT / "hw2_cnn.ipynb", as_version=4).cells
    outputs = [o for c in cells if c.cell_type == "code" for o in c.outputs]
    text = "".join(o.text for o in outputs if o.output_type == "stream")
    assert "STAND-IN DATA" not in text
    got = dict(re.findall(r"^(\S.*?)  .*  ([\d.]+)  pass$", text, re.MULTILINE))
    assert float(got["accuracy on all pictures never trained on"]) >= 0.90
    assert float(got["validation accuracy"]) >= 0.88
    assert float(got["test accuracy"]) >= 0.88
    assert float(got["training, minutes"]) <= 10
