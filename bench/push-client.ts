// A program that pushes one blob of the given size to each repository named on its input, as docker and skopeo do:
// POST, one streamed PATCH, PUT. It prints a JSON line for each.
//   node bench/push-client.ts SIZE < lines of JSON {"url": …/v2/NAME, "seed": …}
import { createCipheriv, createHash } from 'node:crypto';
import http from 'node:http';
import { createInterface } from 'node:readline';

export interface PushTimes {
  readonly totalMs: number;
  /** From the last byte of the body to the 201 for it. */
  readonly finishMs: number;
}

const CHUNK_BYTES = 1024 * 1024;
const size = Number(process.argv[2]);
const agent = new http.Agent({ keepAlive: true, timeout: 4_000 });
const noise = createCipheriv('aes-256-ctr', Buffer.alloc(32), Buffer.alloc(16)).update(Buffer.alloc(CHUNK_BYTES));

for await (const line of createInterface({ input: process.stdin })) {
  const { url, seed } = JSON.parse(line) as { url: string; seed: string };
  console.log(JSON.stringify(await push(url, seed)));
}
agent.destroy();

async function push(url: string, seed: string): Promise<PushTimes> {
  const hash = createHash('sha256');
  for (const chunk of chunksOf(seed)) hash.update(chunk);
  const digest = `sha256:${hash.digest('hex')}`;

  const startedMs = performance.now();
  const opened = await request('POST', `${url}/blobs/uploads/`, 202);
  let sentMs = Number.NaN;
  const patched = await request('PATCH', locationOf(opened, url), 202, async patch => {
    for (const chunk of chunksOf(seed)) {
      if (!patch.write(chunk)) await new Promise(resolve => patch.once('drain', resolve));
    }
    // When the kernel has the last byte.
    patch.end(() => {
      sentMs = performance.now();
    });
  });
  const closing = new URL(locationOf(patched, url));
  closing.searchParams.set('digest', digest);
  await request('PUT', closing.href, 201);
  const endedMs = performance.now();
  return { totalMs: endedMs - startedMs, finishMs: endedMs - sentMs };
}

/** The same chunks for the same seed, and no two equal. A chunk is valid until the next one is requested. */
function* chunksOf(seed: string): Generator<Buffer> {
  for (let at = 0; at < size; at += CHUNK_BYTES) {
    const chunk = Buffer.from(noise.subarray(0, Math.min(CHUNK_BYTES, size - at)));
    chunk.write(`${seed} ${at} `);
    yield chunk;
  }
}

function request(
  method: string,
  url: string,
  status: number,
  send?: (asking: http.ClientRequest) => Promise<void>,
): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const headers = send === undefined ? { 'content-length': 0 } : {};
    const asking = http.request(url, { method, agent, headers }, answer => {
      answer.resume();
      if (answer.statusCode === status) answer.once('end', () => resolve(answer));
      else reject(new Error(`${method} ${url}: ${answer.statusCode}`));
    });
    asking.once('error', reject);
    if (send === undefined) asking.end();
    else send(asking).catch(reject);
  });
}

function locationOf({ headers }: http.IncomingMessage, url: string): string {
  if (headers.location === undefined) throw new Error(`${url}: no Location`);
  return new URL(headers.location, url).href;
}
