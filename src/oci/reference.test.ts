import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseDigest } from './digest.ts';
import { imageName, isName, isTag, ownerOf, parseImage, parseReference } from './reference.ts';

const DIGEST = parseDigest(`sha256:${'0'.repeat(64)}`) ?? assert.fail();

const characters = (text: string) => fc.constantFrom(...text);
const alphanumerics = fc.string({
  unit: characters('abcxyz0189'),
  minLength: 1,
  maxLength: 5,
});
const separators = fc.constantFrom('.', '_', '__', '-', '--', '-----');
/** `<name>` of the distribution spec, spelled out by its grammar rather than by a pattern. */
const components = fc
  .tuple(alphanumerics, fc.array(fc.tuple(separators, alphanumerics), { maxLength: 3 }))
  .map(([first, rest]) => first + rest.flat().join(''));
const names = fc
  .array(components, { minLength: 1, maxLength: 5 })
  .map(parts => parts.join('/'))
  .filter(name => name.length <= 255);

/** The grammar once more, read character by character. */
function isNameByHand(name: string): boolean {
  return name.split('/').every(component => {
    const words = component.split(/[._-]/);
    const marks = component
      .replace(/[a-z0-9]+/g, ' ')
      .trim()
      .split(/ +/)
      .filter(Boolean);
    return (
      !/[^a-z0-9._-]/.test(component) &&
      words.at(0) !== '' &&
      words.at(-1) !== '' &&
      marks.every(mark => mark === '.' || mark === '_' || mark === '__' || /^-+$/.test(mark))
    );
  });
}

describe('isName', () => {
  test('takes every name that the grammar makes', () => {
    fc.assert(fc.property(names, name => isName(name)));
  });

  test('judges texts of the letters that names are made of as the grammar does', () => {
    const texts = fc.string({ unit: characters('ab0._-/A '), maxLength: 12 });
    fc.assert(
      fc.property(texts, text => assert.equal(isName(text), isNameByHand(text))),
      { numRuns: 2000 },
    );
  });

  test('rejects every name with a character in it that no name may have', () => {
    const strangers = fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }).filter(c => !/[a-z0-9._/-]/.test(c));
    fc.assert(
      fc.property(names, strangers, fc.nat(), (name, stranger, n) => {
        const at = n % (name.length + 1);
        return !isName(name.slice(0, at) + stranger + name.slice(at));
      }),
    );
  });

  const rejected = {
    nothing: '',
    'a slash alone': '/',
    'a slash first': '/a',
    'a slash last': 'a/',
    'two slashes': 'a//b',
    'a directory up': 'a/../b',
    'this directory': 'a/./b',
    'three underscores': 'a___b',
    'two dots': 'a..b',
    'a mixed separator': 'a.-b',
    'a separator first': '-a',
    'a separator last': 'a-',
    'an upper-case letter': 'Owner/image',
    'a line end behind it': 'a\n',
    'a colon': 'a:b',
    'a NUL': 'a\0b',
    'an encoded slash': 'a%2fb',
    'a letter that looks like one': 'оwner/image',
  };
  for (const [what, name] of Object.entries(rejected)) {
    test(`rejects ${what}`, () => assert.equal(isName(name), false));
  }

  test('takes 255 characters and no more', () => {
    assert.equal(isName('a'.repeat(255)), true);
    assert.equal(isName(`${'a/'.repeat(127)}a`), true);
    assert.equal(isName('a'.repeat(256)), false);
    assert.equal(isName(`${'a/'.repeat(128)}a`), false);
  });
});

describe('isTag', () => {
  const firsts = characters('abzABZ019_');
  const others = fc.string({ unit: characters('abzABZ019_.-'), maxLength: 127 });

  test('takes every tag that the grammar makes, up to 128 characters', () => {
    fc.assert(fc.property(firsts, others, (first, rest) => isTag(first + rest)));
    assert.equal(isTag('a'.repeat(128)), true);
    assert.equal(isTag('a'.repeat(129)), false);
  });

  for (const text of ['', '.a', '-a', 'a/b', 'a:b', 'a b', 'a\n', '\na', 'a%', 'ä', 'a@b', '../../x']) {
    test(`rejects ${JSON.stringify(text)}`, () => assert.equal(isTag(text), false));
  }
});

describe('parseReference', () => {
  test('reads a digest as a digest and a tag as a tag', () => {
    assert.deepEqual(parseReference(DIGEST), { digest: DIGEST });
    assert.deepEqual(parseReference('v1.2_x-3'), { tag: 'v1.2_x-3' });
    assert.deepEqual(parseReference('sha256'), { tag: 'sha256' });
    // The fallback tag of referrers.
    assert.deepEqual(parseReference(`sha256-${'0'.repeat(64)}`), { tag: `sha256-${'0'.repeat(64)}` });
  });

  for (const text of ['', ':', 'a:b', 'sha256:', `${DIGEST}0`, `@${DIGEST}`, `md5:${'0'.repeat(32)}`, 'a b']) {
    test(`rejects ${JSON.stringify(text)}`, () => assert.equal(parseReference(text), undefined));
  }
});

describe('a repository in words', () => {
  const repository = { upstream: 'ghcr.io', name: 'owner/team/image' };

  test('an image is written as people write it', () => {
    assert.equal(imageName(repository), 'ghcr.io/owner/team/image');
    assert.equal(imageName(repository, { tag: 'v1' }), 'ghcr.io/owner/team/image:v1');
    assert.equal(imageName(repository, { digest: DIGEST }), `ghcr.io/owner/team/image@${DIGEST}`);
  });

  test('its owner is the first component of the name', () => {
    assert.equal(ownerOf(repository), 'owner');
    assert.equal(ownerOf({ upstream: 'ghcr.io', name: 'alone' }), 'alone');
  });
});

test('long and nasty texts are judged in time that grows no faster than they do', () => {
  // Each ends in what makes a pattern go back over all that it took.
  const nasty = [
    (n: number) => `${'a'.repeat(n)}!`,
    (n: number) => `${'a-'.repeat(n / 2)}!`,
    (n: number) => `a${'-'.repeat(n)}!`,
    (n: number) => `${'a__'.repeat(n / 3)}_`,
    (n: number) => `${'a/'.repeat(n / 2)}/`,
    (n: number) => `sha256:${'a'.repeat(n)}`,
  ];
  const started = performance.now();
  for (const make of nasty) {
    // As long as the limit lets through, then as long as anything that ever comes by.
    for (const length of [250, 1_000_000]) {
      const text = make(length);
      assert.equal(isName(text) || isTag(text) || parseReference(text) !== undefined, false);
    }
  }
  // Quadratic time would be minutes, exponential time forever.
  assert.ok(performance.now() - started < 10_000);
});

describe('an image as a person writes it', () => {
  const upstreams = {
    has: (host: string) => ['ghcr.io', 'registry:5000'].includes(host),
    default: 'ghcr.io',
  };
  const digest = `sha256:${'0'.repeat(64)}`;
  const cases: [text: string, upstream: string, name: string, reference: string][] = [
    ['acme/app', 'ghcr.io', 'acme/app', 'latest'],
    ['acme/app:v1', 'ghcr.io', 'acme/app', 'v1'],
    ['ghcr.io/acme/app:v1', 'ghcr.io', 'acme/app', 'v1'],
    ['registry:5000/acme/app', 'registry:5000', 'acme/app', 'latest'],
    ['registry:5000/acme/app:v1', 'registry:5000', 'acme/app', 'v1'],
    [`acme/app@${digest}`, 'ghcr.io', 'acme/app', digest],
    [`registry:5000/acme/app:v1@${digest}`, 'registry:5000', 'acme/app', digest],
  ];
  for (const [text, upstream, name, expected] of cases) {
    test(text, () => {
      const { repository, reference } = parseImage(text, upstreams) ?? assert.fail();
      assert.deepEqual(repository, { upstream, name });
      assert.equal(reference.tag ?? reference.digest, expected);
    });
  }

  for (const text of ['', 'Acme/app', 'acme/app:', 'acme/app@sha256:0', 'acme/app:a:b', 'acme//app', ':v1']) {
    test(`is not ${JSON.stringify(text)}`, () => assert.equal(parseImage(text, upstreams), undefined));
  }
});
