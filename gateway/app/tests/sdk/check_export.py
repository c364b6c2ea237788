"""Checks an export of records with nothing of Tollgate's: written from its README.txt alone.

    check_export.py DIR PUBLIC_KEY

Python's standard library has SHA-256 and no Ed25519, so RFC 8032, section 5.1.7, stands below.
"""

import base64
import hashlib
import json
import pathlib
import sys

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def add(a, b):
    """Adds points in extended coordinates."""
    e = (a[1] - a[0]) * (b[1] - b[0]) % P
    f = (a[1] + a[0]) * (b[1] + b[0]) % P
    g = 2 * a[3] * b[3] * D % P
    h = 2 * a[2] * b[2] % P
    w, x, y, z = f - e, h - g, h + g, f + e
    return (w * x % P, y * z % P, x * y % P, w * z % P)


def times(n, point):
    total = (0, 1, 1, 0)
    while n:
        if n & 1:
            total = add(total, point)
        point = add(point, point)
        n >>= 1
    return total


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    assert (x * x - x2) % P == 0, "not a point of the curve"
    if x & 1 != sign:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed(key, text, signature):
    signature = base64.b64decode(signature)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    assert s < L
    k = int.from_bytes(hashlib.sha512(r + key + text).digest(), "little") % L
    left, right = times(s, BASE), add(point(r), times(k, point(key)))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 == (
        left[1] * right[2] - right[1] * left[2]
    ) % P


def main(directory, public):
    directory = pathlib.Path(directory)
    pem = "".join(line for line in open(public) if not line.startswith("-----"))
    key = base64.b64decode(pem)[-32:]

    text = (directory / "manifest.json").read_bytes()
    manifest = json.loads(text)
    what = f"tollgate.export/1\n{hashlib.sha256(text).hexdigest()}\n".encode()
    assert signed(key, what, (directory / "manifest.sig").read_text()), "manifest.sig"
    for file in manifest["files"]:
        data = (directory / file["name"]).read_bytes()
        assert len(data) == file["bytes"], file
        assert hashlib.sha256(data).hexdigest() == file["sha256"], file

    audit = directory / "audit" / manifest["tenant"]
    chains, absent = {}, list(manifest["left_out"])
    for path in [*audit.glob("date=*/*.jsonl"), *audit.glob("[0-9]*/*/*/*/*.json")]:
        for line in path.read_bytes().splitlines():
            record = json.loads(line)
            assert record.get("tenant.id", manifest["tenant"]) == manifest["tenant"], path
            chain = chains.setdefault(record["tollgate.replica.id"], {})
            assert record["tollgate.seq"] not in chain, path
            digest = hashlib.sha256(line).hexdigest()
            chain[record["tollgate.seq"]] = (record["tollgate.prev_hash"], digest)
            if record.get("tollgate.event") == "records_purged":
                absent += record["tollgate.purge.ranges"]
    gaps = {(gap["replica"], gap["first"]): gap for gap in absent}
    for replica, chain in chains.items():
        before, due = "0" * 64, 1
        for seq in sorted(chain):
            while due < seq:
                gap = gaps[replica, due]
                assert gap["hash_before"] == before, gap
                before, due = gap["hash_last"], gap["last"] + 1
            assert (due, before) == (seq, chain[seq][0]), f"record {seq} of {replica}"
            before, due = chain[seq][1], seq + 1

    checkpoints = 0
    for path in (audit / "checkpoints").glob("*.json"):
        said = json.loads(path.read_bytes())
        names = ("schema", "partition", "replica.id", "seq", "hash", "signed_at")
        what = "".join(f"{said['tollgate.' + name]}\n" for name in names).encode()
        assert signed(key, what, said["tollgate.signature"]), path
        record = chains[said["tollgate.replica.id"]].get(said["tollgate.seq"])
        assert record is None or record[1] == said["tollgate.hash"], path
        checkpoints += 1
    records = sum(map(len, chains.values()))
    print(json.dumps({"records": records, "checkpoints": checkpoints}))


main(*sys.argv[1:])
