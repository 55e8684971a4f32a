import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { accepts, MANIFEST_TYPES, manifestType, mediaTypeOf } from './manifest.ts';

const [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] = MANIFEST_TYPES;

describe('manifestType', () => {
  const table: [
    what: string,
    body: string | Uint8Array,
    contentType: string | undefined,
    type: string | undefined,
  ][] = [
    ['says what the manifest says of itself', `{"mediaType":"${MANIFEST}"}`, undefined, MANIFEST],
    ['believes the manifest before the header', `{"mediaType":"${DOCKER_LIST}"}`, MANIFEST, DOCKER_LIST],
    [
      'believes the header where the manifest is silent',
      '{"schemaVersion":2,"layers":[]}',
      DOCKER_MANIFEST,
      DOCKER_MANIFEST,
    ],
    ['reads a header with parameters and capitals', '{}', `${INDEX.toUpperCase()}; charset=utf-8`, INDEX],
    ['believes the header where the manifest names no manifest', '{"mediaType":"text/plain"}', INDEX, INDEX],
    [
      'takes what has manifests for an index',
      '{"schemaVersion":2,"manifests":[]}',
      'application/json',
      INDEX,
    ],
    ['takes what has layers for a manifest', '{"schemaVersion":2,"layers":[]}', undefined, MANIFEST],
    ['knows nothing of schema 1', '{"schemaVersion":1,"fsLayers":[],"layers":[]}', undefined, undefined],
    ['knows nothing of an object without a sign', '{"schemaVersion":2}', 'application/json', undefined],
    ['minds fields of the wrong kind', '{"schemaVersion":2,"mediaType":7,"layers":{}}', undefined, undefined],
    ['refuses a page under the type of a manifest', '<html>', MANIFEST, undefined],
    ['refuses a list', '[]', MANIFEST, undefined],
    ['refuses null', 'null', MANIFEST, undefined],
    ['refuses a text', '"manifest"', MANIFEST, undefined],
    ['refuses nothing', '', MANIFEST, undefined],
    ['refuses JSON that breaks off', `{"mediaType":"${MANIFEST}"`, MANIFEST, undefined],
    [
      'refuses bytes that are no UTF-8',
      Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
      MANIFEST,
      undefined,
    ],
  ];
  for (const [what, body, contentType, type] of table) {
    test(what, () => assert.equal(manifestType(Buffer.from(body), contentType), type));
  }

  test('gives a type that it knows or none, whatever the bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.json(), fc.string()),
        fc.option(fc.string(), { nil: undefined }),
        (body, header) => {
          const type = manifestType(Buffer.from(body), header);
          assert.ok(type === undefined || (MANIFEST_TYPES as readonly string[]).includes(type));
        },
      ),
    );
  });
});

test('mediaTypeOf leaves parameters, space and capitals out', () => {
  assert.equal(mediaTypeOf(' Text/HTML ; charset=utf-8'), 'text/html');
  assert.equal(mediaTypeOf('text/html'), 'text/html');
  assert.equal(mediaTypeOf(''), '');
  assert.equal(mediaTypeOf(undefined), undefined);
});

describe('accepts', () => {
  const table: [accept: string | undefined, type: string, taken: boolean][] = [
    [undefined, INDEX, true],
    ['', INDEX, true],
    ['  ', INDEX, true],
    ['*/*', INDEX, true],
    ['application/*', INDEX, true],
    ['text/*', INDEX, false],
    [INDEX, INDEX, true],
    [INDEX.toUpperCase(), INDEX, true],
    [`${INDEX}; charset=utf-8`, INDEX, true],
    [`${INDEX};q=0.1`, INDEX, true],
    [`${INDEX};q=0`, INDEX, false],
    [`${INDEX} ; Q=0.000`, INDEX, false],
    [`${INDEX};q=0.001`, INDEX, true],
    [MANIFEST, INDEX, false],
    [MANIFEST_TYPES.join(', '), DOCKER_LIST, true],
    [`${MANIFEST},${DOCKER_MANIFEST}`, DOCKER_MANIFEST, true],
    [`${MANIFEST},*/*;q=0.1`, INDEX, true],
    ['application/vnd.oci.image.*', INDEX, false],
    ['application', INDEX, false],
    [',,;', INDEX, false],
  ];
  for (const [accept, type, taken] of table) {
    test(`${JSON.stringify(accept)} ${taken ? 'takes' : 'does not take'} ${type}`, () =>
      assert.equal(accepts(accept, type), taken));
  }
});
