// A process that pulls one address with so many clients at once, and prints its times as JSON.
import http from 'node:http';
import { pull } from './clients.ts';

const [url = '', clients = '1'] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true, maxSockets: Number(clients) });
const startedMs = performance.now();
const pulls = await Promise.all(Array.from({ length: Number(clients) }, () => pull(agent, url)));
agent.destroy();
console.log(
  JSON.stringify({
    totalMs: performance.now() - startedMs,
    bytes: pulls.reduce((sum, { bytes }) => sum + bytes, 0),
    firstByteMs: pulls.map(({ firstByteMs }) => firstByteMs),
  }),
);
