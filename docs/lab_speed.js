// Processor time of the page's forward pass, without a page: node docs/lab_speed.js docs/_build/html   (after make docs)
const fs = require("fs"), path = require("path");
const folder = path.join(process.argv[2] || "docs/_build/html", "_static", "lab");

const lab = { weights: {} };
let answer;
global.self = { postMessage: (message) => { answer = message; } };
eval(fs.readFileSync(path.join(folder, "photos-tiny.js"), "utf8"));
eval(fs.readFileSync(path.join(folder, "mae.js"), "utf8") + "; mae()");

const { data, ...about } = lab.weights["photos-tiny"], bytes = Buffer.from(data, "base64");
const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
self.onmessage({ data: { load: { ...about, buffer }, id: 1 } });

const keep = [], masked = [];
for (let i = 0; i < 256; i++) (i % 4 ? masked : keep).push(i);  // 75 % hidden
const patches = new Float32Array(256 * 48).map(() => Math.random());
const times = [];
for (let i = 0; i < 15; i++) {
  const before = process.cpuUsage();
  self.onmessage({ data: { run: { patches, keep, masked }, id: 2 } });
  times.push(process.cpuUsage(before).user / 1e6);
}
times.sort((a, b) => a - b);
console.log(`photos-tiny, 64 of 256 patches visible, Node ${process.version}: median of 15 reconstructions ${times[7].toFixed(2)} s`);
