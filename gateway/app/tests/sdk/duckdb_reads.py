"""Sums what lies below a directory of partitions with DuckDB, and prints it as one line of JSON.

The same queries stand in docs/records.md. Money is summed as decimals; text keeps every digit.
"""

import json
import sys

import duckdb

form, directory = sys.argv[1:]
EXTENSION = {"jsonl": "jsonl", "zstd": "jsonl.zst", "parquet": "parquet"}[form]
PATHS = f"{directory}/audit/*/date=*/*.{EXTENSION}"

if form == "parquet":
    source = f"read_parquet('{PATHS}', hive_partitioning = true)"
    columns = {"tenant": "tenant", "model": "request_model", "cost": "cost_usd", "event": "event"}
else:
    source = f"""read_json('{PATHS}', format = 'newline_delimited', hive_partitioning = true,
        columns = {{'tenant.id': 'VARCHAR', 'gen_ai.request.model': 'VARCHAR',
                   'tollgate.cost_usd': 'DECIMAL(38,12)', 'tollgate.event': 'VARCHAR'}})"""
    columns = {
        "tenant": '"tenant.id"',
        "model": '"gen_ai.request.model"',
        "cost": '"tollgate.cost_usd"',
        "event": '"tollgate.event"',
    }

rows = duckdb.sql(
    f"""SELECT {columns["tenant"]}, {columns["model"]}, CAST(date AS VARCHAR), count(*),
               CAST(sum({columns["cost"]}) AS VARCHAR)
        FROM {source}
        WHERE {columns["event"]} IS NULL AND {columns["tenant"]} IS NOT NULL
        GROUP BY ALL ORDER BY ALL"""
).fetchall()
names = ("tenant", "model", "date", "calls", "cost")
print(json.dumps([dict(zip(names, row)) for row in rows]))
