"""Networks that others published, written as plain functional calls on a state dict's names: a second opinion.

Nothing here knows the project's own networks. `*_shapes` are the names and shapes of the published files, at any
fraction of their width; `weights` fills them with seeded numbers; the functions named after a network evaluate it.
"""

import numpy as np
import torch
import torch.nn.functional as F

COUNTER = "num_batches_tracked"


class Shapes(dict):
    """Names and shapes of a state dict, collected layer by layer."""

    def conv(self, name, cin, cout, kernel, bias=True):
        k = kernel if isinstance(kernel, tuple) else (kernel, kernel)
        self[f"{name}.weight"] = (cout, cin, *k)
        if bias:
            self[f"{name}.bias"] = (cout,)

    def transposed(self, name, cin, cout, kernel, bias=True):
        self[f"{name}.weight"] = (cin, cout, kernel, kernel)
        if bias:
            self[f"{name}.bias"] = (cout,)

    def norm(self, name, channels):
        for part in ("weight", "bias", "running_mean", "running_var"):
            self[f"{name}.{part}"] = (channels,)
        self[f"{name}.{COUNTER}"] = ()

    def linear(self, name, cin, cout):
        self[f"{name}.weight"], self[f"{name}.bias"] = (cout, cin), (cout,)


def weights(shapes, seed=0):
    """Seeded tensors that keep the size of what passes through them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=generator)
        last = name.rsplit(".", 1)[1]
        if last == COUNTER:
            values = torch.tensor(7)
        elif last == "running_var":
            values = 0.6 + 0.8 * torch.rand(shape, generator=generator)
        elif last == "weight" and len(shape) == 1:
            values = 1 + 0.2 * values if name.removesuffix("weight") + "running_var" in shapes else 0.25 + 0.02 * values
        elif last == "weight":
            values *= (2.0 / np.prod(shape[1:])) ** 0.5
        else:
            values *= 0.1
        tensors[name] = values
    return tensors


def conv(w, name, x, stride=1, padding=0):
    return F.conv2d(x, w[f"{name}.weight"], w.get(f"{name}.bias"), stride, padding)


def norm(w, name, x):
    return F.batch_norm(x, *(w[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")))


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])


def frames(image):
    """(B, 3, H, W) in [0, 1] to what is shown, uint8 (B, H, W, 3)."""
    return np.rint(np.clip(image.numpy(), 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


# Wav2Lip and its expert: blocks of convolution, batch norm, the input where it is residual, ReLU.


def block_shapes(shapes, name, cin, cout, kernel, transposed=False):
    (shapes.transposed if transposed else shapes.conv)(f"{name}.conv_block.0", cin, cout, kernel)
    shapes.norm(f"{name}.conv_block.1", cout)


def block(w, name, x, stride=1, padding=1, residual=False):
    y = norm(w, f"{name}.conv_block.1", conv(w, f"{name}.conv_block.0", x, stride, padding))
    return F.relu(y + x if residual else y)


def up(w, name, x, stride=2, padding=1, more=1):
    y = F.conv_transpose2d(x, w[f"{name}.conv_block.0.weight"], w[f"{name}.conv_block.0.bias"], stride, padding, more)
    return F.relu(norm(w, f"{name}.conv_block.1", y))


FACE = ((16, 0), (32, 2), (64, 3), (128, 2), (256, 2), (512, 1))  # channels, residual blocks
DECODED = ((512, 512, 0), (1024, 512, 1), (1024, 512, 2), (768, 384, 2), (512, 256, 2), (320, 128, 2), (160, 64, 2))
SOUND = (
    (1, 32, 1),
    (32, 32, 1),
    (32, 32, 1),
    (32, 64, (3, 1)),
    (64, 64, 1),
    (64, 64, 1),
    (64, 128, 3),
    (128, 128, 1),
    (128, 128, 1),
    (128, 256, (3, 2)),
    (256, 256, 1),
)  # in, out, stride; residual where in == out


def sound_shapes(shapes, n, again):
    table = [*SOUND, *[(256, 256, 1)] * again]
    for i, (cin, cout, _) in enumerate(table):
        block_shapes(shapes, f"audio_encoder.{i}", 1 if cin == 1 else n(cin), n(cout), 3)
    block_shapes(shapes, f"audio_encoder.{len(table)}", n(256), n(512), 3)
    block_shapes(shapes, f"audio_encoder.{len(table) + 1}", n(512), n(512), 1)


def sound(w, mel, again):
    x = mel.transpose(1, 2)[:, None]
    table = [*SOUND, *[(256, 256, 1)] * again]
    for i, (cin, cout, stride) in enumerate(table):
        x = block(w, f"audio_encoder.{i}", x, stride, residual=cin == cout)
    x = block(w, f"audio_encoder.{len(table)}", x, padding=0)
    return block(w, f"audio_encoder.{len(table) + 1}", x, padding=0)


def wav2lip_shapes(width=1.0):
    shapes = Shapes()

    def n(channels):
        return int(channels * width)

    before = 6
    for i, (channels, same) in enumerate(FACE):
        block_shapes(shapes, f"face_encoder_blocks.{i}.0", before if i == 0 else n(before), n(channels), 3 if i else 7)
        for j in range(same):
            block_shapes(shapes, f"face_encoder_blocks.{i}.{j + 1}", n(channels), n(channels), 3)
        before = channels
    block_shapes(shapes, "face_encoder_blocks.6.0", n(512), n(512), 3)
    block_shapes(shapes, "face_encoder_blocks.6.1", n(512), n(512), 1)
    sound_shapes(shapes, n, again=0)
    for i, (cin, cout, same) in enumerate(DECODED):
        block_shapes(shapes, f"face_decoder_blocks.{i}.0", n(cin), n(cout), 3 if i else 1, transposed=i > 0)
        for j in range(same):
            block_shapes(shapes, f"face_decoder_blocks.{i}.{j + 1}", n(cout), n(cout), 3)
    block_shapes(shapes, "output_block.0", n(80), n(32), 3)
    shapes.conv("output_block.1", n(32), 3, 1)
    return shapes


def wav2lip(w, target, mel):
    """uint8 (B, 96, 96, 3) RGB and (B, 16, 80) to uint8 frames, as the authors' inference does with BGR pictures."""
    picture = torch.from_numpy(target[..., ::-1].copy()).permute(0, 3, 1, 2) / 255.0
    masked = picture.clone()
    masked[:, :, 48:] = 0
    x, kept = torch.cat([masked, picture], 1), []
    for i, (_, same) in enumerate(FACE):
        x = block(w, f"face_encoder_blocks.{i}.0", x, 2 if i else 1, 1 if i else 3)
        for j in range(same):
            x = block(w, f"face_encoder_blocks.{i}.{j + 1}", x, residual=True)
        kept.append(x)
    x = block(w, "face_encoder_blocks.6.0", x, padding=0)
    kept.append(block(w, "face_encoder_blocks.6.1", x, padding=0))
    x = sound(w, torch.from_numpy(mel), again=0)
    for i, (_, _, same) in enumerate(DECODED):
        name = f"face_decoder_blocks.{i}"
        x = block(w, f"{name}.0", x, padding=0) if i == 0 else up(w, f"{name}.0", x, *((1, 0, 0) if i == 1 else ()))
        for j in range(same):
            x = block(w, f"{name}.{j + 1}", x, residual=True)
        x = torch.cat([x, kept[6 - i]], 1)
    x = torch.sigmoid(conv(w, "output_block.1", block(w, "output_block.0", x)))
    return frames(x)[..., ::-1]


SEEN = (
    (15, 32, 7, 1, 3),
    (32, 64, 5, (1, 2), 1),
    *[(64, 64, 3, 1, 1)] * 2,
    (64, 128, 3, 2, 1),
    *[(128, 128, 3, 1, 1)] * 3,
    (128, 256, 3, 2, 1),
    *[(256, 256, 3, 1, 1)] * 2,
    (256, 512, 3, 2, 1),
    *[(512, 512, 3, 1, 1)] * 2,
    (512, 512, 3, 2, 1),
    (512, 512, 3, 1, 0),
    (512, 512, 1, 1, 0),
)


def syncnet_shapes(width=1.0):
    shapes = Shapes()
    for i, (cin, cout, kernel, _, _) in enumerate(SEEN):
        block_shapes(shapes, f"face_encoder.{i}", cin if i == 0 else int(cin * width), int(cout * width), kernel)
    sound_shapes(shapes, lambda channels: int(channels * width), again=1)
    return shapes


def syncnet(w, pictures, mel):
    """uint8 (B, 5, 96, 96, 3) RGB and (B, 16, 80) to unit vectors of mouth and sound; the frames' channels in a row."""
    bgr = pictures[:, :, 48:, :, ::-1].astype(np.float32) / 255
    x = torch.from_numpy(np.concatenate([bgr[:, i] for i in range(5)], -1)).permute(0, 3, 1, 2)
    for i, (cin, cout, _, stride, padding) in enumerate(SEEN):
        x = block(w, f"face_encoder.{i}", x, stride, padding, residual=cin == cout and stride == padding == 1)
    y = sound(w, torch.from_numpy(mel), again=1)
    return tuple(v.flatten(1).numpy() / np.linalg.norm(v.flatten(1).numpy(), axis=1, keepdims=True) for v in (x, y))


# SimSwap


def simswap_shapes(width=1.0, blocks=9, deep=False, high=False):
    shapes = Shapes()
    c32, c64, c128, c256, c512 = (int(n * width) for n in (32, 64, 128, 256, 512))
    entry = c32 if high else c64
    ways = [(1, c64, c128), (2, c128, c256), (3, c256, c512)]
    ways += [(4, c512, c512)] if deep else []
    ways += [(0, c32, c64)] if high else []
    shapes.conv("first_layer.1", 3, entry, 7)
    shapes.norm("first_layer.2", entry)
    for i, cin, cout in ways:
        shapes.conv(f"down{i}.0", cin, cout, 3)
        shapes.norm(f"down{i}.1", cout)
        shapes.conv(f"up{i}.1", cout, cin, 3)
        shapes.norm(f"up{i}.2", cin)
    for i in range(blocks):
        for j in (1, 2):
            shapes.conv(f"BottleNeck.{i}.conv{j}.1", c512, c512, 3)
            shapes.linear(f"BottleNeck.{i}.style{j}.linear", 512, 2 * c512)
    shapes.conv("last_layer.1", entry, 3, 7)
    return shapes


def simswap(w, target, identity):
    """uint8 (B, S, S, 3) RGB and unit vectors (B, 512) to uint8 frames."""

    def reflected(name, x, margin):
        return conv(w, name, F.pad(x, [margin] * 4, mode="reflect"))

    def half(i, x):
        return F.relu(norm(w, f"down{i}.1", conv(w, f"down{i}.0", x, 2, 1)))

    def double(i, x):
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return F.relu(norm(w, f"up{i}.2", conv(w, f"up{i}.1", x, 1, 1)))

    def styled(name, x, v):
        x = x - x.mean((2, 3), keepdim=True)
        x = x / (x.square().mean((2, 3), keepdim=True) + 1e-8).sqrt()
        a, b = linear(w, f"{name}.linear", v)[:, :, None, None].chunk(2, 1)
        return x * (1 + a) + b

    order = [i for i in range(5) if f"down{i}.0.weight" in w]
    x, v = torch.from_numpy(target).permute(0, 3, 1, 2) / 255.0, torch.from_numpy(identity)
    x = F.relu(norm(w, "first_layer.2", reflected("first_layer.1", x, 3)))
    for i in order:
        x = half(i, x)
    for i in range(len({name.split(".")[1] for name in w if name.startswith("BottleNeck.")})):
        name = f"BottleNeck.{i}"
        y = F.relu(styled(f"{name}.style1", reflected(f"{name}.conv1.1", x, 1), v))
        x = x + styled(f"{name}.style2", reflected(f"{name}.conv2.1", y, 1), v)
    for i in reversed(order):
        x = double(i, x)
    return frames((torch.tanh(reflected("last_layer.1", x, 3)) + 1) / 2)


# ArcFace's residual networks


def iresnet_shapes(blocks, width=1.0):
    shapes = Shapes()
    c64, *widths = (int(n * width) for n in (64, 64, 128, 256, 512))
    shapes.conv("conv1", 3, c64, 3, bias=False)
    shapes.norm("bn1", c64)
    shapes["prelu.weight"] = (c64,)
    before = c64
    for stage, (count, channels) in enumerate(zip(blocks, widths, strict=True), 1):
        for i in range(count):
            name = f"layer{stage}.{i}"
            shapes.norm(f"{name}.bn1", before)
            shapes.conv(f"{name}.conv1", before, channels, 3, bias=False)
            shapes.norm(f"{name}.bn2", channels)
            shapes[f"{name}.prelu.weight"] = (channels,)
            shapes.conv(f"{name}.conv2", channels, channels, 3, bias=False)
            shapes.norm(f"{name}.bn3", channels)
            if i == 0:
                shapes.conv(f"{name}.downsample.0", before, channels, 1, bias=False)
                shapes.norm(f"{name}.downsample.1", channels)
            before = channels
    shapes.norm("bn2", before)
    shapes.linear("fc", before * 49, 512)
    shapes.norm("features", 512)
    return shapes


def iresnet(w, portrait, unit=True):
    """uint8 (B, 112, 112, 3) RGB to vectors (B, 512)."""
    x = (torch.from_numpy(portrait).permute(0, 3, 1, 2) / 255.0 - 0.5) / 0.5
    x = F.prelu(norm(w, "bn1", conv(w, "conv1", x, 1, 1)), w["prelu.weight"])
    for stage in range(1, 5):
        for i in range(len({name.split(".")[1] for name in w if name.startswith(f"layer{stage}.")})):
            name, stride = f"layer{stage}.{i}", 1 if i else 2
            y = norm(w, f"{name}.bn2", conv(w, f"{name}.conv1", norm(w, f"{name}.bn1", x), 1, 1))
            y = conv(w, f"{name}.conv2", F.prelu(y, w[f"{name}.prelu.weight"]), stride, 1)
            y = norm(w, f"{name}.bn3", y)
            x = y + (x if i else norm(w, f"{name}.downsample.1", conv(w, f"{name}.downsample.0", x, 2)))
    x = norm(w, "features", linear(w, "fc", norm(w, "bn2", x).flatten(1))).numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True) if unit else x


# The extractor that SimSwap was trained with


def simswap_arcface_shapes(blocks=(3, 4, 23, 3), width=1.0):
    shapes = Shapes()
    before, *widths = (int(n * width) for n in (64, 64, 128, 256, 512))
    shapes.conv("conv1", 3, before, 3, bias=False)
    shapes.norm("bn1", before)
    shapes["prelu.weight"] = (1,)
    for stage, (count, channels) in enumerate(zip(blocks, widths, strict=True), 1):
        for i in range(count):
            name = f"layer{stage}.{i}"
            shapes.norm(f"{name}.bn0", before)
            shapes.conv(f"{name}.conv1", before, before, 3, bias=False)
            shapes.norm(f"{name}.bn1", before)
            shapes[f"{name}.prelu.weight"] = (1,)
            shapes.conv(f"{name}.conv2", before, channels, 3, bias=False)
            shapes.norm(f"{name}.bn2", channels)
            if i == 0 and stage > 1:
                shapes.conv(f"{name}.downsample.0", before, channels, 1, bias=False)
                shapes.norm(f"{name}.downsample.1", channels)
            shapes.linear(f"{name}.se.fc.0", channels, channels // 16)
            shapes[f"{name}.se.fc.1.weight"] = (1,)
            shapes.linear(f"{name}.se.fc.2", channels // 16, channels)
            before = channels
    shapes.norm("bn2", before)
    shapes.linear("fc", before * 49, 512)
    shapes.norm("bn3", 512)
    return shapes


def simswap_arcface(w, portrait):
    """uint8 (B, 112, 112, 3) RGB to unit vectors (B, 512), pictures normalised as for ImageNet."""
    x = (portrait / 255.0 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    x = torch.from_numpy(x.astype(np.float32)).permute(0, 3, 1, 2)
    x = F.max_pool2d(F.prelu(norm(w, "bn1", conv(w, "conv1", x)), w["prelu.weight"]), 2)
    for stage in range(1, 5):
        for i in range(len({name.split(".")[1] for name in w if name.startswith(f"layer{stage}.")})):
            name, stride = f"layer{stage}.{i}", 2 if stage > 1 and i == 0 else 1
            slope = w[f"{name}.prelu.weight"]
            y = norm(w, f"{name}.bn1", conv(w, f"{name}.conv1", norm(w, f"{name}.bn0", x), 1, 1))
            y = norm(w, f"{name}.bn2", conv(w, f"{name}.conv2", F.prelu(y, slope), stride, 1))
            z = F.prelu(linear(w, f"{name}.se.fc.0", y.mean((2, 3))), w[f"{name}.se.fc.1.weight"])
            y = y * torch.sigmoid(linear(w, f"{name}.se.fc.2", z))[:, :, None, None]
            if f"{name}.downsample.0.weight" in w:
                x = norm(w, f"{name}.downsample.1", conv(w, f"{name}.downsample.0", x, stride))
            x = F.prelu(x + y, slope)
    x = norm(w, "bn3", linear(w, "fc", norm(w, "bn2", x).flatten(1))).numpy()
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# AMNet as its authors released it

CELLS = ("separable", *["basic"] * 4, "separable", *["pointwise"] * 3)
WIDTHS = (88, *[152] * 8, 128)
HEARD = (1, 72, 108, 162, 243, 256)


def amnet_shapes():
    """Those of netG and of netA."""
    g, a = Shapes(), Shapes()
    for i, (cin, cout, kernel) in enumerate(((3, 24, 7), (24, 40, 3), (40, 88, 3))):
        g.conv(f"stem.{i}._op.conv", cin, cout, kernel, bias=False)
    for i, (kind, cin, cout) in enumerate(zip(CELLS, WIDTHS, WIDTHS[1:], strict=False)):
        name = f"cells.{i}._op"
        if kind == "separable":
            g.conv(f"{name}.conv1", cin, 4 * cin, 1, bias=False)
            g.conv(f"{name}.conv2", 1, 4 * cin, 3, bias=False)
            g.conv(f"{name}.conv3", 4 * cin, cout, 1, bias=False)
            if cin != cout:
                g.conv(f"{name}.skip", cin, cout, 1, bias=False)
        elif kind == "basic":
            g.conv(f"{name}.conv1", cin, cout, 3, bias=False)
            g.conv(f"{name}.conv2", cout, cout, 3, bias=False)
        else:
            g.conv(f"{name}.conv", cin, cout, 1, bias=False)
        for part in ("weight_conv", "bias_conv"):
            g.conv(f"ada_convs.{i}.{part}.0", 256, 256, 1)
            g.conv(f"ada_convs.{i}.{part}.2", 256, cout, 1)
    g.transposed("header.0._op.conv", 128, 104, 3, bias=False)
    g.transposed("header.1._op.conv", 104, 24, 3, bias=False)
    g.conv("header.2._op.conv", 24, 3, 7, bias=False)
    for i, (cin, cout) in enumerate(zip(HEARD, HEARD[1:], strict=False)):
        a.conv(f"audio1.{2 * i}", cin, cout, (1, 3))
        a.conv(f"audio2.{2 * i}", 256, 256, (3, 1) if i < 4 else (4, 1))
    for name, sizes in (
        ("trans_audio", (512, 256)),
        ("trans_pose", (3, 64, 64, 64)),
        ("trans_eye", (2, 64, 64, 64)),
        ("trans_cat1", (384, 256, 256, 256)),
        ("trans_cat2", (256, 212)),
    ):
        for i, (cin, cout) in enumerate(zip(sizes, sizes[1:], strict=False)):
            a.linear(f"{name}.{2 * i}", cin, cout)
    return g, a


def amnet(g, a, source, mel, pose, blink):
    """uint8 (B, S, S, 3) RGB, (B, 64, 60), (B, 3), (B, 2) to uint8 frames and landmarks (B, 106, 2) in pixels."""
    pose, blink, x = torch.from_numpy(pose), torch.from_numpy(blink), torch.from_numpy(mel)[:, None]
    for i in range(5):
        x = F.relu(conv(a, f"audio1.{2 * i}", x, (1, 2), (0, 1)))
    for i in range(5):
        x = F.relu(conv(a, f"audio2.{2 * i}", x, *(((2, 1), (1, 0)) if i < 4 else ((4, 1), 0))))

    def perceptron(name, y):
        for i in (0, 2):
            y = F.relu(linear(a, f"{name}.{i}", y))
        return linear(a, f"{name}.4", y)

    heard = linear(a, "trans_audio.0", x.flatten(1))
    f = perceptron("trans_cat1", torch.cat([heard, perceptron("trans_pose", pose), perceptron("trans_eye", blink)], 1))
    f = (f - f.mean(1, keepdim=True)) / (f.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
    points = linear(a, "trans_cat2.0", f).view(-1, 106, 2)

    def layer(name, y, stride=1, padding=0, groups=1, relu=True):
        y = F.instance_norm(F.conv2d(y, g[f"{name}.weight"], None, stride, padding, 1, groups))
        return F.relu(y) if relu else y

    def predicted(name):
        return conv(g, f"{name}.2", F.relu(conv(g, f"{name}.0", f[:, :, None, None])))

    x = torch.from_numpy(source).permute(0, 3, 1, 2) / 127.5 - 1
    x = layer("stem.0._op.conv", x, 1, 3)
    for i in (1, 2):
        x = layer(f"stem.{i}._op.conv", x, 2, 1)
    for i, kind in enumerate(CELLS):
        name = f"cells.{i}._op"
        if kind == "separable":
            y = layer(f"{name}.conv1", x)
            y = layer(f"{name}.conv2", y, 1, 1, groups=y.shape[1])
            y = layer(f"{name}.conv3", y, relu=False)
            x = F.relu(y + (layer(f"{name}.skip", x, relu=False) if f"{name}.skip.weight" in g else x))
        elif kind == "basic":
            x = F.relu(layer(f"{name}.conv2", layer(f"{name}.conv1", x, 1, 1), 1, 1, relu=False) + x)
        else:
            x = layer(f"{name}.conv", x)
        x = x * predicted(f"ada_convs.{i}.weight_conv") + predicted(f"ada_convs.{i}.bias_conv")
    for i in (0, 1):
        y = F.conv_transpose2d(x, g[f"header.{i}._op.conv.weight"], None, 2, 1, 1)
        x = F.relu(F.instance_norm(y))
    image = torch.tanh(F.conv2d(x, g["header.2._op.conv.weight"], padding=3))
    return frames((image + 1) / 2), points.numpy()
