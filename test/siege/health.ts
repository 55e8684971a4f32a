// Asks for /healthz over and over, in a thread of its own: how long each answer took tells how long the event loop of the
// cache was not free. It is told when to end, and then posts what it has found.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

const EVERY_MS = 10;
const agent = new http.Agent({ keepAlive: true });
const tookMs: number[] = [];
const failures: string[] = [];
let isOver = false;
parentPort?.once('message', () => {
  isOver = true;
});
while (!isOver) {
  const startMs = performance.now();
  await ask().then(
    () => tookMs.push(performance.now() - startMs),
    error => failures.push(error.message),
  );
  await sleep(EVERY_MS);
}
agent.destroy();
parentPort?.postMessage({ tookMs, failures });

function ask(): Promise<void> {
  return new Promise((resolve, reject) => {
    http
      .get(`${workerData.url}/healthz`, { agent }, response => {
        response
          .resume()
          .on('end', () => (response.statusCode === 200 ? resolve() : reject(new Error(`${response.statusCode}`))));
      })
      .on('error', reject);
  });
}
