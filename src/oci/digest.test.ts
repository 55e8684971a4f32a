import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { ALGORITHMS, algorithmOf, DigestHasher, digestOf, hexOf, parseDigest } from './digest.ts';

const HEX_LENGTH = { sha256: 64, sha512: 128 } as const;
const HEX = '0123456789abcdef';

const algorithms = fc.constantFrom(...ALGORITHMS);
const digests = algorithms.chain(algorithm =>
  fc
    .string({
      unit: fc.constantFrom(...HEX),
      minLength: HEX_LENGTH[algorithm],
      maxLength: HEX_LENGTH[algorithm],
    })
    .map(hex => `${algorithm}:${hex}`),
);

describe('parseDigest', () => {
  test('takes every well-formed digest as it is, and its parts spell it again', () => {
    fc.assert(
      fc.property(digests, text => {
        const digest = parseDigest(text) ?? assert.fail(text);
        assert.equal(digest, text);
        assert.equal(`${algorithmOf(digest)}:${hexOf(digest)}`, text);
      }),
    );
  });

  test('rejects every neighbour of a digest: one character replaced by one that is no hex, put in, or left out', () => {
    const strangers = fc.string({ unit: 'binary', minLength: 1, maxLength: 2 }).filter(c => !HEX.includes(c));
    fc.assert(
      fc.property(digests, fc.nat(), strangers, fc.constantFrom(...HEX), (text, n, stranger, hex) => {
        const at = n % text.length;
        const after = 7 + (n % (text.length - 6));
        assert.equal(parseDigest(text.slice(0, at) + text.slice(at + 1)), undefined);
        assert.equal(parseDigest(text.slice(0, after) + hex + text.slice(after)), undefined);
        assert.equal(parseDigest(text.slice(0, at) + stranger + text.slice(at)), undefined);
        // A letter of the algorithm may be replaced by itself.
        const replaced = text.slice(0, at) + stranger + text.slice(at + 1);
        if (replaced !== text) assert.equal(parseDigest(replaced), undefined);
      }),
    );
  });

  test('takes no character beside the hex ones, at either end or between', () => {
    for (const c of '/:@G`gAF') {
      for (const at of [7, 40, 70]) {
        const text = `sha256:${'0'.repeat(64)}`;
        assert.equal(parseDigest(text.slice(0, at) + c + text.slice(at + 1)), undefined, `${c} at ${at}`);
      }
    }
  });

  const hex = 'a'.repeat(64);
  const rejected: Record<string, string> = {
    nothing: '',
    'an algorithm alone': 'sha256',
    'no hex': 'sha256:',
    'hex without an algorithm': hex,
    'an upper-case letter': `sha256:${'A'.repeat(64)}`,
    'an upper-case algorithm': `SHA256:${hex}`,
    'another separator': `sha256-${hex}`,
    'the length of the other algorithm': `sha512:${hex}`,
    'more than its length': `sha256:${'a'.repeat(128)}`,
    'an algorithm that is not registered': `sha384:${'a'.repeat(96)}`,
    'an algorithm that is broken': `md5:${'a'.repeat(32)}`,
    'a name of Object.prototype': `__proto__:${hex}`,
    'space around it': ` sha256:${hex}`,
    'a line end behind it': `sha256:${hex}\n`,
    'a NUL in it': `sha256:${'a'.repeat(63)}\0`,
    'digits of another script': `sha256:${'٣'.repeat(64)}`,
    'a way out of the directory': `sha256:${'../'.repeat(21)}a`,
  };
  for (const [what, text] of Object.entries(rejected)) {
    test(`rejects ${what}`, () => assert.equal(parseDigest(text), undefined));
  }
});

describe('hashing', () => {
  test('gives the digests that the specification names for known bytes', () => {
    assert.equal(digestOf(Buffer.from('')), 'sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
    assert.equal(
      digestOf(Buffer.from('abc')),
      'sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad',
    );
    assert.equal(digestOf(Buffer.from('abc'), 'sha512'), `sha512:${createHash('sha512').update('abc').digest('hex')}`);
  });

  test('gives a digest that parses, the same whatever pieces the bytes come in', () => {
    fc.assert(
      fc.property(algorithms, fc.array(fc.uint8Array({ maxLength: 50 })), (algorithm, pieces) => {
        const hasher = new DigestHasher(algorithm);
        for (const piece of pieces) hasher.update(piece);
        const digest = hasher.digest();
        assert.equal(digest, digestOf(Buffer.concat(pieces), algorithm));
        assert.equal(parseDigest(digest), digest);
        assert.equal(algorithmOf(digest), algorithm);
      }),
    );
  });
});
