import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ALGORITHMS, digestOf } from './digest.ts';
import { inspectManifest } from './manifest.ts';
import { isTag } from './reference.ts';
import { artifactTypeOf, fallbackTag, INDEX_TYPE, indexEntries, indexOf, isFor } from './referrers.ts';

const digests = fc
  .tuple(fc.uint8Array(), fc.constantFrom(...ALGORITHMS))
  .map(([bytes, algorithm]) => digestOf(bytes, algorithm));

describe('the fallback tag', () => {
  test('is the one of the specification: the digest with a dash, its hex cut after 64 characters', () => {
    const bytes = Buffer.from('abc');
    assert.equal(
      fallbackTag(digestOf(bytes)),
      'sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    assert.equal(
      fallbackTag(digestOf(bytes, 'sha512')),
      'sha512-ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a',
    );
  });

  test('is a tag, whatever the digest', () => {
    fc.assert(fc.property(digests, digest => assert.ok(isTag(fallbackTag(digest)))));
  });
});

describe('indexEntries', () => {
  test('gives back what indexOf was given, in its order', () => {
    fc.assert(
      fc.property(fc.array(fc.jsonValue()), entries => {
        const expected = JSON.parse(JSON.stringify(entries));
        assert.deepEqual(indexEntries(indexOf(entries)), expected);
      }),
    );
  });

  const none: [what: string, body: string | Uint8Array | undefined][] = [
    ['no bytes at all', undefined],
    ['nothing', ''],
    ['a page', '<!DOCTYPE html>'],
    ['null', 'null'],
    ['a number', '7'],
    ['a text', '"manifests"'],
    ['a list', '[]'],
    ['an object without entries', '{"schemaVersion":2}'],
    ['entries of null', '{"manifests":null}'],
    ['entries that are an object', '{"manifests":{"length":0}}'],
    ['entries by way of a prototype', '{"__proto__":{"manifests":[]}}'],
    ['JSON that breaks off', '{"manifests":[]'],
    ['entries that are nested too deep to be written again', `{"manifests":[${'['.repeat(1e5)}${']'.repeat(1e5)}]}`],
    [
      'an index that has such nesting beside its entries',
      `{"manifests":[],"more":${'['.repeat(1e5)}${']'.repeat(1e5)}}`,
    ],
    ['nesting without an end', '['.repeat(100_000)],
  ];
  for (const [what, body] of none) {
    test(`finds none in ${what}`, () =>
      assert.equal(indexEntries(typeof body === 'string' ? Buffer.from(body) : body), undefined));
  }

  test('gives entries or none, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from)), bytes => {
        const entries = indexEntries(bytes);
        assert.ok(entries === undefined || Array.isArray(entries));
      }),
    );
  });
});

test('indexOf makes an index that can be pushed', () => {
  const entries = [{ mediaType: 'a/b', digest: digestOf(Buffer.from('a')), size: 1 }];
  for (const listed of [[], entries]) {
    const bytes = indexOf(listed);
    assert.deepEqual(JSON.parse(bytes.toString()), {
      schemaVersion: 2,
      mediaType: INDEX_TYPE,
      manifests: listed,
    });
    assert.equal(inspectManifest(bytes, INDEX_TYPE).problem, undefined);
  }
});

test('indexOf keeps what an index says beside its entries', () => {
  const before = {
    schemaVersion: 2,
    mediaType: INDEX_TYPE,
    manifests: [{ digest: 'old' }],
    annotations: { a: 'b' },
    subject: { digest: digestOf(Buffer.from('subject')) },
    other: [null, 7, { deep: true }],
  };
  const entries = [{ digest: digestOf(Buffer.from('new')) }];
  const changed = indexOf(entries, Buffer.from(JSON.stringify(before)));
  assert.deepEqual(JSON.parse(changed.toString()), { ...before, manifests: entries });
  const bare = indexOf(entries, Buffer.from('{"manifests":[]}'));
  assert.deepEqual(JSON.parse(bare.toString()), JSON.parse(indexOf(entries).toString()));
});

test('indexOf makes an index of whatever stood in its place', () => {
  const list = 'application/vnd.docker.distribution.manifest.list.v2+json';
  for (const before of [{ schemaVersion: 1, mediaType: list }, { mediaType: null, schemaVersion: '2' }, {}]) {
    const bytes = indexOf([], Buffer.from(JSON.stringify({ ...before, manifests: [{}], kept: true })));
    const expected = { schemaVersion: 2, mediaType: INDEX_TYPE, manifests: [], kept: true };
    assert.deepEqual(JSON.parse(bytes.toString()), expected);
  }
});

describe('an entry', () => {
  const [one, two] = [digestOf(Buffer.from('1')), digestOf(Buffer.from('2'))];

  test('is for its digest, and for no other', () => {
    assert.ok(isFor({ digest: one }, one));
    assert.ok(!isFor({ digest: two }, one));
    assert.ok(!isFor({ digest: one.toUpperCase() }, one));
  });

  test('names its artifact type', () => {
    assert.equal(artifactTypeOf({ artifactType: 'a/b' }), 'a/b');
    assert.equal(artifactTypeOf({}), undefined);
  });

  test('may be anything at all', () => {
    for (const entry of [null, 7, '', one, [], [one], true, { digest: [one] }, { digest: { toString: one } }]) {
      assert.equal(isFor(entry, one), false);
      assert.equal(artifactTypeOf(entry), undefined);
    }
    fc.assert(
      fc.property(fc.jsonValue(), entry => {
        assert.equal(isFor(entry, one), false);
        artifactTypeOf(entry);
      }),
    );
  });
});
