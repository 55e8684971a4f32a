// The attackers of the siege, as a program: node test/siege/attackers.ts HOST:PORT [PATTERN [more]]. With a pattern, those
// alone whose names match it. None of them ends on its own, and what becomes of them does not matter to them: whoever is
// cut off begins again a moment later.
import http from 'node:http';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomContent } from '../support/images.ts';
import { MIB, VICTIM } from './scene.ts';

const [target = '', only = '.', more] = process.argv.slice(2);
const [host, port] = target.split(':');
const agent = new http.Agent({ keepAlive: true, maxSockets: 200 });

/** Counts how each kind of attack was answered, by status; 0: no answer. Printed at the end. */
const answers: Record<string, Record<number, number>> = {};

for (let i = 0; i < 40; i++) forever('trickling push', i, () => push(`trickle-${i % 4}/app`, 3_000));
for (let i = 0; i < 40; i++) forever('dead push', i, () => push(`dead-${i % 4}/app`, undefined));
for (let i = 0; i < 36; i++) forever('stalled bypass reader', i, () => readNothing(VICTIM.huge, VICTIM.hugeBytes));
for (let i = 0; i < 4; i++) forever('layer that is forbidden', i, () => getBlob(VICTIM.forbidden, i), 200);
for (let i = 0; i < 4; i++)
  forever('pull of what is broken', i, () => ask('GET', `${VICTIM.broken}/manifests/latest`), 200);
for (let i = 0; i < 2; i++)
  forever('push to what is broken', i, () => ask('POST', `${VICTIM.broken}/blobs/uploads/`), 200);
for (let i = 0; i < 8; i++)
  forever('pull of what is slow', i, n => ask('GET', `${VICTIM.slow}/manifests/v${i}-${n}`), 200);
for (let i = 0; i < 2; i++) forever('bomb', i, () => putManifest(bomb()), 500);
forever('empty upload', 0, emptyUploads, 5_000);

if (more !== undefined) {
  for (let i = 0; i < 40; i++) forever('client that leaves a crawling pull', i, () => leave(VICTIM.crawling, i), 5_000);
  for (let i = 0; i < 150; i++) forever('stalled manifest', i, () => stallManifest(), 5_000);
  for (let i = 0; i < 10; i++) forever('list of many tags', i, () => ask('GET', `${VICTIM.tags}/tags/list`), 3_000);
}

process.once('SIGTERM', () => {
  process.stdout.write(`${JSON.stringify(answers)}\n`, () => process.exit(0));
});

function forever(kind: string, i: number, attack: (n: number) => Promise<number>, pauseMs = 1_000): void {
  if (!new RegExp(only).test(kind)) return;
  void (async () => {
    await sleep(i * 37);
    for (let n = 0; ; n++) {
      const status = await attack(n).catch(() => 0);
      answers[kind] ??= {};
      answers[kind][status] = (answers[kind][status] ?? 0) + 1;
      await sleep(pauseMs);
    }
  })();
}

/** Sends a request; resolves to the status, when the answer is read. */
function ask(method: string, path: string, body?: Buffer, headers: http.OutgoingHttpHeaders = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, agent, method, path: `/v2/${path}`, headers }, response => {
      response.resume().on('close', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject).end(body);
  });
}

function getBlob(name: string, n: number): Promise<number> {
  return ask('GET', `${name}/blobs/${randomContent(4 * MIB, `${name}/${n}`).digest}`);
}

/** Sends a megabyte, then a byte now and then, or nothing ever again. */
async function push(name: string, everyMs: number | undefined): Promise<number> {
  const location = await new Promise<string>((resolve, reject) => {
    http
      .request({ host, port, agent, method: 'POST', path: `/v2/${name}/blobs/uploads/` }, response => {
        response.resume();
        const { location } = response.headers;
        if (location === undefined) reject(new Error(`${response.statusCode}`));
        else resolve(location);
      })
      .on('error', reject)
      .end();
  });
  return raw(
    `PATCH ${location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n${'a'.repeat(MIB)}\r\n`,
    everyMs === undefined ? undefined : { text: '1\r\na\r\n', everyMs },
  );
}

function readNothing(name: string, sizeBytes: number): Promise<number> {
  return raw(
    `GET /v2/${name}/blobs/${randomContent(sizeBytes, name).digest} HTTP/1.1\r\nHost: x\r\n\r\n`,
    undefined,
    false,
  );
}

function stallManifest(): Promise<number> {
  const length = Math.floor(3.9 * MIB);
  const head = `PUT /v2/stalled/app/manifests/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: ${length}\r\n\r\n`;
  return raw(head + ' '.repeat(length - 1));
}

/** Talks to the socket; resolves to the status of the first answer when the connection ends. */
function raw(text: string, trickle?: { text: string; everyMs: number }, reads = true): Promise<number> {
  return new Promise(resolve => {
    const socket = net.connect(Number(port), host);
    let status = 0;
    socket.on('connect', () => socket.write(text));
    if (reads) {
      socket.on('data', data => {
        status ||= Number(data.toString('latin1', 9, 12));
      });
    }
    const timer = trickle && setInterval(() => socket.write(trickle.text), trickle.everyMs);
    socket.on('error', () => {});
    socket.on('close', () => {
      clearInterval(timer);
      resolve(status);
    });
  });
}

/** Asks for a slow download and is gone a second later. */
async function leave(name: string, n: number): Promise<number> {
  const socket = net.connect(Number(port), host);
  socket.on('error', () => {});
  socket.write(`GET /v2/${name}/blobs/${randomContent(4 * MIB, `${name}/${n}`).digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await sleep(1_000);
  socket.destroy();
  return 0;
}

function putManifest(body: Buffer): Promise<number> {
  return ask('PUT', 'bomb/app/manifests/v1', body, { 'content-type': 'application/vnd.oci.image.manifest.v1+json' });
}

function bomb(): Buffer {
  return Buffer.from(`{"schemaVersion":2,"layers":[${'{},'.repeat(1_300_000)}{}]}`);
}

async function emptyUploads(): Promise<number> {
  const all = await Promise.all(
    Array.from({ length: 1_000 }, () => ask('POST', 'empty/app/blobs/uploads/').catch(() => 0)),
  );
  return all.at(-1) ?? 0;
}
