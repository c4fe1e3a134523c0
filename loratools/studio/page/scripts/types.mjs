// src/api/types.ts from the pydantic models: `npm run types` (PYTHON names the interpreter; `--check` only compares).
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const ROOT = new URL("../../../../", import.meta.url);
const OUT = new URL("../src/api/types.ts", import.meta.url);
// what the page sends may leave out what has a default; what it gets has every field
const SENT = /(Request|Options|Target|Job|Settings)$/;

const schema = JSON.parse(
  execFileSync(process.env.PYTHON ?? "python3", ["-m", "loratools.studio.api.schema"], {
    cwd: existsSync(new URL("pyproject.toml", ROOT)) ? ROOT : undefined, encoding: "utf8", maxBuffer: 1 << 26,
  }),
);

function type(node) {
  if (node === true || node === undefined || Object.keys(node).length === 0) return "unknown";
  if (node.$ref) return node.$ref.split("/").at(-1);
  if ("const" in node) return JSON.stringify(node.const);
  if (node.enum) return node.enum.map(value => JSON.stringify(value)).join(" | ");
  const union = node.anyOf ?? node.oneOf;
  if (union) return [...new Set(union.map(type))].join(" | ");
  switch (node.type) {
    case "string": return "string";
    case "integer": case "number": return "number";
    case "boolean": return "boolean";
    case "null": return "null";
    case "array":
      return node.prefixItems ? `[${node.prefixItems.map(type).join(", ")}]` : `(${type(node.items)})[]`;
    case "object":
      if (node.properties) return members(node, true);
      return `Record<string, ${type(node.additionalProperties ?? {})}>`;
    default: return "unknown";
  }
}

function members(node, sent) {
  const required = new Set(node.required ?? []);
  const lines = Object.entries(node.properties ?? {}).map(([name, value]) =>
    `  ${name}${sent && !required.has(name) && !("const" in value) ? "?" : ""}: ${type(value)};`);
  return `{\n${lines.join("\n")}\n}`;
}

const comment = text => (text ? `/** ${text.replace(/\s+/g, " ").replace(/\*\//g, "* /").trim()} */\n` : "");

const parts = Object.entries(schema.$defs)
  .sort(([a], [b]) => (a < b ? -1 : 1))
  .map(([name, node]) => {
    if (name === "Job" || node.type !== "object" || !node.properties) {
      if (node.type === "object") return `${comment(node.description)}export interface ${name} ${members(node, false)}`;
      return `${comment(node.description)}export type ${name} = ${type(node)};`;
    }
    return `${comment(node.description)}export interface ${name} ${members(node, SENT.test(name))}`;
  });
const text = `// Generated from loratools/studio/api by \`npm run types\`: change the models there, not this file.\n\n${parts.join("\n\n")}\n`;

if (process.argv.includes("--check")) {
  if (readFileSync(OUT, "utf8") !== text) {
    console.error("src/api/types.ts is not what the models say: run npm run types");
    process.exit(1);
  }
} else {
  writeFileSync(OUT, text);
}
