// Comparisons byte for byte: the responses of the cache with those of the registry behind it, and the files in a blobs
// directory with their names.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { type Answer, get, head } from './http.ts';
import { blobsOf, digestOf, type Image, manifestsOf } from './images.ts';

/** Headers that clients rely on, which must be the same with and without the cache. */
const SAME_HEADERS = ['content-type', 'docker-content-digest', 'content-length', 'etag'] as const;

/** The URL paths of an image: the tag, every manifest, every blob. */
export function pathsOf(image: Image): string[] {
  const base = `/v2/${image.repository}`;
  return [
    `${base}/manifests/${image.tag}`,
    ...manifestsOf(image).map(({ digest }) => `${base}/manifests/${digest}`),
    ...blobsOf(image).map(({ digest }) => `${base}/blobs/${digest}`),
  ];
}

/** Requests all of an image from both, with GET and HEAD. Throws at the first difference. */
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

/** The digests in a `blobs` directory (`<algorithm>/<hex>`), if it exists. Each file must hash to its name. */
export async function verifiedBlobs(directory: string): Promise<Set<string>> {
  const digests = new Set<string>();
  if (!existsSync(directory)) return digests;
  for (const algorithm of readdirSync(directory)) {
    for (const hex of readdirSync(join(directory, algorithm))) {
      const hash = createHash(algorithm);
      await pipeline(createReadStream(join(directory, algorithm, hex)), hash);
      assert.equal(hash.digest('hex'), hex, `${algorithm}/${hex} does not hold what its name says`);
      digests.add(`${algorithm}:${hex}`);
    }
  }
  return digests;
}

/** All files in a directory, recursively; none if it does not exist. */
export function filesIn(directory: string): string[] {
  if (!existsSync(directory)) return [];
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name));
}
