"""Checks the exports and imports of a built simmim-tui against the programs that they are for.

    python3 tests/python/check_export.py [BINARY]     (default: target/release/simmim-tui)

It trains tiny models on the CPU in a temporary folder, exports them in every format and compares what timm, transformers,
TensorBoard and pandas make of the files with what the program says itself. Nothing is downloaded. Parts whose packages
are missing are skipped with a message; `pip install -r tests/python/requirements.txt` has all.
"""

import glob
import importlib.util
import json
import math
import os
import struct
import subprocess
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BINARY = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/release/simmim-tui")
TOLERANCE = 1e-4
SIZE = 32

# Name, --set texts: each shape of model that exports differ for.
MODELS = {
    "default": [],
    "layer_scale": ["model.layer_scale=0.1", "model.mlp_ratio=2.5"],
    "sincos": ["model.position=sincos"],
    "relative": ["model.position=relative"],
    "relative_scaled": ["model.position=relative", "model.layer_scale=0.1"],
}


def missing(*packages):
    return [package for package in packages if importlib.util.find_spec(package) is None]


def program(*arguments, code=0):
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def train(folder, *extra, sets=()):
    """Six epochs of the smoke configuration: 30 steps."""
    words = ["train", "--config", "smoke", "--device", "cpu", "--no-ui", "--run-dir", folder, *extra]
    for text in sets:
        words += ["--set", text]
    program(*words)
    return folder


def close(name, a, b, tolerance=TOLERANCE):
    difference = float(abs(a - b).max())
    assert a.shape == b.shape and difference <= tolerance, f"{name}: {a.shape} {b.shape}, difference {difference}"
    print(f"ok    {name}: largest difference {difference:.1e}")


def pictures(folder):
    """Images of exactly the model's size, so that preparing them is nothing but normalisation."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(12):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        os.makedirs(f"{folder}/class{number % 3}", exist_ok=True)
        image.save(f"{folder}/class{number % 3}/{number:02}.png")
    return folder


def features(weights, data, out):
    """What the program says; rows by image name."""
    from safetensors import safe_open

    program("features", weights, "--data", data, "--split", "all", "--device", "cpu", "-o", out)
    with safe_open(out, "pt") as file:
        names = json.loads(file.metadata()["names"])
        return names, file.get_tensor("features")


def pixels(data, names, mean, std):
    import numpy as np
    import torch
    from PIL import Image

    def path(name):
        found = [name] if os.path.isabs(name) else glob.glob(f"{data}/**/{os.path.basename(name)}", recursive=True)
        return found[0]

    images = torch.from_numpy(np.stack([np.asarray(Image.open(path(name)).convert("RGB")) for name in names]))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, std))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / std


def check_weights(work):
    lacking = missing("torch", "timm", "safetensors", "PIL", "numpy")
    if lacking:
        return print(f"SKIP  weights: no {', '.join(lacking)}")
    import timm
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    classes = {"VisionTransformer": VisionTransformer, "VisionTransformerRelPos": VisionTransformerRelPos}
    data = pictures(f"{work}/pictures")
    transformers = None if missing("transformers", "torchvision") else importlib.import_module("transformers")
    if transformers is None:
        print("SKIP  transformers: it or torchvision is not installed")
    for name, sets in MODELS.items():
        run = train(f"{work}/{name}", sets=sets)
        names, ours = features(run, data, f"{work}/{name}-features.safetensors")

        file = f"{work}/{name}-timm.safetensors"
        told = program("export", run, "--format", "timm", "-o", file).stderr
        with safe_open(file, "pt") as opened:
            about = opened.metadata()
        batch = pixels(data, names, json.loads(about["mean"]), json.loads(about["std"]))
        # The lines that it prints are run as they are.
        scope = {}
        exec("\n".join(line[2:] for line in told.splitlines() if line.startswith("  ")), scope)
        with torch.no_grad():
            close(f"{name}, timm, printed lines", scope["model"](batch), ours)
        model = eval(about["timm_call"], classes)
        model.load_state_dict(load_file(file), strict=True)
        with torch.no_grad():
            close(f"{name}, timm, call in the header", model.eval()(batch), ours)

        folder = f"{work}/{name}-hf"
        program("export", run, "--format", "hf", "-o", folder)
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.no_grad():
            close(f"{name}, timm.create_model on the folder", model(batch), ours)
        setting = timm.data.resolve_model_data_config(model)
        setting = {key: setting[key] for key in ("input_size", "interpolation", "crop_pct", "crop_mode")}
        assert setting == dict(input_size=(3, SIZE, SIZE), interpolation="bicubic", crop_pct=1.0, crop_mode="center")
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
        loaded = [load(data, image) for image in names]
        close(f"{name}, timm's transform", torch.stack([transform(image) for image in loaded]), batch, 1e-5)
        if transformers:
            model, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True)
            assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
            with torch.no_grad():
                close(f"{name}, transformers", model.eval()(batch).pooler_output, ours)
            prepare = transformers.AutoImageProcessor.from_pretrained(folder)
            prepared = prepare(loaded, return_tensors="pt")["pixel_values"]
            close(f"{name}, transformers' {type(prepare).__name__}", prepared, batch, 1e-5)
            # The one that preprocessor_config.json names, for readers without timm.
            prepare = transformers.CLIPImageProcessor.from_pretrained(folder)
            prepared = prepare(loaded, return_tensors="pt")["pixel_values"]
            close(f"{name}, transformers' {type(prepare).__name__}", prepared, batch, 1e-5)

        if name == "default":
            check_preparation(work, run, folder)

        file = f"{work}/{name}-whole.safetensors"
        program("export", run, "--format", "safetensors", "-o", file)
        whole = load_file(file)
        checkpoint = load_file(f"{run}/checkpoints/best.safetensors")
        saved = {key[6:]: value for key, value in checkpoint.items() if key.startswith("model.")}
        assert whole.keys() == saved.keys() and all(torch.equal(whole[key], saved[key]) for key in whole)
        print(f"ok    {name}, safetensors: {len(whole)} tensors equal to the checkpoint's, bit for bit")

        for source in ("timm", "whole"):
            back = f"{work}/{name}-{source}-back.safetensors"
            program("import", f"{work}/{name}-{source}.safetensors", "-o", back, "--config", "smoke")
            _, again = features(back, data, f"{work}/{name}-{source}-again.safetensors")
            close(f"{name}, import of the {source} export", again, ours, 0.0)


def check_preparation(work, run, folder):
    """Images that are resized and cut: not equal to the last digit, but far nearer than with any other setting."""
    import numpy as np
    import timm
    import torch
    from PIL import Image

    rng = np.random.default_rng(1)
    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()

    def differences(kind, sizes, *others):
        data = f"{work}/{kind}-pictures"
        for number in range(8):
            coarse = rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(sizes[number % 2], Image.Resampling.BICUBIC)
            os.makedirs(f"{data}/class{number % 2}", exist_ok=True)
            image.save(f"{data}/class{number % 2}/{number}.png")
        names, ours = features(run, data, f"{work}/{kind}.safetensors")
        images = [load(data, name) for name in names]

        def difference(**changes):
            setting = timm.data.resolve_model_data_config(model) | changes
            transform = timm.data.create_transform(**setting, is_training=False)
            with torch.no_grad():
                return float((model(torch.stack([transform(image) for image in images])) - ours).abs().max())

        right, wrong = difference(), [difference(**changes) for changes in others]
        assert right < 0.2 * min(wrong), (kind, right, wrong)
        told = ", ".join(f"{d:.1e}" for d in wrong)
        print(f"ok    {kind} images, resized: difference {right:.1e}; with other settings {told}")

    differences("square", [(97, 97), (61, 61)], dict(interpolation="bilinear"), dict(crop_pct=0.875))
    # timm cuts after it has resized, at a whole pixel; here that may be half a pixel beside.
    differences("oblong", [(97, 61), (50, 83)], dict(crop_pct=0.875), dict(crop_mode="squash"))


def load(data, name):
    from PIL import Image

    return Image.open(glob.glob(f"{data}/**/{os.path.basename(name)}", recursive=True)[0]).convert("RGB")


def check_import(work):
    """Weights as timm and the official SimMIM code save them."""
    lacking = missing("torch", "timm", "safetensors", "PIL", "numpy")
    if lacking:
        return print(f"SKIP  import: no {', '.join(lacking)}")
    import torch
    from safetensors.torch import load_file, save_file
    from timm.layers import resample_abs_pos_embed
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    torch.manual_seed(0)
    data = pictures(f"{work}/import-pictures")
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    sizes = dict(patch_size=8, embed_dim=64, depth=2, num_heads=2, num_classes=10)
    sets = ["--set", "model.heads=2", "--set", "model.image_size=32", "--set", "mask.unit=8"]

    def scramble(model):
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        return model.eval()

    # A class token, a classifier, and positions of a 28x28 image... of another grid.
    model = scramble(VisionTransformer(img_size=56, **sizes))
    save_file(model.state_dict(), f"{work}/timm.safetensors")
    told = program("import", f"{work}/timm.safetensors", "-o", f"{work}/timm-ckpt.safetensors", *sets).stderr
    for part in ("timm ViT weights", "without the class token, the classifier", "interpolated from 7x7 to 4x4"):
        assert part in told, told
    stored = load_file(f"{work}/timm-ckpt.safetensors")
    expected = resample_abs_pos_embed(model.pos_embed.detach(), [4, 4])[:, 1:]
    close("import, timm: positions", stored["model.encoder.pos_embed"], expected, 1e-5)
    mine = VisionTransformer(img_size=32, class_token=False, global_pool="avg", fc_norm=False, **sizes | dict(num_classes=0))
    state = {key: value for key, value in model.state_dict().items() if not key.startswith(("cls_token", "head"))}
    state["pos_embed"] = expected
    mine.load_state_dict(state, strict=True)
    names, ours = features(f"{work}/timm-ckpt.safetensors", data, f"{work}/imported.safetensors")
    batch = pixels(data, names, mean, std)
    with torch.no_grad():
        close("import, timm: features", ours, mine.eval()(batch), TOLERANCE * float(ours.abs().max()))

    # Official names, as models/simmim.py of microsoft/SimMIM saves them, inside of a .pth with things that are no tensors.
    model = scramble(
        VisionTransformerRelPos(
            img_size=32, qkv_bias=True, rel_pos_type="bias", shared_rel_pos=True, init_values=0.1, **sizes | dict(num_classes=0)
        )
    )
    with torch.no_grad():
        for block in model.blocks:
            block.attn.qkv.bias[64:128] = 0
    official = {}
    for key, value in model.state_dict().items():
        key = key.replace("shared_rel_pos.", "rel_pos_bias.").replace("ls1.gamma", "gamma_1").replace("ls2.gamma", "gamma_2")
        if key.endswith("relative_position_bias_table"):
            value = torch.cat([value, torch.randn(3, 2)])
        if key.endswith("qkv.bias"):
            official["encoder." + key.replace("qkv.bias", "q_bias")] = value[:64].clone()
            official["encoder." + key.replace("qkv.bias", "v_bias")] = value[128:].clone()
        else:
            official["encoder." + key] = value
    official["encoder.cls_token"] = torch.randn(1, 1, 64)
    official["encoder.mask_token"] = torch.randn(1, 1, 64)
    official["encoder.rel_pos_bias.relative_position_index"] = torch.arange(17 * 17).reshape(17, 17)
    official["decoder.0.weight"] = torch.randn(3 * 8 * 8, 64, 1, 1)
    official["decoder.0.bias"] = torch.randn(3 * 8 * 8)
    pth, converted = f"{work}/official.pth", f"{work}/official.safetensors"
    torch.save({"model": official, "epoch": 7, "config": Settings(epochs=800)}, pth)
    error = program("import", pth, code=2).stderr
    assert f"simmim-tui import --converter | python3 - {pth} {converted}" in error, error
    script = program("import", "--converter").stdout
    subprocess.run([sys.executable, "-", pth, converted], input=script, text=True, check=True, capture_output=True)
    toml = program("import", converted).stdout
    for part in ("official SimMIM weights", 'position = "relative"', "heads = 2", "layer_scale = "):
        assert part in toml, toml
    told = program("import", converted, "-o", f"{work}/official-ckpt.safetensors").stderr
    assert "without the class token" in told, told
    names, ours = features(f"{work}/official-ckpt.safetensors", data, f"{work}/official-features.safetensors")
    with torch.no_grad():
        close("import, official SimMIM: features", ours, model(batch), TOLERANCE * float(ours.abs().max()))
    # Its decoder is a 1x1 convolution and a pixel shuffle; ours is a linear layer whose output is (colour, row, column).
    stored = load_file(f"{work}/official-ckpt.safetensors")
    tokens = torch.randn(5, 64, 4, 4)
    theirs = torch.nn.functional.conv2d(tokens, official["decoder.0.weight"], official["decoder.0.bias"])
    theirs = torch.nn.functional.pixel_shuffle(theirs, 8)
    rows = tokens.flatten(2).transpose(1, 2) @ stored["model.head.weight"].T + stored["model.head.bias"]
    ours = rows.reshape(5, 4, 4, 3, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(5, 3, 32, 32)
    close("import, official SimMIM: head", ours, theirs)
    assert torch.equal(stored["model.mask_token"], official["encoder.mask_token"])

    # A run that starts from them.
    config = f"{work}/start.toml"
    with open(config, "w") as file:
        file.write(toml.replace("[train]", "[train]\nepochs = 1\ndevice = \"cpu\""))
    program("train", "--config", config, "--no-ui", "--run-dir", f"{work}/started")
    events = [json.loads(line) for line in open(f"{work}/started/events.jsonl")]
    assert any("starting from official SimMIM weights" in event.get("message", "") for event in events)
    assert "init = " in open(f"{work}/started/config.toml").read()
    print("ok    import: a run starts from it and says so")


class Settings:
    """A class that the reader of the file doesn't have."""

    def __init__(self, **values):
        self.__dict__.update(values)


def fold(path):
    """The metrics in events.jsonl, without what a resumed run did again. An own reading, to compare with."""
    losses, reports, validations, evaluations, previews = {}, {}, {}, {}, {}
    everything = [losses, reports, validations, evaluations, previews]
    for line in open(path):
        event = json.loads(line)
        kind, step = event["event"], event.get("step")
        if kind == "started":
            for series in everything:
                for at in [at for at in series if at > step]:
                    del series[at]
        elif kind == "step":
            for back, loss in enumerate(reversed(event["losses"])):
                losses[step - back] = loss
            reports[step] = event
        elif kind == "validated":
            validations[step] = event
        elif kind == "evaluated":
            for metric in event["metrics"]:
                evaluations.setdefault(step, {})[f"eval/{metric['name']}"] = metric["value"]
                if metric.get("stderr") is not None:
                    evaluations[step][f"eval/{metric['name']} stderr"] = metric["stderr"]
            for metric in event.get("baselines", []):
                evaluations.setdefault(step, {})[f"baseline/{metric['name']}"] = metric["value"]
                if metric.get("stderr") is not None:
                    evaluations[step][f"baseline/{metric['name']} stderr"] = metric["stderr"]
        elif kind == "preview":
            previews[step] = event
    return losses, reports, validations, evaluations, previews


def metrics_run(work):
    """A run that was stopped, resumed from an older checkpoint, and has an evaluation."""
    run = train(f"{work}/metrics", sets=["train.epochs=4", "checkpoint.every_steps=6", "checkpoint.keep=9"])
    with open(f"{run}/events.jsonl", "a") as log:
        event = {"time": 1795442950.25, "event": "evaluated", "step": 20, "epoch": 4.0, "seconds": 1.5,
                 "metrics": [{"name": "k-NN 20", "value": 0.1, "stderr": 0.01}, {"name": "probe", "value": None}],
                 "baselines": [{"name": "k-NN 20, raw pixels", "value": 0.3}]}
        log.write(json.dumps(event) + "\n")
    program("train", "--resume", f"{run}/checkpoints/step-00000012.safetensors", "--no-ui", "--set", "train.epochs=6",
            "--set", "train.device=cpu")
    with open(f"{run}/events.jsonl", "a") as log:
        log.write(json.dumps(event | {"step": 30, "time": 1795442960.125}) + "\n")
    return run


def expected_rows(run):
    losses, reports, validations, evaluations, _ = fold(f"{run}/events.jsonl")
    rows = {}
    for step in sorted({*losses, *reports, *validations, *evaluations}):
        row = {"step": step}
        if step in losses:
            row["loss"] = losses[step]
        for key in ("epoch", "elapsed_s", "lr", "grad_norm", "images_per_s", "data_wait"):
            if step in reports:
                row[key] = reports[step][key]
        if step in validations:
            row |= {key: validations[step][key] for key in ("epoch", "val_loss", "psnr", "ssim")}
        rows[step] = row | evaluations.get(step, {})
    return rows


def check_tables(work, run):
    expected = expected_rows(run)
    assert sorted(expected) == list(range(0, 31)), sorted(expected)
    program("export", run, "--format", "jsonl", "-o", f"{work}/metrics.jsonl")
    lines = [json.loads(line) for line in open(f"{work}/metrics.jsonl")]
    for line in lines:
        assert line.pop("time") > 1e9
    assert lines == [expected[step] for step in sorted(expected)]
    print(f"ok    jsonl: {len(lines)} rows agree with events.jsonl exactly")

    import csv

    program("export", run, "--format", "csv", "-o", f"{work}/metrics.csv")
    rows = list(csv.DictReader(open(f"{work}/metrics.csv", newline="")))
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines):
        del row["time"]
        for column, text in row.items():
            if column not in line:
                assert text == "", (column, text)
            elif line[column] is None:
                assert math.isnan(float(text))
            else:
                assert float(text) == line[column], (column, text, line[column])
    print(f"ok    csv: {len(rows)} rows agree with events.jsonl exactly")
    if missing("pandas"):
        return print("SKIP  pandas: not installed")
    import pandas

    table = pandas.read_csv(f"{work}/metrics.csv")
    again = pandas.read_json(f"{work}/metrics.jsonl", lines=True)
    losses = [line["loss"] for line in lines if line.get("loss") is not None]
    assert all(math.isclose(a, b, rel_tol=1e-15) for a, b in zip(table.loss.dropna(), losses, strict=True))
    assert table.step.dtype.kind == "i" and set(again.columns) <= set(table.columns)
    print(f"ok    pandas reads both: {table.shape[0]} rows, {table.shape[1]} columns")


def check_tensorboard(work, run):
    if missing("tensorboard"):
        return print("SKIP  tensorboard: not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = f"{work}/tensorboard"
    program("export", run, "--format", "tensorboard", "-o", folder)
    (file,) = os.listdir(folder)
    assert file.startswith("events.out.tfevents."), file
    reader = EventAccumulator(folder, size_guidance={"scalars": 0, "images": 0})
    reader.Reload()
    losses, reports, validations, evaluations, previews = fold(f"{run}/events.jsonl")
    expected = {"train/loss": losses}
    for key in ("lr", "grad_norm", "images_per_s", "data_wait", "epoch"):
        expected[f"train/{key}"] = {step: report[key] for step, report in reports.items()}
    for tag, key in (("val/loss", "val_loss"), ("val/psnr", "psnr"), ("val/ssim", "ssim")):
        expected[tag] = {step: validation[key] for step, validation in validations.items()}
    for step, values in evaluations.items():
        for tag, value in values.items():
            if not tag.endswith(" stderr"):
                expected.setdefault(tag, {})[step] = value
    tags = reader.Tags()
    assert set(tags["scalars"]) == set(expected), (tags["scalars"], sorted(expected))
    single = lambda value: math.nan if value is None else struct.unpack("f", struct.pack("f", value))[0]
    count = 0
    for tag, values in expected.items():
        found = {event.step: event.value for event in reader.Scalars(tag)}
        assert found.keys() == values.keys(), (tag, found, values)
        for step, value in values.items():
            same = found[step] == single(value) or (math.isnan(found[step]) and value is None)
            assert same, (tag, step, found[step], value)
            count += 1
    print(f"ok    tensorboard: {count} scalars under {len(expected)} tags are those of events.jsonl")
    times = {event.step: event.wall_time for event in reader.Scalars("train/lr")}
    assert times == {step: report["time"] for step, report in reports.items()}
    assert tags["images"] == ["previews"], tags["images"]
    images = {image.step: image for image in reader.Images("previews")}
    assert images.keys() == previews.keys(), (images.keys(), previews.keys())
    for step, preview in previews.items():
        stored = open(f"{run}/{preview['path']}", "rb").read()
        assert images[step].encoded_image_string == stored and images[step].wall_time == preview["time"]
        assert (images[step].width, images[step].height) == struct.unpack(">II", stored[16:24])
    print(f"ok    tensorboard: {len(images)} previews, byte for byte")


def main():
    if not os.path.exists(BINARY):
        sys.exit(f"no {BINARY}: build it first, with cargo build --release")
    with tempfile.TemporaryDirectory() as work:
        run = metrics_run(work)
        check_tables(work, run)
        check_tensorboard(work, run)
        check_weights(work)
        check_import(work)
    print("all checks passed")


if __name__ == "__main__":
    main()
