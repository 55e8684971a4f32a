import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { parseDigest } from '../../oci/digest.ts';
import { RegistryError } from '../../oci/errors.ts';
import { isName } from '../../oci/reference.ts';
import { parseRequest, type Resource } from './request.ts';

const UPSTREAMS = {
  has: (host: string) => ['ghcr.io', 'quay.io', 'localhost:5001'].includes(host),
  default: 'ghcr.io',
};
const DIGEST = parseDigest(`sha256:${'0'.repeat(64)}`) ?? assert.fail();
const DIGEST_512 = parseDigest(`sha512:${'f'.repeat(128)}`) ?? assert.fail();

const parse = (target: string) => parseRequest(target, UPSTREAMS);
const codeOf = (target: string): string => {
  try {
    parse(target);
    return 'none';
  } catch (error) {
    if (error instanceof RegistryError) return error.code;
    throw error;
  }
};

describe('parseRequest', () => {
  const repository = { upstream: 'ghcr.io', name: 'owner/app' };
  const quay = { upstream: 'quay.io', name: 'owner/app' };
  const named = (name: string) => ({ upstream: 'ghcr.io', name });
  const found: [target: string, resource: Resource][] = [
    ['/v2', { kind: 'base' }],
    ['/v2/', { kind: 'base' }],
    ['/v2/?ns=quay.io', { kind: 'base' }],
    ['/v2/_catalog', { kind: 'catalog' }],
    ['/v2/_catalog?n=5', { kind: 'catalog' }],
    ['/v2/owner/app/manifests/latest', { kind: 'manifest', repository, reference: { tag: 'latest' } }],
    [`/v2/owner/app/manifests/${DIGEST}`, { kind: 'manifest', repository, reference: { digest: DIGEST } }],
    [`/v2/owner/app/manifests/${DIGEST_512}`, { kind: 'manifest', repository, reference: { digest: DIGEST_512 } }],
    [`/v2/owner/app/blobs/${DIGEST}`, { kind: 'blob', repository, digest: DIGEST }],
    ['/v2/owner/app/tags/list', { kind: 'tags', repository }],
    ['/v2/owner/app/tags/list?n=1&last=v1', { kind: 'tags', repository }],
    [`/v2/owner/app/referrers/${DIGEST}`, { kind: 'referrers', repository, digest: DIGEST }],
    ['/v2/owner/app/blobs/uploads', { kind: 'uploads', repository }],
    ['/v2/owner/app/blobs/uploads/', { kind: 'uploads', repository }],
    [`/v2/owner/app/blobs/uploads/?mount=${DIGEST}&from=a/b`, { kind: 'uploads', repository }],
    ['/v2/owner/app/blobs/uploads/some-id', { kind: 'upload', repository, id: 'some-id' }],
    ['/v2/owner/app/blobs/uploads/uploads', { kind: 'upload', repository, id: 'uploads' }],
    // A colon may be encoded, as anything may.
    [`/v2/owner/app/blobs/${encodeURIComponent(DIGEST)}`, { kind: 'blob', repository, digest: DIGEST }],
    [
      `/v2/owner/app/manifests/${DIGEST.replace(':', '%3a')}`,
      { kind: 'manifest', repository, reference: { digest: DIGEST } },
    ],
    ['/v2/%6fwner/app/manifests/v1', { kind: 'manifest', repository, reference: { tag: 'v1' } }],
    // Names of any depth, and with the words of endpoints in them.
    ['/v2/app/manifests/v1', { kind: 'manifest', repository: named('app'), reference: { tag: 'v1' } }],
    ['/v2/a/b/c/d/e/tags/list', { kind: 'tags', repository: named('a/b/c/d/e') }],
    [`/v2/manifests/blobs/blobs/${DIGEST}`, { kind: 'blob', repository: named('manifests/blobs'), digest: DIGEST }],
    [
      '/v2/a/blobs/uploads/manifests/v1',
      { kind: 'manifest', repository: named('a/blobs/uploads'), reference: { tag: 'v1' } },
    ],
    ['/v2/tags/list/tags/list', { kind: 'tags', repository: named('tags/list') }],
    ['/v2/a/manifests/list', { kind: 'manifest', repository: named('a'), reference: { tag: 'list' } }],
    ['/v2/a/manifests/uploads', { kind: 'manifest', repository: named('a'), reference: { tag: 'uploads' } }],
    ['/v2/a/blobs/uploads/blobs/uploads/x', { kind: 'upload', repository: named('a/blobs/uploads'), id: 'x' }],
    // The upstream: ns, else a configured host in front, else the default.
    ['/v2/owner/app/tags/list?ns=quay.io', { kind: 'tags', repository: quay }],
    ['/v2/owner/app/tags/list?n=1&ns=quay.io', { kind: 'tags', repository: quay }],
    ['/v2/quay.io/owner/app/tags/list', { kind: 'tags', repository: quay }],
    ['/v2/localhost:5001/app/tags/list', { kind: 'tags', repository: { upstream: 'localhost:5001', name: 'app' } }],
    ['/v2/localhost%3A5001/app/tags/list', { kind: 'tags', repository: { upstream: 'localhost:5001', name: 'app' } }],
    ['/v2/quay.io/owner/app/tags/list?ns=quay.io', { kind: 'tags', repository: quay }],
    ['/v2/quay.io/tags/list?ns=quay.io', { kind: 'tags', repository: { upstream: 'quay.io', name: 'quay.io' } }],
    ['/v2/quay.io/owner/app/tags/list?ns=ghcr.io', { kind: 'tags', repository: named('quay.io/owner/app') }],
    ['/v2/docker.io/owner/app/tags/list', { kind: 'tags', repository: named('docker.io/owner/app') }],
    ['/v2/quay.io/tags/list', { kind: 'tags', repository: named('quay.io') }],
    ['/v2/ghcr.io/quay.io/app/tags/list', { kind: 'tags', repository: named('quay.io/app') }],
  ];
  for (const [target, resource] of found) {
    test(`finds ${resource.kind} in ${target.slice(0, 70)}`, () => assert.deepEqual(parse(target).resource, resource));
  }

  const unknown: [target: string, host: string | undefined, atGitHub: string | undefined][] = [
    ['/v2/docker.io/owner/app/tags/list', undefined, 'docker.io'],
    ['/v2/docker.io/app/manifests/v1', undefined, 'docker.io'],
    ['/v2/registry.k8s.io/pause/blobs/uploads/', undefined, 'registry.k8s.io'],
    ['/v2/registry:5000/app/tags/list', 'registry:5000', 'registry:5000'],
    ['/v2/localhost%3A5002/owner/app/tags/list', 'localhost:5002', 'localhost:5002'],
    ['/v2/docker.io/tags/list', undefined, undefined],
    ['/v2/localhost/app/tags/list', undefined, undefined],
    ['/v2/owner/docker.io/tags/list', undefined, undefined],
    ['/v2/docker.io/owner/app/tags/list?ns=quay.io', undefined, undefined],
    ['/v2/quay.io/docker.io/app/tags/list', undefined, undefined],
  ];
  for (const [target, ...hosts] of unknown) {
    for (const [n, host] of hosts.entries()) {
      const ownersWithoutDots = n === 1;
      test(`takes ${target} ${ownersWithoutDots ? 'at GitHub' : ''} for ${host ?? 'a repository'}`, () => {
        const parsed = () => parseRequest(target, { ...UPSTREAMS, ownersWithoutDots });
        if (host === undefined) return void parsed();
        const message = `${host} is no upstream here: add it under upstreams`;
        assert.throws(parsed, { code: 'NAME_UNKNOWN', message });
      });
    }
  }

  const rejected: [target: string, code: string][] = [
    ['/v2/owner/app', 'NAME_UNKNOWN'],
    ['/v2/owner', 'NAME_UNKNOWN'],
    ['/v2//', 'NAME_UNKNOWN'],
    ['/v2/_catalog/', 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags', 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags/other', 'NAME_UNKNOWN'],
    ['/v2/owner/app/manifest/latest', 'NAME_UNKNOWN'],
    ['/v2/owner/app/blobs/uploads/a/b', 'NAME_UNKNOWN'],
    [`/v2/owner/app/blobs/${DIGEST}/`, 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags/list?ns=docker.io', 'NAME_UNKNOWN'],
    ['/v2/?ns=docker.io', 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags/list?ns=', 'NAME_UNKNOWN'],
    ['/v2/owner/app/tags/list?ns=169.254.169.254', 'NAME_UNKNOWN'],
    ['/v2/owner/app/manifests/', 'TAG_INVALID'],
    ['/v2/owner/app/manifests/.hidden', 'TAG_INVALID'],
    [`/v2/owner/app/manifests/${'t'.repeat(129)}`, 'TAG_INVALID'],
    ['/v2/owner/app/manifests/a%00b', 'TAG_INVALID'],
    ['/v2/owner/app/manifests/a%0d%0ab', 'TAG_INVALID'],
    ['/v2/owner/app/manifests/sha256:abc', 'DIGEST_INVALID'],
    [`/v2/owner/app/manifests/${DIGEST.toUpperCase()}`, 'DIGEST_INVALID'],
    ['/v2/owner/app/manifests/a:b', 'DIGEST_INVALID'],
    ['/v2/owner/app/blobs/', 'DIGEST_INVALID'],
    ['/v2/owner/app/blobs/latest', 'DIGEST_INVALID'],
    [`/v2/owner/app/blobs/${DIGEST}0`, 'DIGEST_INVALID'],
    [`/v2/owner/app/blobs/md5:${'0'.repeat(32)}`, 'DIGEST_INVALID'],
    ['/v2/owner/app/referrers/latest', 'DIGEST_INVALID'],
    ['/v2/tags/list', 'NAME_INVALID'],
    [`/v2/blobs/${DIGEST}`, 'NAME_INVALID'],
    ['/v2/blobs/uploads/', 'NAME_INVALID'],
    ['/v2//app/tags/list', 'NAME_INVALID'],
    ['/v2/owner//tags/list', 'NAME_INVALID'],
    ['/v2/Owner/app/tags/list', 'NAME_INVALID'],
    ['/v2/../../etc/tags/list', 'NAME_INVALID'],
    ['/v2/owner/%2e%2e/tags/list', 'NAME_INVALID'],
    ['/v2/owner/app%00/tags/list', 'NAME_INVALID'],
    ['/v2/owner/app%0a/tags/list', 'NAME_INVALID'],
    ['/v2/owner/app%20/tags/list', 'NAME_INVALID'],
    ['/v2/owner/app%3fns=quay.io/tags/list', 'NAME_INVALID'],
    ['/v2/owner/%ff/tags/list', 'NAME_INVALID'],
    ['/v2/owner/%/tags/list', 'NAME_INVALID'],
    ['/v2/owner/%zz/tags/list', 'NAME_INVALID'],
    ['/v2/docker.io:443/app/tags/list', 'NAME_UNKNOWN'],
    ['/v2/user:password@quay.io/app/tags/list', 'NAME_INVALID'],
    [`/v2/${'a'.repeat(256)}/tags/list`, 'NAME_INVALID'],
    [`/v2/${'a/'.repeat(2000)}tags/list?${'x'.repeat(200)}`, 'NAME_INVALID'],
    [`/v2/owner/app/tags/list?last=${'x'.repeat(5000)}`, 'NAME_INVALID'],
  ];
  for (const [target, code] of rejected) {
    test(`answers ${code} to ${target.slice(0, 60)}`, () => assert.equal(codeOf(target), code));
  }

  test('accepts the longest name and tag', () => {
    const name = `quay.io/${'a'.repeat(255)}`;
    const { resource } = parse(`/v2/${name}/manifests/${'t'.repeat(128)}?ns=ghcr.io`.replace('?ns=ghcr.io', ''));
    assert.ok(resource.kind === 'manifest');
    assert.deepEqual(resource.repository, { upstream: 'quay.io', name: 'a'.repeat(255) });
    assert.equal(resource.reference.tag?.length, 128);
  });

  test('returns the query, and the namespace that the response has to name', () => {
    const { namespace, query } = parse('/v2/owner/app/tags/list?n=2&ns=quay.io&last=a%2Bb');
    assert.equal(namespace, 'quay.io');
    assert.equal(query.get('n'), '2');
    assert.equal(query.get('last'), 'a+b');
    assert.equal(parse('/v2/quay.io/owner/app/tags/list').namespace, undefined);
  });

  test('shows what it rejects, shortened and printable', () => {
    for (const target of [
      `/v2/A${'b'.repeat(3000)}/tags/list`,
      `/v2/a/manifests/${'-'.repeat(3000)}`,
      `/v2/a/blobs/${'x'.repeat(3000)}`,
      `/v2/?ns=${'x'.repeat(3000)}`,
      '/v2/a/blobs/%00%1b[31m%0a',
    ]) {
      assert.throws(
        () => parse(target),
        (error: Error) => error.message.length < 500 && !/\p{Cc}/u.test(error.message),
        target.slice(0, 50),
      );
    }
  });

  test('returns a valid name of a known upstream, or throws a RegistryError, for any target', () => {
    const pieces = fc.constantFrom(
      ...['/', '/v2', '/v2/', 'owner', 'quay.io', 'manifests', 'blobs', 'uploads', 'tags', 'list', 'referrers', 'v1'],
      ...['..', '%2e', '%2F', '%00', '%', '?', 'ns=', '&', '=', '#', '_catalog', DIGEST, 'é', ':', '@', '\\'],
    );
    fc.assert(
      fc.property(
        fc.array(pieces, { maxLength: 14 }).map(parts => `/v2/${parts.join('')}`),
        target => {
          let resource: Resource;
          try {
            ({ resource } = parse(target));
          } catch (error) {
            return assert.ok(error instanceof RegistryError);
          }
          if (!('repository' in resource)) return;
          assert.ok(isName(resource.repository.name));
          assert.ok(UPSTREAMS.has(resource.repository.upstream));
        },
      ),
      { numRuns: 3000 },
    );
  });
});
