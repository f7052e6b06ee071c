"""hw2_cnn.ipynb: network, training step, augmentation, data rules, download, views."""

import io
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from unittest.mock import Mock

import notebooks
import pytest
import torch
from conftest import ROOT, load_definitions
from PIL import Image
from torch import nn
from torch.testing import assert_close

ns = load_definitions("hw2_cnn.ipynb")
ns.device = torch.device("cpu")
ns.precision = torch.float32
ns.criterion = nn.CrossEntropyLoss()
ns.display = Mock()


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_network_has_what_the_task_asks_and_can_be_clipped():
    net = ns.CNN().eval()
    kinds = [type(m) for m in net.modules()]
    assert kinds.count(nn.Conv2d) >= 2
    assert {nn.BatchNorm2d, nn.ReLU, nn.AdaptiveAvgPool2d, nn.Linear} <= {*kinds}
    for side in (64, 73, 112):
        x = torch.randn(2, 3, side, side)
        assert net(x).shape == (2, 2)
        assert_close(nn.Sequential(*net.children())(x), net(x))
    block, x = net.stage2[1], torch.randn(2, 64, 6, 6)
    assert_close(block(x), x.relu())  # which starts as the identity
    nn.init.ones_(block.f[-1].weight)
    assert not torch.allclose(block(x), x.relu())


def test_loss_and_step():
    batch = torch.tensor([[2.0, 0], [0, 1], [3, 0]]), torch.tensor([0, 1, 1])
    found = ns.get_loss_and_correct(nn.Identity(), batch, ns.criterion, "cpu")
    assert_close(found[0], -batch[0].log_softmax(1)[range(3), batch[1]].mean())
    assert found[1] == 2 and isinstance(found[1], int)
    p = nn.Parameter(torch.tensor([1.0]))
    ns.step(p.square().sum(), torch.optim.SGD([p], lr=0.1))
    assert_close(p.data, torch.tensor([0.8]))
    assert p.grad is None or not p.grad.any()


@pytest.mark.parametrize("shape", [(24, 90), (90, 24), (32, 32)])
def test_orthogonalise_is_the_newton_schulz_iteration(shape):
    g = torch.randn(shape)
    x = (g / g.norm()).double()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    assert_close(ns.orthogonalise(g), x.float(), atol=0.01, rtol=0)
    values = torch.linalg.svdvals(ns.orthogonalise(g))
    assert values.min() > 0.5 and values.max() < 1.3


def test_muon_takes_the_filters_and_adamw_the_others():
    filters, ours, theirs = (nn.Parameter(torch.zeros(6, 4, 1, 1)) for _ in range(3))
    settings = {"lr": 0.01, "betas": (0.9, 0.98), "weight_decay": 0.1}
    muon = {"params": [filters], "lr": 0.1, "weight_decay": 0.5, "muon": True}
    mine = ns.Muon([muon, {"params": [ours], "muon": False}], **settings)
    adam = torch.optim.AdamW([theirs], **settings)
    mean, want = 0, torch.zeros(6, 4)
    for _ in range(3):
        g = torch.randn(6, 4, 1, 1)
        filters.grad, ours.grad, theirs.grad = g.clone(), g.clone(), g.clone()
        mine.step()
        adam.step()
        mean = 0.95 * mean + 0.05 * g
        nesterov = (0.05 * g + 0.95 * mean).flatten(1)
        want = (1 - 0.1 * 0.5) * want - 0.1 * 1.5**0.5 * ns.orthogonalise(nesterov)
    assert_close(filters.flatten(1), want, atol=1e-3, rtol=0)
    assert_close(ours, theirs)
    assert set(mine.state[filters]) == {"mean"}  # no moments of AdamW beside it


def test_optimizer_has_every_weight_and_fits_a_few_pictures():
    net = ns.CNN()
    optimizer, rates = ns.make_optimizer(net, steps=5)
    optimised = [p for group in optimizer.param_groups for p in group["params"]]
    assert {*optimised} == {*net.parameters()}
    batch, losses = (torch.randn(8, 3, 32, 32), torch.arange(8) % 2), []
    for _ in range(6):
        loss, _ = ns.get_loss_and_correct(net, batch, ns.criterion, "cpu")
        ns.step(loss, optimizer)
        rates.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    factors = [ns.rate_factor(t) for t in (0.0, 0.08, 1.0)]
    assert factors == pytest.approx([0, 1, 0])


def test_first_layer_is_principal_components():
    ramp = torch.linspace(0, 255, 80).expand(4, 3, 80, 80)
    filters = ns.principal_patches(ramp + 2 * torch.randn(4, 3, 80, 80), 4).flatten(1)
    assert_close(filters[:4], -filters[4:])
    assert_close(filters[:4] @ filters[:4].T / 0.58**2, torch.eye(4), atol=1e-4, rtol=0)
    flat = filters[0] / filters[0].mean()  # brightness varies most, and comes first
    assert_close(flat, torch.ones(75), atol=0.2, rtol=0)


def test_augment_gives_each_picture_changes_of_its_own(monkeypatch):
    monkeypatch.setattr(ns, "blank_squares", lambda x: x)
    ramp = torch.arange(100, dtype=torch.uint8).expand(64, 3, 100, 100)
    out = ns.augment(ramp, 48)
    assert out.shape == (64, 3, 48, 48) and out.abs().max() < 8
    shape = out[:, 0] - out[:, 0].mean((1, 2), keepdim=True)
    shape /= shape.std((1, 2), keepdim=True)  # so that light and contrast do not count
    assert len({round(x[0, 0].item(), 3) for x in shape}) > 32


@pytest.mark.parametrize("turn, reach", [(0.0, 1.000001), (ns.TURN, 1.25)])
def test_random_boxes_stay_inside(monkeypatch, turn, reach):
    monkeypatch.setattr(ns, "TURN", turn)  # a turned box may look over the edge
    boxes = ns.random_boxes(4000)
    area = boxes[:, :, :2].det().abs()
    assert area.min() > 0.99 * ns.AREA and area.max() < 1.001
    assert 0.4 < (boxes[:, 0, 0] < 0).float().mean() < 0.6  # mirrored half of the time
    assert (boxes[:, :, 2].abs() + boxes[:, :, :2].norm(dim=1)).max() < reach


def test_the_average_follows_the_weights_slowly():
    averages, weights = [torch.zeros(2)], [torch.ones(2)]
    ns.running_average(averages, weights, torch.tensor(4490))
    assert_close(averages[0], torch.full((2,), 0.002))


def test_a_look_is_at_corners_and_centre_and_mirrored():
    ns.model = lambda x: x[..., :4].mean((2, 3))[:, :2]  # brightness of the left half
    image = torch.zeros(1, 3, 40, 60, dtype=torch.uint8)
    image[:, :, :20, 30:] = 255  # top right quarter
    black, white = ns.normalise(torch.tensor([0.0, 255]).view(2, 1, 1, 1))[:, 0, 0, 0]
    seen = {place: white if place == (0, 1) else black for place in ns.FIVE[:4]}
    seen[0.5, 0.5] = black + (white - black) / 4  # through the mirror image alone
    for place, brightness in seen.items():
        look = ns.look(image, 8, 0.5, (place,))[0, 0]
        assert_close(look, brightness, atol=0.05, rtol=0)
    mean = sum(seen.values()) / 5
    assert_close(ns.look(image, 8, 0.5, ns.FIVE)[0, 0], mean, atol=0.05, rtol=0)


def test_predict():
    ns.model = ns.CNN()
    images = torch.randint(0, 256, (3, 3, 50, 81), dtype=torch.uint8)
    p = ns.predict(images)
    assert p.shape == (3, 2)
    assert_close(p.sum(1), torch.ones(3))
    assert_close(ns.predict(images.flip(3)), p, atol=1e-3, rtol=0)
    assert_close(ns.predict(images[1:2]), p[1:2], atol=1e-4, rtol=0)


def test_boxes_are_of_the_validation_half_and_their_class_and_cover_what_they_name():
    ns.held_out_labels = torch.zeros(1000)
    validation, _ = ns.split_halves(1000)  # of the course's seed: no other has them
    for group, text in ns.BOXES.items():
        indices, masks = ns.read_boxes(text)
        assert len({*indices.tolist()} & {*validation.tolist()}) == 18
        assert ((indices < 500) == (group == "cats")).all()
        assert masks.float().mean((1, 2)).max() <= 0.72
    indices, masks = ns.read_boxes("7:0918 12:2345")
    assert indices.tolist() == [7, 12] and masks[0].sum() == 80
    assert masks[1].nonzero().tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    covered = ns.cover(torch.full((2, 3, 20, 20), 9, dtype=torch.uint8), masks)[1]
    assert covered[:, 5, 9].tolist() == [124, 116, 106] and covered[0, 5, 13] == 9


def test_bright_borders_come_from_padding_with_zeros():
    net = ns.CNN().eval()
    nn.init.constant_(net.stem[0].weight, -1.0)  # zeros are brighter than what is shown
    nn.init.constant_(net.stem[1].bias, 30.0)
    images = torch.full((2, 3, 32, 32), 140, dtype=torch.uint8)
    images[:, :, 16, 16] = 130
    assert ns.bright_at_border(net, 1, images).all()
    net.stem[0].padding_mode = "reflect"
    assert not ns.bright_at_border(net, 1, images).any()


@pytest.mark.parametrize("low", [True, False])
@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_precision_goes_by_capability_or_time(monkeypatch, kind, low):
    capability, seconds = ((8, 0), 0.5) if low else ((7, 5), 1.1)
    monkeypatch.setattr(ns, "device", torch.device(kind))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    times = {torch.float32: 1, torch.bfloat16: seconds}
    monkeypatch.setattr(ns, "seconds_of_conv", lambda: times)
    assert ns.pick_precision()[0] == (torch.bfloat16 if low else torch.float32)


def test_a_card_that_cannot_compute_is_not_used(monkeypatch):
    fails = Mock(side_effect=RuntimeError("no kernel image is available"))
    monkeypatch.setattr(torch, "ones", fails)
    assert ns.cuda_runs() is False


def test_named_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cats_and_dogs_filtered", "mine"):
        Path(name, "train").mkdir(parents=True)
    for named, found in (("", "cats_and_dogs_filtered"), ("mine", "mine")):
        monkeypatch.setenv("CATS_AND_DOGS_DIR", named)
        assert ns.find_data() == (Path(found), False)


def test_no_data_and_no_network_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CATS_AND_DOGS_DIR", "nowhere")
    monkeypatch.setattr(ns, "URL", "http://127.0.0.1:9/none.zip")
    monkeypatch.setattr(ns.tempfile, "tempdir", str(tmp_path.parent))
    folder, stand_in = ns.find_data()
    assert stand_in and (folder / "validation" / "dogs").is_dir()
    assert "failed and was deleted" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    images, labels = ns.read_pictures(folder / "validation")
    assert images.shape == (100, 3, ns.SIDE, ns.SIDE) and images.dtype == torch.uint8
    assert labels.tolist() == [0] * 50 + [1] * 50


def test_stand_in_pictures_get_no_verdict():
    cells = notebooks.read(ROOT / "hw2_cnn.ipynb")["cells"]
    source = {cell["id"]: cell["source"] for cell in cells}["closing-table"]
    closing = {"measures": [{"verdict": "pass"}], "claims": [{"verdict": "holds"}]}
    shown = []
    names = {"stand_in": True, "closing": closing, "print": shown.append}
    exec(source, names | {"show_closing_table": lambda: None})  # noqa: S102
    assert {r["verdict"] for rows in closing.values() for r in rows} == {"stand-in"}
    assert "STAND-IN DATA" in shown[0] and "STAND-IN DATA" in ns.BANNER


def test_broken_picture_or_missing_class_is_named(tmp_path):
    ns.draw_stand_in(tmp_path, 2, 1)
    victim = tmp_path / "train" / "dogs" / "001.jpg"
    for content in (victim.read_bytes()[:900], b"not a picture", b""):
        victim.write_bytes(content)
        with pytest.raises(RuntimeError, match="001.jpg is not a whole picture"):
            ns.read_pictures(tmp_path / "train")
    victim.parent.rename(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError, match="dogs is missing"):
        ns.read_pictures(tmp_path / "train")


def archive(*names: str) -> bytes:
    """A zip laid out like the course's, of one picture in each folder, and more."""
    png, file = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (8, 8)).save(png, "PNG")
    for folder in ("train/cats", "train/dogs", "validation/cats", "validation/dogs"):
        names = (*names, f"cats_and_dogs_filtered/{folder}/0.png")
    with zipfile.ZipFile(file, "w") as zipped:
        for name in names:
            zipped.writestr(name, png.getvalue())
    return file.getvalue()


WHOLE, OUTSIDE = archive(), archive("../outside.png")
DAMAGED = WHOLE[:60] + b"\0" * 40 + WHOLE[100:]
FAULTS = {  # what the server holds, how much it sends, the size asked, the reason told
    "cut off": (WHOLE[:-40], None, len(WHOLE), "should be"),
    "too long": (WHOLE + b"more", None, len(WHOLE), "should be"),
    "not a zip": (b"x" * 500, None, 500, "not a zip"),
    "damaged inside": (DAMAGED, None, len(WHOLE), ""),
    "a member outside": (OUTSIDE, None, len(OUTSIDE), "points outside"),
    "gone half-way": (WHOLE, len(WHOLE) // 2, len(WHOLE), "should be|bytes read"),
    "not there": (None, None, len(WHOLE), "404"),
}


class Handler(BaseHTTPRequestHandler):
    log_message = Mock()

    def do_GET(self):
        body, sent = self.server.holds
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or "")))
        self.end_headers()
        self.wfile.write((body or b"")[:sent])


@pytest.mark.parametrize("fault", FAULTS)
def test_broken_download_then_recovery(tmp_path, monkeypatch, fault):
    monkeypatch.setenv("no_proxy", "*")
    *holds, size, reason = FAULTS[fault]
    target = tmp_path / "in" / "cats_and_dogs_filtered"
    Path(f"{target}.partial", "of a killed run").mkdir(parents=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url, server.holds = f"http://127.0.0.1:{server.server_port}/", holds
        with pytest.raises(RuntimeError, match=f"failed and was deleted.*({reason})"):
            ns.download(url, target, size)
        assert [*tmp_path.rglob("*")] == [tmp_path / "in"]
        server.holds = WHOLE, None
        ns.download(url, target, len(WHOLE))
        server.shutdown()
    assert [*target.parent.iterdir()] == [target]
    assert ns.read_pictures(target / "train")[1].tolist() == [0, 1]
