import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { digestOf, parseDigest } from './digest.ts';
import { RegistryError } from './errors.ts';
import { accepts, assertValid, inspectManifest, MANIFEST_TYPES, mediaTypeOf } from './manifest.ts';

const [INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST] = MANIFEST_TYPES;

/** What is read of a manifest that a client pushed; throws when it is not valid. */
function readPushed(bytes: Uint8Array, contentType: string | undefined) {
  const info = inspectManifest(bytes, contentType);
  assertValid(info);
  const { problem: _, parts: __, ...rest } = info;
  return rest;
}

const partsOf = (bytes: Uint8Array) => inspectManifest(bytes, undefined).parts;

describe('the type of a manifest', () => {
  const table: [what: string, body: string | Uint8Array, contentType: string | undefined, type: string | undefined][] =
    [
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
      ['takes what has manifests for an index', '{"schemaVersion":2,"manifests":[]}', 'application/json', INDEX],
      ['takes what has layers for a manifest', '{"schemaVersion":2,"layers":[]}', undefined, MANIFEST],
      ['knows nothing of schema 1', '{"schemaVersion":1,"fsLayers":[],"layers":[]}', undefined, undefined],
      ['knows nothing of an object without a sign', '{"schemaVersion":2}', 'application/json', undefined],
      ['minds fields of the wrong kind', '{"schemaVersion":2,"mediaType":7,"layers":{}}', undefined, undefined],
      ['rejects a page under the type of a manifest', '<html>', MANIFEST, undefined],
      ['rejects a list', '[]', MANIFEST, undefined],
      ['rejects null', 'null', MANIFEST, undefined],
      ['rejects a text', '"manifest"', MANIFEST, undefined],
      ['rejects nothing', '', MANIFEST, undefined],
      ['rejects JSON that breaks off', `{"mediaType":"${MANIFEST}"`, MANIFEST, undefined],
      [
        'rejects bytes that are not UTF-8',
        Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
        MANIFEST,
        undefined,
      ],
    ];
  for (const [what, body, contentType, type] of table) {
    test(what, () => assert.equal(inspectManifest(Buffer.from(body), contentType).mediaType, type));
  }

  test('gives a type that it knows or none, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.oneof(fc.json(), fc.string()), fc.option(fc.string(), { nil: undefined }), (body, header) => {
        const { mediaType: type } = inspectManifest(Buffer.from(body), header);
        assert.ok(type === undefined || (MANIFEST_TYPES as readonly string[]).includes(type));
      }),
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

describe('a manifest that is pushed', () => {
  const config = digestOf(Buffer.from('config'));
  const layer = digestOf(Buffer.from('layer'));
  const subject = digestOf(Buffer.from('subject'));
  const image = {
    schemaVersion: 2,
    mediaType: MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', digest: config, size: 6 },
    layers: [{ mediaType: 'application/octet-stream', digest: layer, size: 5 }],
  };
  const nothing = {
    ...{ subject: undefined, artifactType: undefined, annotations: undefined, config: undefined },
    ...{ blobs: [], sizes: {}, manifests: [] },
  };
  const parts = (json: unknown, contentType?: string) =>
    readPushed(Buffer.from(typeof json === 'string' ? json : JSON.stringify(json)), contentType);
  const isInvalid = (said: RegExp) => (error: unknown) => {
    assert.ok(error instanceof RegistryError, String(error));
    assert.equal(error.code, 'MANIFEST_INVALID');
    assert.match(error.message, said);
    return true;
  };

  test('gives what a registry reads of an image', () => {
    const annotations = { title: 'a', '': '', 'org.opencontainers.image.source': 'https://github.com/o/a' };
    const sha512 = digestOf(Buffer.from('subject'), 'sha512');
    const json = { ...image, artifactType: 'a/b', annotations, subject: { digest: sha512 } };
    assert.deepEqual(parts(json, MANIFEST), {
      mediaType: MANIFEST,
      subject: sha512,
      artifactType: 'a/b',
      annotations,
      config: { mediaType: image.config.mediaType, digest: config },
      blobs: [config, layer],
      sizes: { [config]: 6, [layer]: 5 },
      manifests: [],
    });
  });

  test('gives nothing for what is not there, or null as Go writes what is empty', () => {
    const bare = { schemaVersion: 2, mediaType: MANIFEST };
    const empty = {
      subject: null,
      artifactType: '',
      annotations: null,
      config: null,
      layers: null,
      manifests: null,
    };
    for (const json of [bare, { ...bare, ...empty }]) {
      assert.deepEqual(parts(json), { mediaType: MANIFEST, ...nothing });
    }
  });

  for (const type of MANIFEST_TYPES) {
    test(`takes a ${type}, by its own word, by its Content-Type, or by both`, () => {
      const list =
        type === INDEX || type === DOCKER_LIST ? { manifests: [{ digest: layer }] } : { layers: image.layers };
      const named = [type, `${type.toUpperCase()}; charset=utf-8`];
      const taken: [json: object, contentType: string | undefined][] = [
        [{ schemaVersion: 2, mediaType: type, ...list }, undefined],
        ...named.map((header): [object, string] => [{ schemaVersion: 2, mediaType: type, ...list }, header]),
        ...named.map((header): [object, string] => [{ schemaVersion: 2, ...list }, header]),
      ];
      for (const [json, header] of taken) {
        const names = 'manifests' in list ? { manifests: [layer] } : { blobs: [layer], sizes: { [layer]: 5 } };
        assert.deepEqual(parts(json, header), { mediaType: type, ...nothing, ...names });
      }
    });
  }

  test('rejects a Content-Type that is not what the manifest is', () => {
    for (const type of ['application/json', DOCKER_MANIFEST, INDEX, 'text/plain', `x${MANIFEST}`]) {
      assert.throws(() => parts(image, type), isInvalid(/the manifest is of type .*, but was sent with Content-Type/));
    }
    const { mediaType: _, ...silent } = image;
    assert.equal(parts(silent).mediaType, MANIFEST);
    assert.throws(() => parts(silent, 'application/json'), isInvalid(/Content-Type application\/json/));
  });

  const rejected: [what: string, json: unknown, said: RegExp][] = [
    ['no JSON', '<html>', /not a manifest of a known type/],
    ['nothing', '', /not a manifest of a known type/],
    ['JSON that breaks off', '{"schemaVersion":2,"layers":[', /not a manifest of a known type/],
    ['JSON with something behind it', `${JSON.stringify(image)}x`, /not a manifest of a known type/],
    ['a list', [image], /not a manifest of a known type/],
    ['null', null, /not a manifest of a known type/],
    ['a type of no registry', { ...image, mediaType: 'application/zip', layers: undefined }, /known type/],
    ['a type that is a name of Object.prototype', { mediaType: '__proto__', schemaVersion: 2 }, /known type/],
    ['schema 1', { ...image, schemaVersion: 1 }, /schemaVersion is not 2/],
    ['no schema', { ...image, schemaVersion: undefined }, /schemaVersion is not 2/],
    ['a schema that is a text', { ...image, schemaVersion: '2' }, /schemaVersion is not 2/],
    ['a schema beyond all numbers', JSON.stringify(image).replace('2', '2e999'), /schemaVersion is not 2/],
    ['layers that are no list', { ...image, layers: {} }, /layers is not a list/],
    ['layers that only look like a list', { ...image, layers: { length: 1, 0: image.layers[0] } }, /layers/],
    ['layers that are a text', { ...image, layers: layer }, /layers is not a list/],
    ['manifests that are a number', { ...image, manifests: 7 }, /manifests is not a list/],
    ['manifests that are false', { ...image, manifests: false }, /manifests is not a list/],
    ['a layer that is a text', { ...image, layers: [layer] }, /layers has a descriptor without a/],
    ['a layer that is null', { ...image, layers: [null] }, /layers has a descriptor without a/],
    ['a layer without a digest', { ...image, layers: [{}] }, /layers has a descriptor without a/],
    ['a bad layer behind good ones', { ...image, layers: [...image.layers, { digest: 'md5:0' }] }, /layers/],
    ['a bad entry of an index', { ...image, manifests: [{ digest: layer }, { digest: 7 }] }, /manifests/],
    ['a digest in capitals', { ...image, layers: [{ digest: layer?.toUpperCase() }] }, /layers/],
    ['a digest that is a list of one', { ...image, layers: [{ digest: [layer] }] }, /layers/],
    ['a digest that says it is a text', { ...image, layers: [{ digest: { toString: layer } }] }, /layers/],
    ['a config that is a text', { ...image, config }, /config has a descriptor without a/],
    ['a config without a digest', { ...image, config: { mediaType: 'a/b' } }, /config/],
    ['a config that is a list', { ...image, config: [] }, /config/],
    ['a config of 0', { ...image, config: 0 }, /config/],
    ['a config of no text', { ...image, config: '' }, /config/],
    ['a config that is false', { ...image, config: false }, /config/],
    ['a subject that is a digest', { ...image, subject }, /subject has a descriptor without a/],
    ['a subject of another algorithm', { ...image, subject: { digest: 'md5:00' } }, /subject/],
    ['a subject that is false', { ...image, subject: false }, /subject/],
    ['annotations that are a text', { ...image, annotations: 'a' }, /annotations/],
    ['annotations that are a number', { ...image, annotations: 7 }, /annotations/],
    ['annotations that are a list', { ...image, annotations: ['a'] }, /annotations/],
    ['an annotation that is a number', { ...image, annotations: { a: 'b', c: 7 } }, /annotations/],
    ['an annotation that is null', { ...image, annotations: { a: null } }, /annotations/],
    ['an annotation of an object', '{"schemaVersion":2,"layers":[],"annotations":{"__proto__":{}}}', /annotations/],
  ];
  for (const [what, json, said] of rejected) {
    test(`rejects ${what}`, () => assert.throws(() => parts(json), isInvalid(said)));
  }

  test('rejects bytes that are not UTF-8, wherever they are', () => {
    const bytes = Buffer.from(JSON.stringify({ ...image, annotations: { title: 'x' } }));
    bytes[bytes.lastIndexOf('x')] = 0xff;
    assert.throws(() => readPushed(bytes, MANIFEST), isInvalid(/not a manifest of a known type/));
  });

  test('tells the sizes that are numbers of bytes', () => {
    for (const size of ['5', -1, 1.5, null, undefined, 2 ** 53, {}]) {
      const json = { ...image, layers: [{ ...image.layers[0], size }] };
      assert.deepEqual(parts(json).sizes, { [config]: 6 }, String(size));
    }
  });

  test('minds texts alone as types: what is none is not there', () => {
    for (const wrong of [7, true, null, [], {}, ['a/b'], '']) {
      const json = { ...image, artifactType: wrong, config: { ...image.config, mediaType: wrong } };
      assert.deepEqual(parts(json), {
        mediaType: MANIFEST,
        ...nothing,
        config: { mediaType: undefined, digest: config },
        blobs: [config, layer],
        sizes: { [config]: 6, [layer]: 5 },
      });
    }
  });

  test('takes names of Object.prototype for annotations, and changes no prototype', () => {
    const names = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf'];
    const annotations = `{${names.map(name => `"${name}":"${name}"`).join()}}`;
    const json = JSON.stringify(image).replace(/}$/, `,"annotations":${annotations}}`);
    const found = parts(json).annotations ?? assert.fail();
    assert.deepEqual(
      Object.entries(found),
      names.map(name => [name, name]),
    );
    assert.equal(JSON.stringify(found), annotations);
    for (const field of ['subject', 'config', 'layers']) {
      const hostile = JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, __key: { digest: config } });
      assert.deepEqual(parts(hostile.replace('__key', '__proto__')), { mediaType: MANIFEST, ...nothing }, field);
    }
    assert.equal(({} as { digest?: unknown }).digest, undefined);
  });

  test('is not brought down by nesting, at any place', () => {
    for (const [open, close] of [
      ['[', ']'],
      ['{"a":', '}'],
    ] as const) {
      const deep = `${open.repeat(100_000)}0${close.repeat(100_000)}`;
      const start = `{"schemaVersion":2,"mediaType":"${MANIFEST}"`;
      for (const field of ['annotations', 'config', 'subject', 'layers', 'manifests', 'artifactType', 'other']) {
        assert.throws(() => parts(`${start},"${field}":${deep}}`), isInvalid(/nested more than 64 levels/));
        assert.throws(() => parts(`${start},"${field}":[${deep}]}`), isInvalid(/nested more than 64 levels/));
      }
    }
  });

  test('is not parsed with more members than any manifest has', () => {
    const bomb = `{"schemaVersion":2,"mediaType":"${MANIFEST}","layers":[${'{},'.repeat(1_000_000)}{}]}`;
    assert.throws(() => parts(bomb), isInvalid(/more than 200000 members/));
  });

  test('gives parts of the right kind or MANIFEST_INVALID, whatever the manifest', () => {
    const anything = fc.jsonValue({ maxDepth: 3 });
    const digests = fc.constantFrom(config, layer, subject);
    const descriptor = fc.oneof(
      {
        weight: 5,
        arbitrary: fc.record({ digest: digests, mediaType: anything }, { requiredKeys: ['digest'] }),
      },
      { weight: 1, arbitrary: anything },
    );
    const orAnything = <T>(arbitrary: fc.Arbitrary<T>) =>
      fc.oneof({ weight: 5, arbitrary }, { weight: 1, arbitrary: anything });
    const fields = fc.record(
      {
        mediaType: orAnything(fc.constantFrom(...MANIFEST_TYPES)),
        subject: descriptor,
        config: descriptor,
        layers: orAnything(fc.array(descriptor)),
        manifests: orAnything(fc.array(descriptor)),
        artifactType: orAnything(fc.string()),
        annotations: orAnything(fc.dictionary(fc.string(), fc.string())),
      },
      { requiredKeys: [] },
    );
    let taken = 0;
    fc.assert(
      fc.property(fields, orAnything(fc.constant(2)), (json, schemaVersion) => {
        const bytes = Buffer.from(JSON.stringify({ schemaVersion, ...json }));
        let found: ReturnType<typeof readPushed>;
        try {
          found = readPushed(bytes, undefined);
        } catch (error) {
          assert.ok(error instanceof RegistryError, String(error));
          assert.equal(error.code, 'MANIFEST_INVALID');
          return;
        }
        taken++;
        assert.equal(found.mediaType, inspectManifest(bytes, undefined).mediaType);
        for (const digest of [found.subject, found.config?.digest]) {
          if (digest !== undefined) assert.equal(parseDigest(digest), digest);
        }
        for (const text of [found.artifactType, found.config?.mediaType]) {
          assert.ok(text === undefined || (typeof text === 'string' && text !== ''));
        }
        const { annotations } = found;
        assert.ok(annotations === undefined || Object.values(annotations).every(text => typeof text === 'string'));
        assert.ok(!Array.isArray(annotations));
      }),
      { numRuns: 1000 },
    );
    assert.ok(taken > 100, `${taken} of 1000 were taken`);
  });

  test('gives MANIFEST_INVALID, and nothing worse, for bytes of any kind', () => {
    fc.assert(
      fc.property(
        fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from)),
        fc.option(fc.string(), { nil: undefined }),
        (bytes, type) => {
          assert.throws(() => readPushed(bytes, type), isInvalid(/./));
        },
      ),
    );
  });
});

describe('partsOf', () => {
  const [a, b, c, d] = ['a', 'b', 'c', 'd'].map(text => digestOf(Buffer.from(text)));
  const sha512 = digestOf(Buffer.from('a'), 'sha512');
  const of = (json: unknown) => partsOf(Buffer.from(JSON.stringify(json)));

  test('are config, layers, blobs and manifests, each once, and not the subject', () => {
    const json = {
      config: { digest: a },
      layers: [{ digest: b }, { digest: a }, { digest: sha512 }, { digest: b }],
      blobs: [{ digest: c }],
      manifests: [{ digest: d }, { digest: c }],
      subject: { digest: digestOf(Buffer.from('subject')) },
    };
    assert.deepEqual(of(json), [a, b, sha512, c, d]);
  });

  test('leave out what cannot be read, and keep the rest', () => {
    const wrong = [
      null,
      7,
      'text',
      [],
      [{ digest: b }],
      {},
      { digest: null },
      { digest: 'sha256:ab' },
      { digest: [a] },
    ];
    for (const each of wrong) {
      assert.deepEqual(of({ layers: [each, { digest: a }, each] }), [a]);
      if (!Array.isArray(each)) assert.deepEqual(of({ config: each, layers: [{ digest: a }] }), [a]);
      assert.deepEqual(of({ config: { digest: a }, layers: each, blobs: each, manifests: each }).slice(0, 1), [a]);
    }
  });

  test('are none of what is no manifest', () => {
    for (const bytes of ['', '<html>', 'null', '7', '"text"', '[]', '[{"config":1}]', '{}', '{"layers":', '\uFFFF'])
      assert.deepEqual(partsOf(Buffer.from(bytes)), []);
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array(), fc.json().map(Buffer.from)), bytes => {
        for (const digest of partsOf(bytes)) assert.equal(parseDigest(digest), digest);
      }),
    );
  });

  test('are those of a pushed manifest, wherever it may be pushed', () => {
    const image = { schemaVersion: 2, config: { digest: a }, layers: [{ digest: b }] };
    const { blobs } = readPushed(Buffer.from(JSON.stringify(image)), undefined);
    assert.deepEqual(of(image), blobs);
  });
});
