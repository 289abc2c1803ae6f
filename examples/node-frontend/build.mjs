// Bundles src/*.js into one file named by its content, and writes a page that loads it.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";

const { version } = JSON.parse(readFileSync("package.json"));
const parts = readdirSync("src").filter((name) => name.endsWith(".js")).sort();
const bundle = parts.map((name) => readFileSync(`src/${name}`, "utf8").replace(/^export /gm, "")).join("\n");
const hash = createHash("sha256").update(bundle).digest("hex").slice(0, 8);
mkdirSync("dist", { recursive: true });
writeFileSync(`dist/app.${hash}.js`, bundle);
const page = readFileSync("src/index.html", "utf8");
writeFileSync("dist/index.html", page.replace("%APP%", `app.${hash}.js`).replace("%VERSION%", version));
console.log(`built app.${hash}.js from ${parts.length} files, ${process.env.NODE_ENV}`);
