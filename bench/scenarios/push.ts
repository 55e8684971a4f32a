// A layer pushed to the upstream through the cache, compared with pushing it directly: the time, and how much of it the
// client waits for the response after its last byte. PUSH_GIB sets the size of the layer; default 1 GiB.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Bench } from '../bench.ts';
import { startFakeGhcr } from '../programs.ts';
import type { PushTimes } from '../push-client.ts';
import { Registries, startCaches } from '../subjects.ts';

const GIB = 1024 ** 3;

export async function push(bench: Bench): Promise<void> {
  const gib = Number(process.env.PUSH_GIB ?? 1);
  if (!(gib > 0)) throw new Error('PUSH_GIB is the size of the layer in GiB');
  await using upstream = await startFakeGhcr(['--open']);
  await using caches = new Registries(await startCaches(bench, upstream.url));
  using client = new Client(gib * GIB);
  const subjects = [...caches.all, { name: 'direct', program: undefined }];
  const urlOf = (name: string) => caches.all.find(each => each.name === name)?.program?.url ?? upstream.url;
  // Warm-up: tokens, connections, compiled code.
  for (const { name } of subjects) await client.push(`${urlOf(name)}/v2/owner/first`, name);
  await bench.compare(
    `${gib} GiB`,
    [
      { name: 'time', unit: 's', better: 'less' },
      { name: 'last byte to 201', unit: 'ms', better: 'less' },
    ],
    subjects,
    async ({ name }, run) => {
      const { totalMs, finishMs } = await client.push(`${urlOf(name)}/v2/owner/app`, `${name} ${run}`);
      return { values: [totalMs / 1000, finishMs] };
    },
  );
}

/** The program that pushes. */
class Client implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(sizeBytes: number) {
    const path = new URL('../push-client.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, [path, String(sizeBytes)], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  }

  async push(url: string, seed: string): Promise<PushTimes> {
    this.#child.stdin?.write(`${JSON.stringify({ url, seed })}\n`);
    const line = await this.#lines.next();
    if (line.done) throw new Error(`a push to ${url} failed`);
    return JSON.parse(line.value) as PushTimes;
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}
