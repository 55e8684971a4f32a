import assert from 'node:assert/strict';
import { test } from 'node:test';
import { profileOf } from './profile.ts';

test('the blob hosts of ghcr.io are known, and of a stand-in for it they are not', () => {
  const api = new URL('https://api.github.com');
  assert.deepEqual(profileOf('ghcr.io', new URL('https://ghcr.io'), api).blobHosts, ['*.githubusercontent.com']);
  assert.equal(profileOf('ghcr.io', new URL('http://127.0.0.1:8080'), api).blobHosts, undefined);
  assert.equal(profileOf('quay.io', new URL('https://quay.io'), undefined).blobHosts, undefined);
});

test('Docker Hub alone counts GETs of manifests', () => {
  const counts = (name: string, url: string) =>
    profileOf(name, new URL(url), undefined).capabilities.countsManifestGets;
  assert.equal(counts('docker.io', 'https://registry-1.docker.io'), true);
  assert.equal(counts('ghcr.io', 'https://ghcr.io'), false);
  assert.equal(counts('quay.io', 'https://quay.io'), false);
});
