"""Inception and DINOv2 without their weights: counts from the papers' tables, resizes by hand, and features that
torch-fidelity 0.4.0 and transformers 5.23 compute from the same made-up weights (measured once, written down here)."""

import hashlib
import re
from math import prod

import pytest
import torch
from safetensors.torch import load_file, save_file

from fromnoise.core.errors import DataError, FromNoiseError, UsageError
from fromnoise.core.rng import Rng
from fromnoise.measures.published import dinov2, inception
from fromnoise.measures.published import networks as published
from fromnoise.measures.published.networks import load_published


def on_paper(make):
    """The network without numbers: names and shapes only."""
    with torch.device("meta"):
        return make()


def shapes_of(net) -> dict:
    return {
        name: tuple(value.shape)
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def made_up(shapes: dict) -> dict:
    """Weights under which features depend on the image and stay finite; the same on every machine."""

    def value(name, shape):
        u = Rng(0, ("made up",)).uniform(name, shape) - 0.5
        if len(shape) == 1:
            return 0.1 * u if name.endswith(("bias", "running_mean")) else 1 + 0.6 * u
        return u if len(shape) == 3 else u * (12 * 2.2 / prod(shape[1:])) ** 0.5

    return {name: value(name, shape) for name, shape in shapes.items()}


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def written(folder, tensors: dict):
    """A safetensors file of these tensors and its digest."""
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return path, digest(path)


def images(n: int, channels: int = 3, side: int = 8) -> torch.Tensor:
    return Rng(1).integers("images", 256, (n, channels, side, side)) / 127.5 - 1


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory):
    head = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}
    return written(
        tmp_path_factory.mktemp("inception"),
        made_up(shapes_of(on_paper(inception.Inception)) | head),
    )


@pytest.fixture(scope="module")
def inception_net(inception_file):
    return load_published(*inception_file)


@pytest.fixture(scope="module")
def dino_file(tmp_path_factory):
    return written(
        tmp_path_factory.mktemp("dino"),
        made_up(shapes_of(on_paper(lambda: dinov2.DINOv2(384, grid=16)))),
    )


@pytest.fixture(scope="module")
def dino_net(dino_file):
    return load_published(*dino_file)


# -- sizes ---------------------------------------------------------------------------------------------------------
def test_inception_has_the_weights_of_the_papers_table():
    """Convolutions counted block by block; 21,785,568 is also what Inception-v3 is known to have without classifier."""

    def a(n, p):
        return n * (64 + 48 + 64 + p) + 25 * 48 * 64 + 9 * (64 * 96 + 96 * 96)

    b = 9 * 288 * 384 + 288 * 64 + 9 * (64 * 96 + 96 * 96)

    def c(w):
        return 768 * (192 + w + w + 192) + 7 * (w * w + w * 192) + 7 * (3 * w * w + w * 192)

    d = 768 * (192 + 192) + 9 * 192 * 320 + 7 * 2 * 192 * 192 + 9 * 192 * 192

    def e(n):
        return n * (320 + 384 + 448 + 192) + 3 * 2 * 384 * 384 + 9 * 448 * 384 + 3 * 2 * 384 * 384

    stem = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 64 * 80 + 9 * 80 * 192
    total = (
        stem
        + a(192, 32)
        + a(256, 64)
        + a(288, 64)
        + b
        + c(128)
        + 2 * c(160)
        + c(192)
        + d
        + e(1280)
        + e(2048)
    )
    net = on_paper(inception.Inception)
    assert (
        sum(w.numel() for name, w in net.named_parameters() if name.endswith("conv.weight"))
        == total
        == 21_751_136
    )
    assert (
        sum(w.numel() for w in net.parameters()) == 21_785_568
    )  # and a scale and a shift for 17,216 channels
    assert (
        len(shapes_of(net)) == 94 * 5
    )  # 94 convolutions, each with four numbers a channel of batch normalisation


@pytest.mark.parametrize(
    "width,count,name",
    [(384, 22_056_576, "vits14"), (768, 86_580_480, "vitb14"), (1024, 304_368_640, "vitl14")],
)
def test_dinov2_has_the_known_number_of_parameters(width, count, name):
    net = on_paper(lambda: dinov2.DINOv2(width))
    assert (
        sum(w.numel() for w in net.parameters()) + width == count
    )  # the token of masks is not loaded
    assert dinov2.SIZES[width][0] == name
    assert net(torch.empty(2, 3, 224, 224, device="meta")).shape == (2, width)


# -- resizes -------------------------------------------------------------------------------------------------------
def test_tf1_bilinear_by_hand():
    x = torch.tensor([[[[0.0, 10.0], [20.0, 30.0]]]])
    rows = torch.tensor([[0.0, 5, 10, 10], [10, 15, 20, 20], [20, 25, 30, 30], [20, 25, 30, 30]])
    assert torch.equal(inception.tf1_bilinear(x, 4)[0, 0], rows)


def test_tf1_bilinear_shrinks_by_skipping():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert inception.tf1_bilinear(x, 2).flatten().tolist() == [0, 2, 8, 10]
    wide = torch.tensor([0.0, 1.0, 5.0]).expand(1, 1, 2, 3)
    assert inception.tf1_bilinear(wide, 2)[0, 0, 0].tolist() == [0, 3]  # read at 0 and at 1.5
    assert inception.tf1_bilinear(x, 4).equal(x)


def test_pillows_bicubic():
    edge = torch.tensor([0.0, 0.0, 255.0, 255.0]).expand(1, 1, 4, 4)
    free = inception.pil_bicubic(edge, 299)
    assert free.min() < -10 and free.max() > 265 and inception.clean(edge).equal(free.clamp(0, 255))
    assert inception.clean(torch.full((2, 3, 5, 7), 77.0)).sub(77).abs().max() < 1e-4
    ramp = torch.arange(64.0).expand(
        1, 1, 64, 64
    )  # half-pixel centres: pixel i of half as many lies at 2 i + 1/2
    assert torch.allclose(
        inception.pil_bicubic(ramp, 32)[0, 0, 9, 3:-3], 2 * torch.arange(3.0, 29.0) + 0.5, atol=1e-4
    )
    assert dinov2.in_bytes(edge).equal(dinov2.in_bytes(edge).round()) and not dinov2.clean(
        edge
    ).equal(dinov2.in_bytes(edge))


def test_inputs_of_the_networks():
    levels = torch.tensor([0.0, 128.0, 255.0]).view(1, 3, 1, 1).expand(1, 3, 6, 6)
    assert inception.prepare(levels, "tf1-bilinear")[0, :, 150, 150].tolist() == pytest.approx(
        [-1, 0, 127 / 128], abs=1e-6
    )
    found = dinov2.prepare(levels, "pil-bicubic")[0, :, 100, 100]
    assert torch.allclose(
        found, torch.tensor([-0.485 / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225])
    )


def cubic(t: torch.Tensor) -> torch.Tensor:
    """The convolution kernel of Keys 1981 with a = -0.75, torch's."""
    a, t = -0.75, t.abs()
    inner, outer = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    return torch.where(t <= 1, inner, torch.where(t < 2, outer, 0.0))


def test_positions_are_read_where_facebooks_code_reads_them():
    """Position i of 16 lies at (i + 1/2) 37 / 16.1 - 1/2 of 37, and is the sum of its four neighbours each way."""
    embed = dinov2.Embeddings(2, 37)
    y, x = torch.meshgrid(torch.arange(37.0), torch.arange(37.0), indexing="ij")
    grid = torch.stack([y.sin(), x.cos()], -1).reshape(1, -1, 2)
    embed.position_embeddings.data = torch.cat([torch.full((1, 1, 2), 99.0), grid], 1)
    found = embed.positions(16).detach()
    assert found.shape == (1, 257, 2) and (found[0, 0] == 99).all()
    at = (torch.arange(16) + 0.5) * 37 / 16.1 - 0.5
    weights = cubic(
        at[:, None] - torch.arange(37.0)
    )  # 16 37; no neighbour of the inner ones lies outside
    rows, columns = weights @ torch.arange(37.0).sin(), weights @ torch.arange(37.0).cos()
    found = found[0, 1:].view(16, 16, 2)
    assert torch.allclose(found[1:-1, 3, 0], rows[1:-1], atol=1e-4) and torch.allclose(
        found[5, 1:-1, 1], columns[1:-1], atol=1e-4
    )
    assert embed.positions(37) is embed.position_embeddings


# -- features ------------------------------------------------------------------------------------------------------
TORCH_FIDELITY = {
    0: 13.3026,
    319: 3.99719,
    320: 0.132374,
    703: 2.88308,
    704: 0.0174082,
    1088: 2.7793,
    1471: 0.527056,
    1472: 6.77489,
    1856: 19.9879,
}
TRANSFORMERS = {0: 1.78459, 1: 0.888315, 100: -1.09208, 200: -0.0108919, 383: 0.364636}


def agrees(features, golden: dict) -> bool:
    return all(
        features[0, i].item() == pytest.approx(value, rel=2e-4) for i, value in golden.items()
    )


def test_inception_is_torch_fidelitys(inception_net, inception_file):
    x = images(3)
    features = inception_net(x)
    assert features.shape == (3, 2048) and features.dtype == torch.float64
    assert (
        inception_net.name == f"inception-2015/tf1-bilinear/{inception_file[1][:12]}"
        and inception_net.dims == 2048
    )
    assert agrees(features, TORCH_FIDELITY)
    alone = inception_net(x[2:])
    assert torch.allclose(features[2:], alone, rtol=1e-5, atol=1e-5 * features.abs().max().item())
    assert inception_net(x[2:]).equal(alone)


def test_the_resize_is_part_of_the_name_and_changes_the_features(inception_net, inception_file):
    clean = load_published(*inception_file, resize="clean")
    assert clean.name == f"inception-2015/clean/{inception_file[1][:12]}"
    a, b = clean(images(1)), inception_net(images(1))
    assert (a - b).norm() > 0.01 * b.norm()


def test_dinov2_is_hugging_faces(dino_net, dino_file):
    """On a file whose grid of positions is 16 x 16, where both leave it as it is."""
    x = images(3)
    features = dino_net(x)
    assert features.shape == (3, 384) and features.dtype == torch.float64
    assert (
        dino_net.name == f"dinov2-vits14/pil-bicubic/{dino_file[1][:12]}" and dino_net.dims == 384
    )
    assert agrees(features, TRANSFORMERS)
    alone = dino_net(x[2:])
    assert torch.allclose(features[2:], alone, rtol=1e-5, atol=1e-5) and dino_net(x[2:]).equal(
        alone
    )


def test_batches_grey_and_pixels_as_an_image_file_has_them(dino_net, monkeypatch):
    grey = images(3, channels=1, side=28)
    features = dino_net(grey)
    assert torch.allclose(features, dino_net(grey.expand(-1, 3, -1, -1)), atol=1e-12)
    one, alone = grey[:1], dino_net(grey[:1])
    assert dino_net(one + 0.4 / 127.5).equal(alone) and not dino_net(one + 0.6 / 127.5).equal(alone)
    assert dino_net(9 * one).equal(dino_net((9 * one).clamp(-1, 1)))
    monkeypatch.setattr(published, "BATCH", 2)
    assert torch.allclose(features, dino_net(grey), atol=1e-5)
    assert dino_net(grey[:0]).shape == (0, 384)


def test_a_prefix_a_head_and_half_precision(tmp_path):
    shapes = shapes_of(on_paper(lambda: dinov2.DINOv2(384))) | {"embeddings.mask_token": (1, 384)}
    tensors = {
        f"dinov2.{name}": torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()
    }
    tensors["dinov2.layernorm.bias"] += 0.5
    net = load_published(*written(tmp_path, tensors | {"classifier.weight": torch.zeros(5, 768)}))
    assert net.name.startswith("dinov2-vits14/") and net.net.embeddings.grid == 37
    assert net(images(1)).equal(torch.full((1, 384), 0.5, dtype=torch.float64))


# -- refusals, each in one line --------------------------------------------------------------------------------------
def refusal(kind, path, expected, **options) -> str:
    with pytest.raises(kind) as caught:
        load_published(path, expected, **options)
    line = str(caught.value)
    assert isinstance(caught.value, FromNoiseError) and "\n" not in line and len(line) < 400, line
    return line


def test_digests(dino_file, tmp_path):
    path, found = dino_file
    assert found in refusal(UsageError, path, None)
    line = refusal(DataError, path, "0" * 64)
    assert "0" * 64 in line and found in line
    assert load_published(path, found.upper()).dims == 384
    assert "no weights file" in refusal(UsageError, tmp_path / "absent.safetensors", found)
    assert "Did you mean 'clean'?" in refusal(UsageError, path, found, resize="claen")


def test_files_that_are_none(dino_file, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(dino_file[0].read_bytes()[:5_000_000])
    assert "damaged" in refusal(DataError, path, digest(path))
    torch.save({"a": torch.zeros(2)}, path)
    assert "damaged or no safetensors" in refusal(DataError, path, digest(path))
    path.write_bytes(b"")
    assert "damaged" in refusal(DataError, path, digest(path))


def test_other_tensors(tmp_path):
    def zeros(shapes):
        return {name: torch.zeros(shape, dtype=torch.float16) for name, shape in shapes.items()}

    def refused(shapes):
        return refusal(DataError, *written(tmp_path, zeros(shapes)))

    right = shapes_of(on_paper(inception.Inception))
    assert "neither FID's Inception-v3 nor a DINOv2" in refused(
        {"layer.weight": (2, 3), "a": (1,), "b": (1,), "c": (1,)}
    )
    assert "neither" in refused({"embeddings.position_embeddings": (1, 1370, 1536)})
    assert "neither" in refused({"embeddings.position_embeddings": (5,)})
    first = "Conv2d_1a_3x3.conv.weight"
    assert "lacks Conv2d_1a_3x3.bn.weight and 468 more" in refused({first: right[first]})
    lacking = {
        name: shape for name, shape in right.items() if name != "Mixed_6e.branch_pool.bn.bias"
    }
    assert refused(lacking).endswith("it lacks Mixed_6e.branch_pool.bn.bias")
    assert "has beyond it AuxLogits.fc.bias" in refused(right | {"AuxLogits.fc.bias": (1000,)})
    line = refused(
        right | {"fc.weight": (1000, 2048), "fc.bias": (1000,)}
    )  # torchvision's: the same names, another network
    assert "another shape of fc.weight (1000, 2048) instead of (1008, 2048) and 1 more" in line
    assert "encoder.layer.0.layer_scale1.lambda1" in refused(
        {
            k: s
            for k, s in shapes_of(on_paper(lambda: dinov2.DINOv2(384))).items()
            if "lambda1" not in k
        }
    )
    assert "position_embeddings (1, 1371, 384) instead of" in refused(
        shapes_of(on_paper(lambda: dinov2.DINOv2(384)))
        | {"embeddings.position_embeddings": (1, 1371, 384)}
    )


def test_counters_of_training_are_passed_over(tmp_path):
    right = shapes_of(on_paper(inception.Inception))
    tensors = {name: torch.zeros(shape, dtype=torch.float16) for name, shape in right.items()}
    counters = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for name in right
        if name.endswith("running_mean")
    }
    net = load_published(*written(tmp_path, tensors | counters)).net
    assert not any(value.is_meta for value in net.state_dict().values()) and not net.training


def test_what_is_no_image(dino_net):
    for x in (torch.zeros(2, 5), torch.zeros(2, 4, 8, 8)):
        with pytest.raises(UsageError, match="images"):
            dino_net(x)
    with pytest.raises(DataError, match="finite"):
        dino_net(torch.full((1, 1, 8, 8), torch.nan))


def test_the_command_that_converts_weights_works(tmp_path):
    command = re.search(r'python -c "(.*?)"', published.__doc__, re.DOTALL)[1]
    torch.save({"a": torch.arange(6.0).view(2, 3).T}, tmp_path / "weights.pth")
    exec(command, {})  # the working folder is tmp_path
    assert load_file(tmp_path / "weights.safetensors")["a"].equal(torch.arange(6.0).view(2, 3).T)
