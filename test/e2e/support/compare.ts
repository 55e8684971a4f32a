// Comparing byte for byte: what the cache answers with what the registry behind it answers, and what
// lies in a folder of blobs with the names that it has there.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Answer, get, head } from './http.ts';
import { blobsOf, digestOf, type Image, manifestsOf } from './images.ts';

/** Headers that a client relies on, and that must be the same with and without the cache. */
const SAME_HEADERS = ['content-type', 'docker-content-digest', 'content-length', 'etag'] as const;

/** The URL paths of all that belongs to an image: the tag, every manifest, every blob. */
export function pathsOf(image: Image): string[] {
  const base = `/v2/${image.repository}`;
  return [
    `${base}/manifests/${image.tag}`,
    ...manifestsOf(image).map(({ digest }) => `${base}/manifests/${digest}`),
    ...blobsOf(image).map(({ digest }) => `${base}/blobs/${digest}`),
  ];
}

/** Asks both for all of an image, with GET and with HEAD. Throws at the first difference. */
export async function assertSameImage(cacheUrl: string, registryUrl: string, image: Image): Promise<void> {
  for (const path of pathsOf(image)) {
    const expected = await get(registryUrl + path);
    const actual = await get(cacheUrl + path);
    assertSameAnswer(actual, expected, `GET ${path}`);
    assert.equal(digestOf(actual.body), expected.headers['docker-content-digest'], `contents of ${path}`);

    const bodiless = await head(cacheUrl + path);
    assert.equal(bodiless.body.length, 0, `HEAD ${path} has a body`);
    assertSameHead(bodiless, await head(registryUrl + path), `HEAD ${path}`);
  }
}

export function assertSameAnswer(actual: Answer, expected: Answer, what: string): void {
  assertSameHead(actual, expected, what);
  assert.ok(actual.body.equals(expected.body), `${what}: the bodies differ`);
}

function assertSameHead(actual: Answer, expected: Answer, what: string): void {
  assert.equal(actual.status, expected.status, `status of ${what}: ${actual.body.subarray(0, 500)}`);
  assert.equal(actual.headers['content-encoding'], undefined, `${what} was re-encoded`);
  for (const name of SAME_HEADERS) {
    assert.equal(actual.headers[name], expected.headers[name], `${name} of ${what}`);
  }
}

/** The digests in a `blobs` folder (`<algorithm>/<hex>`), if there is one. Each file must hash to its name. */
export async function verifiedBlobs(folder: string): Promise<Set<string>> {
  const digests = new Set<string>();
  if (!existsSync(folder)) return digests;
  for (const algorithm of readdirSync(folder)) {
    for (const hex of readdirSync(join(folder, algorithm))) {
      const hash = createHash(algorithm);
      await pipeline(createReadStream(join(folder, algorithm, hex)), hash);
      assert.equal(hash.digest('hex'), hex, `${algorithm}/${hex} does not hold what its name says`);
      digests.add(`${algorithm}:${hex}`);
    }
  }
  return digests;
}

/** All files in a folder and in the folders below it; none if it does not exist. */
export function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name));
}
