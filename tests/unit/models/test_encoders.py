"""Every encoder: its contract, tuning, precision, copies from the host, and errors."""

import functools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from small_encoders import DEEPER, DISTINCT, KINDS, SMALL, TWINS, media_of, small_tower
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from mlrec.config import Config, ItemConfig, load
from mlrec.config.encoder_options import Tuning
from mlrec.data.ownership import Owners
from mlrec.data.plan import Plan
from mlrec.data.stream import Data, StepDataset
from mlrec.models.building import build_model
from mlrec.models.encoders import ENCODERS, encoder_row
from mlrec.models.fusion import FUSIONS
from mlrec.models.tower import ItemTower

CHEAP_IN_BF16 = [name for name in DISTINCT if name.split("/")[0] in ("text", "audio", "image")] + [
    "video/videomae",
    "video/huggingface",
    "video/image_frames",
    "video/mvit_b_16x4",
    "video/slow_r50",
    "video/x3d_xs",
]


def test_every_encoder_has_a_small_version() -> None:
    assert set(SMALL) == set(ENCODERS) - {"features/vectors", "video/r3d_r18"}


@functools.cache
def shape_of(name: str) -> tuple[str, list[torch.Size], list[int]]:
    """Return the printed modules, the shapes of parameters, and their number per stage."""
    (encoder,) = small_tower(name).encoders
    shapes = [parameter.shape for parameter in encoder.parameters()]
    per_stage = [len(list(stage.parameters())) for stage in encoder.stages()]
    return repr(encoder), shapes, per_stage


@functools.cache
def module_classes(name: str) -> set[type]:
    return {type(module) for module in small_tower(name).encoders[0].modules()}


@pytest.mark.parametrize(("name", "twin"), TWINS.items())
def test_small_encoder_with_a_twin_is_the_same_network(name: str, twin: str) -> None:
    assert shape_of(name) == shape_of(twin)


@pytest.mark.parametrize(("name", "shallower"), DEEPER.items())
def test_small_encoder_that_is_deeper_has_the_classes_of_the_shallower(
    name: str, shallower: str
) -> None:
    assert module_classes(name) <= module_classes(shallower)


@pytest.mark.parametrize("name", DISTINCT)
def test_encoder_of_every_row_keeps_its_contract(name: str) -> None:
    tower = small_tower(name, batchnorm="sync")
    (encoder,) = tower.encoders
    vectors = tower(media_of(tower.specs[0], 3))
    assert vectors.shape == (3, 16)
    vectors.square().sum().backward()
    of_stages = [parameter for stage in encoder.stages() for parameter in stage.parameters()]
    assert {id(p) for p in of_stages} == {id(p) for p in encoder.parameters()}, (
        "the stages hold every parameter"
    )
    assert len({id(p) for p in of_stages}) == len(of_stages), "a parameter is in one stage alone"
    assert [name for name, parameter in tower.named_parameters() if parameter.grad is None] == []


def tuning_cases() -> Iterator[tuple[str, Tuning]]:
    """Return the last stage for every network, and each regime for one network with batch norms
    and one without: which stages a regime trains does not depend on the encoder."""
    for name in DISTINCT:
        if name != "id/embedding":
            yield name, "top"
    for name in ("image/resnet50", "video/videomae"):
        for tuning in get_args(Tuning):
            # side and lora add parameters of their own: see test_side_encoder.py and test_lora.py
            if tuning not in ("top", "scratch", "side", "lora"):
                yield name, tuning


@pytest.mark.parametrize(("name", "tuning"), list(tuning_cases()))
def test_encoder_with_a_tuning_gets_gradients_in_its_trained_stages_only(
    name: str, tuning: Tuning
) -> None:
    tower = small_tower(name, tuning=tuning)
    (encoder,) = tower.encoders
    stages = encoder.stages()
    counts = {"frozen": 0, "top": 1, "half": (len(stages) + 1) // 2, "full": len(stages)}
    trained_stages = stages[len(stages) - counts[tuning] :]
    expected = {id(p) for stage in trained_stages for p in stage.parameters()}
    for module in encoder.modules():
        if isinstance(module, _BatchNorm):
            # frozen by default (item.batchnorm)
            expected -= {id(p) for p in module.parameters()}
    assert {id(p) for p in encoder.parameters() if p.requires_grad} == expected
    tower.train()
    tower.encode(media_of(tower.specs[0], 2), most=2).square().sum().backward()
    assert {id(p) for p in encoder.parameters() if p.grad is not None} == expected
    assert all(p.requires_grad for p in tower.heads.parameters())


@pytest.mark.parametrize(
    "name", [name for name in KINDS if ENCODERS[name].scores or "resnet" in name]
)
def test_encode_in_chunks_with_frozen_batch_norms_changes_nothing(name: str) -> None:
    whole, chunked = small_tower(name, chunk=100), small_tower(name, chunk=2)
    chunked.load_state_dict(whole.state_dict())
    media, weights = media_of(whole.specs[0], 3), torch.randn(3, 16)
    for tower in (whole, chunked):
        tower.train()
        (tower.encode(media, most=3) * weights).sum().backward()
    for one, other in zip(whole.parameters(), chunked.parameters(), strict=True):
        if one.requires_grad:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", CHEAP_IN_BF16)
def test_encoder_in_bf16_runs(name: str) -> None:
    tower = small_tower(name).eval()
    media = media_of(tower.specs[0], 2)
    with torch.no_grad():
        for parameter in tower.parameters():  # as DeepSpeed has it: buffers stay in fp32
            parameter.data = parameter.data.bfloat16()
        vectors = tower(media)
    assert vectors.dtype is torch.bfloat16
    assert vectors.isfinite().all()


class CopiesFromHost(TorchDispatchMode):
    """A mode that records the shapes of tensors copied from the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[torch.Size] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [value for value in args if isinstance(value, torch.Tensor)]
        if func._overloadpacket in (torch.ops.aten._to_copy, torch.ops.aten.copy_):
            self.shapes += [tensor.shape for tensor in tensors if tensor.device.type == "cpu"]
        return func(*args, **(kwargs or {}))


# The meta device stands for a GPU. Titles are left out: transformers checks whether their mask is
# all ones, which the meta device cannot do.
@pytest.mark.parametrize("name", [name for name in KINDS if not name.startswith("text/")])
def test_encoder_forward_copies_nothing_from_the_host(name: str) -> None:
    tower = small_tower(name).to("meta")
    media = media_of(tower.specs[0], 2)[tower.specs[0]].to("meta")
    tower({tower.specs[0]: media})  # from the first forward on
    with CopiesFromHost() as copies:
        tower({tower.specs[0]: media})
    assert copies.shapes == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_videomae_with_its_table_of_positions_as_a_buffer_is_the_published_model(
    dtype: torch.dtype,
) -> None:
    from transformers import VideoMAEModel

    encoder: Any = small_tower("video/videomae").encoders[0].eval()
    published = VideoMAEModel(encoder.backbone.config).eval()
    assert published.state_dict().keys() == encoder.backbone.state_dict().keys()
    published.load_state_dict(encoder.backbone.state_dict())
    frames = media_of(encoder.spec, 2)[encoder.spec]
    pixels = encoder.normalize(frames, dtype)
    with torch.no_grad():
        expected = published.to(dtype)(pixel_values=pixels).last_hidden_state.mean(dim=1)
        assert torch.equal(encoder.to(dtype)(frames), expected)
    assert dict(encoder.named_buffers())["backbone.embeddings.position_embeddings"].dtype is dtype


@pytest.mark.parametrize(
    "name", ["video/slow_r50", "video/slowfast_r50", "video/mvit_b_16x4", "video/efficient_x3d_xs"]
)
def test_encoder_with_output_scores_returns_class_scores(name: str) -> None:
    tower = ItemTower(
        ItemConfig(encoders=(name,), options={name: {**SMALL[name], "output": "scores"}}), 16, 50
    )
    (encoder,) = tower.encoders
    assert encoder.width == 400
    assert encoder(media_of(tower.specs[0], 2)[tower.specs[0]]).shape == (2, 400)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_tower_of_several_encoders_fuses_and_trains_them(
    fusion: str, tiny_config: Config, data: Data
) -> None:
    names = ("video/slowfast_r50", "text/bert_small", "id/embedding")
    options = {name: SMALL[name] for name in names if SMALL[name]}
    item = replace(tiny_config.item, encoders=names, options=options, fusion=fusion)
    model = build_model(replace(tiny_config, item=item), data, rank=0)
    model.train()
    batch = StepDataset(
        data, Plan(data.sequences, 0, 6, Owners((1,))), 0, model.tower.specs, local_negatives=False
    )[0]
    model(batch).backward()
    assert [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


@pytest.mark.parametrize(
    "path",
    sorted((Path(__file__).parents[3] / "configs" / "item").glob("*.yaml")),
    ids=lambda path: path.stem,
)
def test_item_configurations_name_existing_rows(path: Path) -> None:
    item = load([path]).item
    for name in item.encoders:
        # unknown names and options are errors
        encoder_row(name, item.options.get(name, {}))
    assert item.fusion in FUSIONS


@pytest.mark.parametrize("fusion", [name for name in FUSIONS if name != "film"])
def test_tower_of_one_encoder_accepts_any_fusion(fusion: str) -> None:
    assert FUSIONS[fusion](1, 8)([torch.randn(3, 8)]).shape == (3, 8)


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (ItemConfig(fusion="film"), "Name two or more"),
        (
            ItemConfig(encoders=("video/huggingface",)),
            r"set item\.options\.video/huggingface\.checkpoint",
        ),
        (ItemConfig(encoders=("features/vectors",)), "cannot be built without a data set"),
        (
            ItemConfig(encoders=("video/tiny",), options={"video/tiny": {"output": "scores"}}),
            "this encoder has pooled",
        ),
        (
            ItemConfig(
                encoders=("video/slowfast_r50",),
                options={"video/slowfast_r50": {"checkpoint": "", "frames": 5}},
            ),
            "multiple of 4",
        ),
        (ItemConfig(encoders=("image/resnet50",), tuning="scratch"), r"Set item\.batchnorm=sync"),
    ],
)
def test_encoder_option_that_is_impossible_is_named(item: ItemConfig, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ItemTower(item, 16, 50)


def test_r3d_18_with_torchvision_is_built() -> None:
    item = ItemConfig(
        encoders=("video/r3d_r18",),
        options={"video/r3d_r18": {"checkpoint": "", "frames": 2, "size": 16}},
    )
    try:
        import torchvision.models.video  # noqa: F401
    except (ImportError, RuntimeError, OSError):
        with pytest.raises(ValueError, match="needs torchvision, which cannot be imported here"):
            ItemTower(item, 16, 50)
    else:
        tower = ItemTower(item, 16, 50)
        assert tower(media_of(tower.specs[0], 2)).shape == (2, 16)
