import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Address, targetOf } from './address.ts';

const BASE = new URL('https://ghcr.io/v2/owner/app/blobs/x');

describe('the address of a Location', () => {
  const verbatim: [location: string, origin: string, target: string][] = [
    ['https://b.example/a/%2e%2e/b', 'https://b.example', '/a/%2e%2e/b'],
    ['https://b.example/a/../b', 'https://b.example', '/a/../b'],
    ['https://b.example/a?sig=\'x\'&y="z"', 'https://b.example', '/a?sig=\'x\'&y="z"'],
    ['https://b.example/a?', 'https://b.example', '/a?'],
    ['https://b.example/a?x=%7e~%2B+&&=', 'https://b.example', '/a?x=%7e~%2B+&&='],
    ['https://b.example/a?b=c#fragment', 'https://b.example', '/a?b=c'],
    ['https://b.example', 'https://b.example', '/'],
    ['https://b.example?x=1', 'https://b.example', '/?x=1'],
    ['HTTPS://B.example:443/A', 'https://b.example', '/A'],
    ['//b.example/%41', 'https://b.example', '/%41'],
    ['/a/%2E%2E/b?', 'https://ghcr.io', '/a/%2E%2E/b?'],
  ];
  for (const [location, origin, target] of verbatim) {
    test(`${location} goes out as ${target}`, () => {
      const address = Address.of(location, BASE) ?? assert.fail();
      assert.deepEqual([address.origin, targetOf(address)], [origin, target]);
    });
  }

  test('is read as a URL is, where it is relative or cannot go out as it is', () => {
    const cases: [location: string, href: string][] = [
      ['y?sig=1', 'https://ghcr.io/v2/owner/app/blobs/y?sig=1'],
      ['../y', 'https://ghcr.io/v2/owner/app/y'],
      ['?x=1', 'https://ghcr.io/v2/owner/app/blobs/x?x=1'],
      ['https://b.example/a b?é', 'https://b.example/a%20b?%C3%A9'],
      ['https://b.example\\@evil.example/x', 'https://b.example/@evil.example/x'],
      ['/\\evil.example/x', 'https://evil.example/x'],
      ['https:///b.example/x', 'https://b.example/x'],
      ['https:/b.example/x', 'https://ghcr.io/b.example/x'],
      ['///b.example/x', 'https://b.example/x'],
    ];
    for (const [location, href] of cases) {
      const address = Address.of(location, BASE) ?? assert.fail();
      assert.equal(address.origin + targetOf(address), href, location);
      assert.equal(address.href, href, location);
    }
  });

  test('is none where it is no address', () => assert.equal(Address.of('https://[', BASE), undefined));
});

test('a parameter is added behind what is there, which stays as it is', () => {
  const cases: [from: string, target: string][] = [
    ['/upload/1', '/upload/1?digest=sha256%3Aa'],
    ['/upload/1?', '/upload/1?digest=sha256%3Aa'],
    ["/upload/1?_state='a'%2f=&x", "/upload/1?_state='a'%2f=&x&digest=sha256%3Aa"],
    ['/upload/1?digest=old&x=?', '/upload/1?x=?&digest=sha256%3Aa'],
  ];
  for (const [from, target] of cases) {
    const address = Address.of(from, BASE) ?? assert.fail();
    assert.equal(targetOf(Address.with(address, 'digest', 'sha256:a')), target);
    assert.equal(targetOf(address), from);
  }
  const plain = new URL('https://ghcr.io/upload/1?x=1');
  assert.equal(targetOf(Address.with(plain, 'digest', 'sha256:a')), '/upload/1?x=1&digest=sha256%3Aa');
});
