// What the official parser has against the AsyncAPI document on stdin, as JSON.
import { readFileSync } from "node:fs";
import { Parser } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
const findings = diagnostics.map(({ severity, code, message, path }) => ({
  severity, code, message, path: path.join("/"),
}));
const operations = document?.operations().all().map((operation) => operation.id()) ?? [];
console.log(JSON.stringify({ valid: document !== undefined, findings, operations }));
