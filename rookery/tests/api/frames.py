"""Checks frames against an AsyncAPI document: frames.py DOCUMENT FRAMES, a file of one JSON object a line.

Each frame must be valid by its message's schema and have no field beyond it. Each message that the server is said to
send, each kind of event and each field of them must be among the frames, but for those named in RARE.
"""

import json
import sys

import jsonschema_rs

# What a test cannot bring about at will.
RARE = {"OtherEvent", "ErrorFrame.retry_after_ms"}


def closed(thing):
    """The schema with no room for fields that it does not name."""
    if isinstance(thing, list):
        return [closed(item) for item in thing]
    if not isinstance(thing, dict):
        return thing
    more = {"additionalProperties": False} if "properties" in thing and thing.get("type") == "object" else {}
    return {**more, **{key: closed(value) for key, value in thing.items()}}


def name_of(reference):
    return reference["$ref"].rsplit("/", 1)[-1]


document = json.load(open(sys.argv[1]))
frames = [json.loads(line) for line in open(sys.argv[2])]
components = closed(document["components"])
schemas = components["schemas"]
sent = {name_of(m) for o in document["operations"].values() if o["action"] == "send" for m in o["messages"]}
sent |= {name_of(m) for o in document["operations"].values() for m in o.get("reply", {}).get("messages", [])}
payloads = {name: name_of(components["messages"][name]["payload"]) for name in sent}
kinds = {schemas[name]["properties"]["kind"].get("const", ""): name for name in map(name_of, schemas["Event"]["oneOf"])}

problems, wanted, seen = [], set(), set()
for schema in [*payloads.values(), *kinds.values()]:
    wanted |= {schema, *(f"{schema}.{field}" for field in schemas[schema]["properties"])}
for frame in frames:
    kind = "message_ack" if frame["type"] == "ack" and "id" in frame else frame["type"]
    if kind not in payloads:
        problems.append(f"the server sent what is not described: {frame}")
        continue
    schema = payloads[kind]
    validator = jsonschema_rs.Draft7Validator({"allOf": [{"$ref": f"#/components/schemas/{schema}"}], "components": components})
    problems += [f"{frame}: {error}" for error in validator.iter_errors(frame)]
    seen |= {schema, *(f"{schema}.{field}" for field in frame)}
    if kind == "event":
        schema = kinds.get(frame["event"]["kind"], "OtherEvent")
        seen |= {schema, *(f"{schema}.{field}" for field in frame["event"])}
missing = {name for name in wanted - seen - RARE if name.split(".")[0] not in RARE}
problems += [f"described, but never sent: {name}" for name in sorted(missing)]
print("\n".join(problems) or f"{len(frames)} frames are as described")
sys.exit(bool(problems))
