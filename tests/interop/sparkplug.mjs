// Eclipse Tahu's own codec. Reads payloads in hex, a line each, and prints them as JSON; the last line printed is the
// hex of a command to be born again, as a host application sends it.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { get } = require("sparkplug-payload");
const codec = get("spBv1.0");
const plain = (_, value) => (value?.toNumber ? value.toNumber() : value);

for (const line of readFileSync(0, "ascii").trim().split("\n")) {
  console.log(JSON.stringify(codec.decodePayload(Buffer.from(line, "hex")), plain));
}
const metrics = [{ name: "Node Control/Rebirth", type: "Boolean", value: true, timestamp: 1700000000000 }];
console.log(Buffer.from(codec.encodePayload({ timestamp: 1700000000000, metrics })).toString("hex"));
