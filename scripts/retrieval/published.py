"""What the registry knows of a model's published figures, and whether they can be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from siglip_search.models.registry import registry_rows

if TYPE_CHECKING:
    from retrieval.captions import Benchmark, CaptionSet
    from siglip_search.models.registry import Published
    from siglip_search.models.spec import ModelSpec

TITLES: Final[dict[Benchmark, str]] = {"coco": "COCO", "flickr30k": "Flickr30k"}

TEST_PICTURES: Final[dict[Benchmark, int]] = {"coco": 5_000, "flickr30k": 1_000}
"""Of Karpathy's test splits, on which retrieval figures are published."""

IMAGENET_PICTURES: Final = 50_000
IMAGENET_CLASSES: Final = 1_000


def published_figures(spec: ModelSpec) -> Published | None:
    """Return the published figures of a model, or of the one that it is a variant of."""
    names = {spec.name, spec.variant.of if spec.variant else spec.name}
    return next((row.published for row in registry_rows() if row.name in names), None)


def retrieval_figures(published: Published | None, captions: CaptionSet) -> dict[str, float]:
    """Return the published figures of a captions file's benchmark, in [0, 1], by figure."""
    if published is None or captions.benchmark is None:
        return {}
    if captions.benchmark == "coco":
        both = (published.coco_text_to_image_r1, published.coco_image_to_text_r1)
    else:
        both = (published.flickr_text_to_image_r1, published.flickr_image_to_text_r1)
    names = ("text to image R@1", "image to text R@1")
    return {name: value / 100 for name, value in zip(names, both, strict=True) if value is not None}


def accuracy_figures(published: Published | None) -> dict[str, float]:
    """Return the published accuracy on ImageNet, in [0, 1], by figure."""
    if published is None or published.imagenet_top_1 is None:
        return {}
    return {"zero-shot top 1": published.imagenet_top_1 / 100}


def retrieval_remark(captions: CaptionSet, pictures: int) -> str:
    """Say whether the published figures are of the same pictures.

    Args:
        captions: What was measured on.
        pictures: How many of its pictures were embedded.
    """
    if captions.benchmark is None:
        return "no published figures are known for this set"
    title, wanted = TITLES[captions.benchmark], TEST_PICTURES[captions.benchmark]
    if pictures != wanted:
        return (
            f"not the published set: {pictures:,} pictures instead of {title}'s {wanted:,}; fewer "
            "pictures are easier to tell apart, more are harder"
        )
    if captions.is_test_split:
        return f"the published set: {title}'s {wanted:,} test pictures"
    return (
        f"as many pictures as the published set ({title}, {wanted:,}), but this file does not say "
        "that they are the same"
    )


def accuracy_remark(pictures: int, classes: int) -> str:
    """Say whether the published accuracy could be of the same pictures and classes."""
    if (pictures, classes) == (IMAGENET_PICTURES, IMAGENET_CLASSES):
        return (
            "as many pictures and classes as ImageNet's validation set; the published figures "
            "may have been measured with other names and templates"
        )
    return (
        f"not the published set: {pictures:,} pictures of {classes:,} classes instead of "
        f"ImageNet's {IMAGENET_PICTURES:,} of {IMAGENET_CLASSES:,}"
    )
