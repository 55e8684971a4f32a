// The server's memory: idle, with 1,000 clients that are connected and silent, and with 200 that stop reading a blob of
// 1 GiB.
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench } from '../bench.ts';
import { startFakeGhcr } from '../programs.ts';
import { type Registry, startRegistries } from '../subjects.ts';

const GIB = 1024 ** 3;
const IDLE = 1_000;
const SLOW = 200;
/** Long enough for all buffers to fill. */
const SETTLE_MS = 3_000;

export async function memory(bench: Bench): Promise<void> {
  await using upstream = await startFakeGhcr(['--big', 'owner/big:v1=1GiB']);
  const digest = upstream.images[0]?.blobs.find(({ size }) => size === GIB)?.digest ?? '';
  await using registries = await startRegistries(bench, upstream, { buffers: true });
  await registries.warm(bench, 'owner/big', 'v1', [digest]);
  const resident = [{ name: 'resident', unit: 'MB', better: 'less' }] as const;
  const measure = (how: (each: Registry) => Promise<Socket[]>) => async (each: Registry) => {
    const sockets = await how(each);
    await sleep(SETTLE_MS);
    const bytes = each.program?.residentBytes() ?? Number.NaN;
    for (const socket of sockets) socket.destroy();
    return { values: [bytes / 1e6] };
  };
  await bench.compare(
    'after pulls of 1 GiB',
    resident,
    registries.all,
    measure(async () => []),
  );
  await bench.compare(
    `${IDLE} silent clients`,
    resident,
    registries.all,
    measure(each => ask(each, '/v2/', IDLE, false)),
  );
  await bench.compare(
    `${SLOW} clients that stop reading`,
    resident,
    registries.all,
    measure(each => ask(each, new URL(each.blobUrl('owner/big', digest)).pathname, SLOW, true)),
  );
}

/** Connections with one request each, whose response has started. */
async function ask(each: Registry, path: string, count: number, pause: boolean): Promise<Socket[]> {
  const { port } = new URL(each.program?.url ?? '');
  const sockets: Socket[] = [];
  for (let i = 0; i < count; i++) {
    const socket = connect(Number(port), '127.0.0.1');
    socket.on('error', () => {});
    socket.write(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`);
    await new Promise(resolve => socket.once('data', resolve));
    if (pause) socket.pause();
    sockets.push(socket);
  }
  return sockets;
}
