"""Mutations of .npy, Parquet and safetensors files: wrong headers and values out of range."""

from __future__ import annotations

import io
import json
import re
import struct
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuzzing.documents import HOSTILE, mutate_tree
from fuzzing.unstructured import Mutation, flip

NUMBERS = [0, 1, -1, 2, 99, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, -(2**63), 65500]


def npy(array: np.ndarray) -> bytes:
    """The array as an .npy file."""
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def mutate_npy(content: bytes, rng: Random) -> Mutation:
    if rng.random() < 0.5:
        return _npy_header(content, rng)
    try:
        array = np.load(io.BytesIO(content)).copy()
    except ValueError:
        return flip(content, rng)
    flat = array.reshape(-1)
    change = rng.choice(
        [
            "value",
            "value",
            "value",
            "all",
            "dtype",
            "longer",
            "shorter",
            "rank",
            "shuffled",
            "doubled",
        ]
    )
    special = [float("nan"), float("inf"), 1e30, -1e-30] if array.dtype.kind == "f" else NUMBERS
    value = rng.choice(special)
    with np.errstate(all="ignore"):
        number = np.array([value]).astype(array.dtype)[0]
    if change == "value" and len(flat):
        flat[rng.randrange(len(flat))] = number
    elif change == "all":
        flat[:] = number
    elif change == "dtype":
        array = array.astype(rng.choice(["<f4", "<f8", "<i1", ">i8", "<u8", "<c8", "?", "U8"]))
    elif change == "longer":
        array = np.concatenate([array, array[-1:]])
    elif change == "shorter":
        array = array[:-1]
    elif change == "rank":
        array = rng.choice([array[None], array[..., None], array.reshape(-1)[:1].reshape(())])
    elif change == "shuffled":
        array = array[rng.sample(range(len(array)), len(array))]
    else:
        array = np.repeat(array, 2, axis=0)
    return f"array: {change}{f' {value}' if change in ('value', 'all') else ''}", npy(array)


def _npy_header(content: bytes, rng: Random) -> Mutation:
    match = re.search(rb"\{[^}]*\}", content[:200])
    if match is None:
        return flip(content, rng)
    dtypes = ["<f8", "|O", "<i8", ">i4", "<U9", "V9", "|b1", "<m8[s]", "x"]
    shapes = ["10**12,", "999999999999,", "3, 3", "-1,", "0,", "2, 999999999", "1," * 40]
    # Both are drawn even if only one is used: a case depends on the order of draws.
    pairs = [
        (
            rb"'descr': '[^']*'",
            f"'descr': '{rng.choice(dtypes)}'",
        ),
        (
            rb"\((\d+, ?\d*,?)\)",
            f"({rng.choice(shapes)})",
        ),
        (rb"False", "True"),
    ]
    pattern, new = rng.choice(pairs)
    header = re.sub(pattern, new.encode(), match[0])
    padded = header.ljust(len(match[0]))[: max(len(header), len(match[0]))]
    return f"header {new}", content[: match.start()] + padded + content[match.end() :]


def mutate_parquet(content: bytes, rng: Random) -> Mutation:
    try:
        table = pq.read_table(io.BytesIO(content))
    except (ValueError, OSError):
        return flip(content, rng)
    place = rng.randrange(table.num_columns)
    name, column = table.schema.names[place], table.column(place)
    values = column.to_pylist()
    change = rng.choice(
        [
            "value",
            "value",
            "value",
            "nulls",
            "same",
            "type",
            "renamed",
            "removed",
            "wide",
            "rows",
            "fewer",
            "order",
        ]
    )
    try:
        if change == "value":
            values[rng.randrange(len(values))] = value = _like(values[0], rng)
            change, table = (
                f"value {str(value)[:30]!r}",
                table.set_column(place, name, pa.array(values, column.type)),
            )
        elif change in ("nulls", "same"):
            filled = [None if change == "nulls" else values[0]] * len(values)
            table = table.set_column(place, name, pa.array(filled, column.type))
        elif change == "type":
            kind = rng.choice(
                [
                    pa.int8(),
                    pa.float64(),
                    pa.string(),
                    pa.binary(),
                    pa.list_(pa.int32()),
                    pa.bool_(),
                ]
            )
            texts = [str(value) for value in values]
            table = table.set_column(
                place, name, pa.array(texts) if kind == pa.string() else pa.nulls(len(values), kind)
            )
        elif change == "renamed":
            table = table.rename_columns(
                [old if old != name else "x" for old in table.schema.names]
            )
        elif change == "removed":
            table = table.drop_columns([name])
        elif change == "wide":
            table = pa.table({f"column {i}": pa.array([1]) for i in range(3000)})
        elif change == "rows":
            table = pa.concat_tables([table, table])
        elif change == "fewer":
            table = table.slice(0, table.num_rows - rng.randrange(1, table.num_rows + 1))
        else:
            table = table.take(pa.array(rng.sample(range(table.num_rows), table.num_rows)))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        return flip(content, rng)
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return f"column {name}: {change}", sink.getvalue()


def _like(value: Any, rng: Random) -> Any:
    """A hostile value of the same type."""
    if isinstance(value, str):
        return rng.choice([other for other in HOSTILE if isinstance(other, str)])
    if isinstance(value, dict):
        key = rng.choice(list(value))
        return {**value, key: _like(value[key], rng)}
    if isinstance(value, list) and value:
        place = rng.randrange(len(value))
        return rng.choice(
            [[], value * 2, [*value[:place], _like(value[place], rng), *value[place + 1 :]]]
        )
    return (
        rng.choice([float("nan"), float("inf"), 1e30])
        if isinstance(value, float)
        else rng.choice(NUMBERS)
    )


def mutate_safetensors(content: bytes, rng: Random) -> Mutation:
    length = int.from_bytes(content[:8], "little")
    change = rng.choice(
        ["length", "header", "header", "header", "nan", "scaled", "renamed", "removed", "doubled"]
    )
    if change == "length" or length > len(content):
        size = rng.choice([0, 1, length - 1, length + 8, 10**8, 2**63, 2**64 - 1])
        return f"header length {size}", struct.pack("<Q", size) + content[8:]
    header, body = json.loads(content[8 : 8 + length]), bytearray(content[8 + length :])
    name = rng.choice([key for key in header if key != "__metadata__"])
    start, end = header[name]["data_offsets"]
    words = f"{name}: {change}"
    if change in ("nan", "scaled"):
        place = start + 4 * rng.randrange(max(1, (end - start) // 4))
        (value,) = struct.unpack("<f", body[place : place + 4])
        body[place : place + 4] = struct.pack(
            "<f", rng.choice([float("nan"), float("inf")]) if change == "nan" else value * 2 + 1
        )
    elif change == "header":
        words, header[name] = mutate_tree(header[name], rng)
        words = f"{name}: {words}"
    else:
        tensors = {
            key: (entry, body[slice(*entry["data_offsets"])])
            for key, entry in header.items()
            if key != "__metadata__"
        }
        tensor = tensors.pop(name) if change != "doubled" else tensors[name]
        if change != "removed":
            tensors[
                rng.choice(["module.", "net.backbone.", "x", "weight/", ""])
                + name
                + "x" * (change == "doubled")
            ] = tensor
        header, body = (
            {key: entry for key, entry in header.items() if key == "__metadata__"},
            bytearray(),
        )
        for key, (entry, data) in tensors.items():
            header[key] = {**entry, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
    raw = json.dumps(header).replace('"DEEP"', "[" * 200 + "]" * 200).encode()
    return words, struct.pack("<Q", len(raw)) + raw + bytes(body)
