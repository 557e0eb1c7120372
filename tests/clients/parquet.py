#!/usr/bin/env python3
"""What pyarrow writes is read here as the same text in JSON lines is.

    venv/bin/pip install -r tests/clients/requirements.txt
    venv/bin/python tests/clients/parquet.py

For each codec, page version, encoding and type of string, `twelvefold tokenize` gives the bytes that it gives for
the same rows as .jsonl. Exit 1 at the first difference.
"""
import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
ROWS = [f"row {i} — {'läuft ' * (i * 7 % 40)}" for i in range(5000)]


def tokens(twelvefold, file, out, *more):
    done = subprocess.run(
        [twelvefold, "tokenize", file, "--tokenizer", "bytes", "--format", "llmc", "--overwrite", "--out", out, *more],
        capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{file}: {done.stderr}")
    return Path(out).read_bytes()


def main():
    print(f"pyarrow {pa.__version__}")
    build = ["cargo", "build", "-q", "--locked", "-p", "twelvefold", "--features", "parquet", "--message-format=json"]
    built = subprocess.run(build, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    binaries = [json.loads(line).get("executable") for line in built]
    twelvefold = next(b for b in binaries if b and b.endswith("/twelvefold"))
    count = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines, rows, out = folder / "a.jsonl", folder / "a.parquet", folder / "tokens"
        lines.write_text("\n".join(json.dumps({"text": row}) for row in ROWS))
        expected = tokens(twelvefold, lines, out)
        codecs = ["none", "snappy", "gzip", "zstd", "lz4", "brotli"]
        kinds = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
        encodings = [None, "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]
        for codec, page, kind, encoding in itertools.product(codecs, ["1.0", "2.0"], kinds, encodings):
            array = pa.array(ROWS).cast(kind)
            table = pa.table({"id": range(len(ROWS)), "text": array, "meta": pa.StructArray.from_arrays([pa.array(ROWS)], ["body"])})
            how = {"use_dictionary": True} if encoding is None else {"use_dictionary": False, "column_encoding": {"text": encoding}}
            pq.write_table(table, rows, compression=codec, data_page_version=page, row_group_size=1700, **how)
            for field in ("text", "meta.body"):
                if tokens(twelvefold, rows, out, "--field", field) != expected:
                    sys.exit(f"WRONG {codec} {page} {kind} {encoding} {field}")
                count += 1
    print(f"{count} files read as their text: all agree")


if __name__ == "__main__":
    main()
