// Time to the first byte of a blob that is not cached, through the cache and asked of the upstream directly,
// in turn, each blob once. Both sides have a token and open connections, as in the middle of an image.
import http from 'node:http';
import { anonymousToken, pull } from './clients.ts';
import { startCache, startStandIn } from './programs.ts';
import { spreadOf, spreadText } from './statistics.ts';

const PAIRS = 40;
const BLOB_BYTES = 1024 * 1024;

export async function firstByte(folder: string): Promise<Record<string, unknown>> {
  const layers = Array.from({ length: 2 * PAIRS + 2 }, () => BLOB_BYTES).join(',');
  const upstream = await startStandIn(['--image', `owner/app:v1=${layers}`]);
  const cache = await startCache(folder, upstream.url);
  const agent = new http.Agent({ keepAlive: true });
  try {
    const [warmDirect, warmCache, ...blobs] = (upstream.blobs.get('owner/app:v1') ?? []).filter(
      ({ size }) => size === BLOB_BYTES,
    );
    const authorization = `Bearer ${await anonymousToken(upstream.url, 'owner/app')}`;
    const direct = (digest = '') =>
      pull(agent, `${upstream.url}/v2/owner/app/blobs/${digest}`, { authorization });
    const cached = (digest = '') => pull(agent, `${cache.url}/v2/owner/app/blobs/${digest}`);
    await direct(warmDirect?.digest);
    await cached(warmCache?.digest);
    const times = { direct: [] as number[], miss: [] as number[] };
    for (let i = 0; i < PAIRS; i++) {
      times.direct.push((await direct(blobs[2 * i]?.digest)).firstByteMs);
      times.miss.push((await cached(blobs[2 * i + 1]?.digest)).firstByteMs);
    }
    const spreads = { direct: spreadOf(times.direct), miss: spreadOf(times.miss) };
    const addedMs = spreads.miss.median - spreads.direct.median;
    console.log(`  direct   ${spreadText(spreads.direct, 2)} ms`);
    console.log(`  miss     ${spreadText(spreads.miss, 2)} ms`);
    console.log(`  added    ${addedMs.toFixed(2)} ms`);
    return { ...spreads, addedMs };
  } finally {
    agent.destroy();
    await cache.stop();
    await upstream.stop();
  }
}
