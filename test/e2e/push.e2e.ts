// Every client that can push pushes through the cache, to an open registry and to one that requires a credential, which
// only the cache has. The registry then holds what the client had, byte for byte; each byte was uploaded once; and the
// cache serves it at once, without upstream requests.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import { Buildah } from './support/clients/buildah.ts';
import type { PushingClient } from './support/clients/client.ts';
import { Crane } from './support/clients/crane.ts';
import { Docker } from './support/clients/docker.ts';
import { Oras } from './support/clients/oras.ts';
import { Podman } from './support/clients/podman.ts';
import { Skopeo } from './support/clients/skopeo.ts';
import { assertSameImage } from './support/compare.ts';
import { blobsOf, type Descriptor, type Image, type ImageName, image } from './support/images.ts';
import { pushedImage } from './support/pushed.ts';
import { type BasicUser, Registry } from './support/registry.ts';
import { Upstream } from './support/upstream.ts';

interface Pushing {
  readonly start: () => Promise<PushingClient>;
  readonly images: readonly ImageName[];
  /** It pushes the manifests and layers that it pulled; others create and compress their own. */
  readonly keepsBytes: boolean;
}

const CLIENTS: Readonly<Record<string, Pushing>> = {
  skopeo: {
    start: async () => new Skopeo(),
    images: ['layers', 'multiarch', 'schema2', 'schema2-list'],
    keepsBytes: true,
  },
  podman: { start: async () => new Podman(), images: ['layers'], keepsBytes: false },
  buildah: { start: async () => new Buildah(), images: ['layers', 'multiarch'], keepsBytes: false },
  docker: { start: Docker.start, images: ['layers', 'schema2'], keepsBytes: false },
  crane: {
    start: async () => new Crane(),
    images: ['layers', 'multiarch', 'schema2-list'],
    keepsBytes: true,
  },
  oras: { start: async () => new Oras(), images: ['layers', 'multiarch'], keepsBytes: true },
};

const USER: BasicUser = { name: 'octocat', password: 'correct-horse-battery-staple' };

for (const user of [undefined, USER]) {
  for (const [name, { start, images, keepsBytes }] of Object.entries(CLIENTS)) {
    test(`${name} pushes through the cache${user ? ', which has the credential' : ''}`, async t => {
      await using source = await Registry.start();
      await using upstream = await Upstream.startEmpty(user);
      await using cache = await startCache(upstream, user);
      await using client = await start();
      const setting = { client, source, upstream, cache, keepsBytes, earlier: new Set<string>() };
      for (const imageName of images) {
        await t.test(imageName, async () => {
          await assertPushes(setting, image(imageName));
        });
      }
    });
  }
}

test('skopeo pushes a large image', async t => {
  await using source = await Registry.start();
  await using upstream = await Upstream.startEmpty();
  await using cache = await startCache(upstream, undefined);
  await using client = new Skopeo();
  const large = image('large');
  const size = sizeOf(blobsOf(large));
  assert.ok(size >= 300_000_000, `${size} bytes is not large`);
  const setting = { client, source, upstream, cache, keepsBytes: true, earlier: new Set<string>() };
  const seconds = await assertPushes(setting, large);
  t.diagnostic(`${Math.round(size / 1e6)} MB in ${seconds.toFixed(1)} s`);
});

test('crane copies from one repository to another, and no layer is uploaded again', async () => {
  await using source = await Registry.start();
  await using upstream = await Upstream.startEmpty();
  await using cache = await startCache(upstream, undefined);
  await using crane = new Crane();
  const original = image('multiarch');
  await crane.push(source.host, original, cache.host, 'e2e/first');
  upstream.proxy.clear();
  await crane.copy(cache.host, { ...original, repository: 'e2e/first' }, 'e2e/second');
  assert.equal(upstream.proxy.uploadedBytes, 0, 'bytes of blobs uploaded');
  const pushed = await pushedImage(upstream.witness.url, 'e2e/second', original);
  assert.equal(pushed.root.digest, original.root.digest);
  await assertSameImage(cache.url, upstream.witness.url, pushed);
});

test('clients that push the same image at once all succeed, and the next one sends nothing', async t => {
  await using source = await Registry.start();
  await using upstream = await Upstream.startEmpty();
  await using cache = await startCache(upstream, undefined);
  const original = image('medium');
  const clients = Array.from({ length: 4 }, () => new Skopeo());
  await Promise.all(clients.map(client => client.pull(source.host, original)));

  const pushes = await Promise.allSettled(
    clients.map(client => client.pushAgain(original, cache.host, 'e2e/together')),
  );
  for (const push of pushes) if (push.status === 'rejected') throw push.reason;
  const pushed = await pushedImage(upstream.witness.url, 'e2e/together', original);
  assert.equal(pushed.root.digest, original.root.digest);
  await assertSameImage(cache.url, upstream.witness.url, pushed);
  const uploaded = upstream.proxy.uploadedBytes;
  const size = sizeOf(blobsOf(pushed));
  t.diagnostic(`${uploaded} of ${size} bytes were uploaded`);
  // Skopeo names a digest only when it has sent the blob, so those that stream one at the same moment all send it.
  assert.ok(uploaded <= clients.length * size, `${uploaded} of ${size} bytes of blobs were uploaded`);
  const late = new Skopeo();
  await late.pull(source.host, original);
  await late.pushAgain(original, cache.host, 'e2e/together');
  assert.equal(upstream.proxy.uploadedBytes, uploaded);
});

interface Setting {
  readonly client: PushingClient;
  readonly source: Registry;
  readonly upstream: Upstream;
  readonly cache: Cache;
  readonly keepsBytes: boolean;
  /** Blobs of images pushed before, which clients may mount. */
  readonly earlier: Set<string>;
}

/** Resolves to how many seconds the pull and the push took. */
async function assertPushes(setting: Setting, original: Image): Promise<number> {
  const { client, source, upstream, cache, keepsBytes, earlier } = setting;
  upstream.proxy.clear();
  const repository = `${original.repository}-pushed`;
  const started = performance.now();
  const digest = await client.push(source.host, original, cache.host, repository);
  const seconds = (performance.now() - started) / 1000;
  const pushed = await pushedImage(upstream.witness.url, repository, original);
  assert.equal(pushed.root.digest, digest, 'the digest that the client reports');
  if (keepsBytes) assert.deepEqual(pushed, { ...original, repository });
  const blobs = blobsOf(pushed);
  const uploaded = upstream.proxy.uploadedBytes;
  assert.ok(uploaded <= sizeOf(blobs), `${uploaded} of ${sizeOf(blobs)} bytes of blobs were uploaded`);
  const fresh = blobs.filter(({ digest }) => !earlier.has(digest));
  assert.ok(uploaded >= sizeOf(fresh), `${uploaded} bytes were uploaded, and ${sizeOf(fresh)} are new`);
  for (const { digest } of blobs) earlier.add(digest);

  // What the cache did not have it would have to request now.
  upstream.proxy.clear();
  await client.wipe();
  await client.pull(cache.host, pushed);
  await assertSameImage(cache.url, upstream.witness.url, pushed);
  assert.deepEqual(
    upstream.proxy.exchanges.map(({ method, path }) => `${method} ${path}`),
    [],
    'requests upstream for what was pushed',
  );
  return seconds;
}

function startCache(upstream: Upstream, user: BasicUser | undefined): Promise<Cache> {
  return Cache.start({
    upstream: upstream.proxy.url,
    fresh: '1h',
    ...(user && { credentials: [{ name: 'writer', owner: '*', username: user.name, token: user.password }] }),
  });
}

function sizeOf(blobs: readonly Descriptor[]): number {
  return blobs.reduce((sum, { size }) => sum + size, 0);
}
