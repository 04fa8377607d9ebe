"""Write benchmarks/spec.schema.json, by which editors complete and check a spec's keys."""

import json
from pathlib import Path

from recbole_llm.sweep.schema import spec_schema

path = Path(__file__).resolve().parents[1] / "benchmarks" / "spec.schema.json"
path.write_text(json.dumps(spec_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
