"""``data``: lists, describes and fetches data sets."""

import click

from .options import SuggestingGroup, parse_extra_options
from .root import EXTRA_OPTIONS, fromnoise, json_flag, print_result

SHOWN_CLASSES = 20


@fromnoise.group("data", cls=SuggestingGroup)
def data_group():
    """List, describe and fetch data sets."""


@data_group.command("list")
@json_flag
def data_list(as_json):
    """List the data sets that have a name."""
    from ..data.registry import catalogue, path_descriptions

    known = catalogue()
    rows = known | {"PATH": ", ".join(path_descriptions())}
    print_result(known, as_json, *(f"{name:<15} {text}" for name, text in rows.items()))


@data_group.command("info", context_settings=EXTRA_OPTIONS)
@click.argument("name")
@json_flag
@click.pass_context
def data_info(ctx, name, as_json):
    """Describe a data set: sizes, form, classes and digest.

    Data options (--resolution 64 ...) may follow.
    """
    dataset = load_with_options(name, ctx.args)
    document = {
        "name": name,
        "spec": dataset.spec.to_json(),
        "splits": {split: len(part) for split, part in dataset.splits.items()},
        "classes": list(dataset.class_names),
        "factors": list(dataset.factor_names),
        "binarise": dataset.binarise,
        "digest": dataset.digest,
        "notes": list(dataset.notes),
    }
    if dataset.tokenizer:
        document["text"] = {"tokens": dataset.tokenizer.kind}
        for split, part in dataset.splits.items():
            document["text"][split] = {
                "tokens": len(part.x),
                "characters": part.characters,
                "bytes": part.raw_bytes,
                "unknown": part.unknown,
            }
    print_result(document, as_json, *describe_dataset(name, dataset))


def load_with_options(name: str, args: list[str]):
    """Loads data with the data options in the arguments."""
    from .. import data
    from ..core.config import build

    model = data.data_config()
    return data.load(name, build(model, parse_extra_options(model, args)))


def describe_dataset(name: str, dataset) -> list[str]:
    spec = dataset.spec
    levels = f"{spec.levels} levels" if spec.levels else "continuous"
    lines = [
        f"{name}: {spec.kind} {'x'.join(map(str, spec.shape))}, {levels}",
        "splits: " + list_by_split(dataset, len),
    ]
    if dataset.class_names:
        lines.append(f"classes: {', '.join(dataset.class_names[:SHOWN_CLASSES])}")
    if dataset.caption_codec:
        lines.append(f"words of captions: {' '.join(dataset.caption_codec.words)}")
        lines += [f"{split}: {dataset.captions(split)[0]}" for split in dataset.splits]
    if dataset.factor_names:
        lines.append(f"factors: {', '.join(dataset.factor_names)}")
    if dataset.tokenizer:
        characters = list_by_split(dataset, lambda part: part.characters)
        lines.append(f"tokens: {dataset.tokenizer.kind}; characters: {characters}")
    return [*lines, f"digest: {dataset.digest[:16]}", *dataset.notes]


def list_by_split(dataset, count) -> str:
    """``train 1,000, test 100``: a number of each split."""
    return ", ".join(f"{split} {count(part):,}" for split, part in dataset.splits.items())


@data_group.command("get")
@click.argument("name")
@json_flag
def data_get(name, as_json):
    """Fetch a data set into the cache and verify its checksum."""
    from .. import data

    dataset = data.load(name)
    document = {"name": name, "digest": dataset.digest}
    print_result(document, as_json, f"{name}: there, digest {dataset.digest[:16]}")
