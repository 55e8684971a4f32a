// Artifacts that refer to an image, at an upstream without the referrers API, as ghcr.io is: the cache maintains the
// index under the fallback tag, keeping what others wrote there, and serves the API itself, also when the upstream is
// unavailable.
import assert from 'node:assert/strict';
import test from 'node:test';
import { Cache } from './support/cache.ts';
import { type Artifact, Oras } from './support/clients/oras.ts';
import { assertSameImage } from './support/compare.ts';
import { FakeGhcr } from './support/fake-ghcr.ts';
import { digestOf, type Image, image } from './support/images.ts';
import { pushedImage } from './support/pushed.ts';
import { Registry } from './support/registry.ts';

const USER = { name: 'octocat', password: 'ghp_e2e' };
const SBOM = 'application/vnd.e2e.sbom';
const SIGNATURE = 'application/vnd.e2e.signature';

for (const name of ['layers', 'multiarch'] as const) {
  test(`referrers of ${name}`, async t => {
    await using source = await Registry.start();
    await using upstream = await FakeGhcr.start(USER);
    await using cache = await startCache(upstream);
    await using oras = new Oras();
    await using orasUpstream = new Oras(USER);
    const subject = { ...image(name), repository: `octocat/${name}` };
    const attached: Artifact[] = [];

    const assertListed = async (where: string, host = cache.host, client = oras) => {
      const found = await client.discover(host, subject);
      assert.deepEqual(sorted(found), sorted(attached), where);
    };

    await t.test('the image is pushed', async () => {
      const digest = await oras.push(source.host, image(name), cache.host, subject.repository);
      assert.equal(digest, subject.root.digest);
      await assertListed('before anything refers to it');
    });

    await t.test('attached through the cache', async () => {
      attached.push(await oras.attach(cache.host, subject, SBOM, 'one'));
      attached.push(await oras.attach(cache.host, subject, SIGNATURE, 'two'));
      await assertListed('through the cache');
      await assertFallbackTag(upstream, subject, attached);
      // oras asks for the referrers, is redirected to nowhere, and falls back to the tag.
      await assertListed('at the upstream itself', upstream.host, orasUpstream);
      const signatures = await oras.discover(cache.host, subject, SIGNATURE);
      assert.deepEqual(signatures, [attached[1]], 'of one type');
    });

    await t.test('attached directly at the upstream, and not lost', async () => {
      attached.push(await orasUpstream.attach(upstream.host, subject, SBOM, 'three'));
      attached.push(await oras.attach(cache.host, subject, SBOM, 'four'));
      await assertFallbackTag(upstream, subject, attached);
      await assertListed('through the cache');
    });

    await t.test('attached by several clients at once', async () => {
      const texts = ['five', 'six', 'seven', 'eight'];
      attached.push(...(await Promise.all(texts.map(text => oras.attach(cache.host, subject, SIGNATURE, text)))));
      await assertFallbackTag(upstream, subject, attached);
      await assertListed('through the cache');
    });

    await t.test('the upstream is unavailable', async () => {
      await upstream.stop();
      await assertListed('through the cache');
      const boms = await oras.discover(cache.host, subject, SBOM);
      assert.equal(boms.length, 3, 'of one type');
      await oras.pull(cache.host, subject);
    });

    await t.test('the cache starts without its upstream', async () => {
      await cache.restart({ fresh: '0s' });
      await assertListed('through the cache');
    });
  });
}

test('the cache and the upstream hold the same of a push', async () => {
  await using source = await Registry.start();
  await using upstream = await FakeGhcr.start(USER);
  await using cache = await startCache(upstream);
  await using oras = new Oras();
  const subject = { ...image('multiarch'), repository: 'octocat/multiarch' };
  await oras.push(source.host, image('multiarch'), cache.host, subject.repository);
  // A new cache has only what the upstream has.
  await using other = await startCache(upstream);
  const pushed = await pushedImage(other.url, subject.repository, subject);
  assert.deepEqual(pushed, subject);
  await assertSameImage(cache.url, other.url, subject);
});

/** At the upstream the fallback tag is an index of exactly these, as in the spec. */
async function assertFallbackTag(
  upstream: FakeGhcr,
  { repository, root }: Image,
  attached: readonly Artifact[],
): Promise<void> {
  const tag = root.digest.replace(':', '-');
  const { status, headers, body } = await upstream.get(repository, `manifests/${tag}`);
  assert.equal(status, 200, body.toString());
  assert.equal(headers['content-type'], 'application/vnd.oci.image.index.v1+json');
  const index = JSON.parse(body.toString()) as Record<string, unknown>;
  assert.equal(index.schemaVersion, 2);
  assert.equal(index.mediaType, 'application/vnd.oci.image.index.v1+json');
  assert.deepEqual(sorted(index.manifests as Artifact[]), sorted(attached), `the entries of ${tag}`);
  for (const { digest, size } of attached) {
    const manifest = await upstream.get(repository, `manifests/${digest}`);
    assert.equal(digestOf(manifest.body), digest);
    assert.equal(manifest.body.length, size);
  }
}

function startCache(upstream: FakeGhcr): Promise<Cache> {
  return Cache.start({
    upstream: upstream.url,
    api: upstream.apiUrl,
    fresh: '1h',
    credentials: [{ name: 'writer', owner: '*', username: USER.name, token: USER.password }],
  });
}

function sorted(artifacts: readonly Artifact[]): Artifact[] {
  return artifacts.toSorted((a, b) => (a.digest < b.digest ? -1 : 1));
}
