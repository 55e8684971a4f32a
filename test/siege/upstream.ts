// The upstream of the siege, as a program: a fake ghcr.io with the images of the honest clients and the faults that the
// others run into. It prints one JSON line with its URL, and runs until SIGTERM.
import { setTimeout as sleep } from 'node:timers/promises';
import { answers, startGhcr } from '../support/ghcr/ghcr.ts';
import { randomContent } from '../support/images.ts';
import { CREDENTIAL, HONEST_CLIENTS, honestImage, IMAGES_EACH, MIB, pulledName, VICTIM } from './scene.ts';

const ghcr = await startGhcr();
ghcr.addUser({ ...CREDENTIAL, scopes: ['read:packages', 'write:packages'], packages: ['*'] });
for (let client = 0; client < HONEST_CLIENTS; client++) {
  for (let n = 0; n < IMAGES_EACH; n++) ghcr.push(pulledName(client), honestImage(client, n), `v${n}`);
}

// A layer larger than the cache, which has to pass through.
ghcr.addBlob(VICTIM.huge, randomContent(VICTIM.hugeBytes, VICTIM.huge));
for (const name of [VICTIM.forbidden, VICTIM.crawling]) {
  for (let n = 0; n < 40; n++) ghcr.addBlob(name, randomContent(4 * MIB, `${name}/${n}`));
}
for (const name of [VICTIM.broken, VICTIM.slow]) ghcr.push(name, honestImage(0, 0), 'latest');

ghcr.fault({ endpoint: 'blobhost', repository: VICTIM.forbidden, answer: { status: 403, body: 'forbidden' } });
ghcr.fault({ endpoint: 'blobhost', repository: VICTIM.crawling, throttle: 20_000 });
for (const endpoint of ['manifest', 'blob', 'tags', 'upload-start', 'upload'] as const) {
  ghcr.fault({ endpoint, repository: VICTIM.broken, answer: answers.serverError() });
}
for (const endpoint of ['manifest', 'blob'] as const) {
  ghcr.fault({
    ...{ endpoint, repository: VICTIM.slow },
    get gate() {
      return sleep(12_000);
    },
  });
}
const tags = Buffer.from(JSON.stringify({ name: VICTIM.tags, tags: Array.from({ length: 60_000 }, longTag) }));
ghcr.fault({ endpoint: 'tags', repository: VICTIM.tags, answer: { status: 200, body: tags } });

process.stdout.write(`${JSON.stringify({ url: ghcr.url, api: ghcr.apiUrl })}\n`);
process.once('SIGTERM', () => void ghcr.close());

function longTag(_: unknown, i: number): string {
  return `v${i}-${'x'.repeat(90)}`;
}
