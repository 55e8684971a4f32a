// A private upstream: the cache has the credential, its clients have none. An error about a rejected credential names
// it, and the secret itself appears nowhere.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import { Docker } from './support/clients/docker.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { filesIn } from './support/compare.ts';
import { ACCEPT, ask, errorBody, get } from './support/http.ts';
import { image } from './support/images.ts';
import { Upstream } from './support/upstream.ts';

const USER = { name: 'octocat', password: 'correct-horse-battery-staple' };
const WRONG = 'wrong-horse-battery-staple';

function startCache(upstream: Upstream, token: string): Promise<Cache> {
  return Cache.start({
    upstream: upstream.proxy.url,
    fresh: '1h',
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the config's own way to read the environment
    credentials: [{ name: 'packages-reader', owner: '*', username: USER.name, token: '${E2E_TOKEN}' }],
    env: { E2E_TOKEN: token },
  });
}

test('clients without credentials pull what only the cache has access to', async () => {
  await using upstream = await Upstream.start(USER);
  await using cache = await startCache(upstream, USER.password);
  await using skopeo = new Skopeo();
  await using docker = await Docker.start();

  const denied = await get(`${upstream.proxy.url}/v2/e2e/layers/manifests/v1`);
  assert.equal(denied.status, 401, 'the upstream is not private');
  await skopeo.pull(cache.host, image('multiarch'));
  await docker.pull(cache.host, image('layers'));

  upstream.proxy.clear();
  await skopeo.pull(cache.host, image('layers'));
  assert.equal(upstream.proxy.exchanges.length, 0, 'requests upstream for a cached image');
  await assertNowhere(cache, USER.password);
});

test('a rejected credential is named, its secret is not', async () => {
  await using upstream = await Upstream.start(USER);
  await using cache = await startCache(upstream, WRONG);
  await using skopeo = new Skopeo();

  const answer = await get(`${cache.url}/v2/e2e/layers/manifests/v1`);
  assert.equal(answer.status, 403, `${answer.body}`);
  const [{ code, message } = { code: '', message: '' }] = errorBody(answer).errors;
  assert.equal(code, 'DENIED');
  assert.match(message, /packages-reader/);
  assert.doesNotMatch(answer.body.toString(), new RegExp(WRONG));

  const output = await skopeo.pullFailing(cache.host, 'e2e/layers', 'v1');
  assert.match(output, /packages-reader/);
  assert.doesNotMatch(output, new RegExp(WRONG));
  assert.match(cache.output, /packages-reader/, 'the log names the credential');
  await assertNowhere(cache, WRONG);
});

test('what is cached is still served when the credential is later rejected', async () => {
  await using upstream = await Upstream.start(USER);
  await using cache = await startCache(upstream, USER.password);
  await using skopeo = new Skopeo();
  await skopeo.pull(cache.host, image('layers'));

  await cache.restart({ env: { E2E_TOKEN: WRONG }, fresh: '0s' });
  const answer = await ask('HEAD', `${cache.url}/v2/e2e/layers/manifests/v1`, { accept: ACCEPT });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['x-cache'], 'stale');
  await skopeo.pull(cache.host, image('layers'));
});

/** Neither plain nor as in a Basic header; not in the log, and not in any file of the cache. */
async function assertNowhere(cache: Cache, secret: string): Promise<void> {
  await cache.stop();
  const encoded = Buffer.from(`${USER.name}:${secret}`).toString('base64');
  for (const text of [secret, encoded]) {
    assert.ok(!cache.output.includes(text), 'the secret is in the log');
    for (const path of filesIn(cache.data)) assert.ok(!readFileSync(path).includes(text), `the secret is in ${path}`);
  }
}
