import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isHost, isLoopback, isUpstreamHost } from './host.ts';

test('loopback is this machine and nothing that only looks like it', () => {
  const loopback = ['localhost', 'LOCALHOST', '127.0.0.1', '127.9.9.9', '::1', '[::1]', '::ffff:127.0.0.1'];
  for (const host of loopback) assert.equal(isLoopback(host), true, host);
  const others = ['0.0.0.0', '::', '10.0.0.1', '127.0.0.1.example.com', 'localhost.example.com', '128.0.0.1', ''];
  for (const host of others) assert.equal(isLoopback(host), false, host);
});

test('hosts are told from other text', () => {
  const hosts = [
    'ghcr.io',
    'registry',
    'registry:5000',
    'a-b.example.com',
    'my_registry.lan',
    '10.0.0.1:80',
    '[::1]:5000',
  ];
  for (const host of hosts) assert.equal(isHost(host), true, host);
  const others = ['', 'GHCR.io', 'https://ghcr.io', 'ghcr.io/owner', 'ghcr.io:0', 'ghcr.io:65536', 'ghcr.io:', '-a.io'];
  for (const text of [...others, 'a..io', 'a.io.', 'me@ghcr.io', '::1', '[1]', 'a b', 'a'.repeat(64)]) {
    assert.equal(isHost(text), false, text);
  }
});

test('an upstream cannot hide an owner of the default upstream', () => {
  for (const host of ['ghcr.io', 'registry:5000', 'localhost', '[::1]:5000']) {
    assert.equal(isUpstreamHost(host), true, host);
  }
  for (const host of ['octocat', 'library', 'my_owner']) assert.equal(isUpstreamHost(host), false, host);
});
