// The process that all tests run in cannot reach anything but loopback.
import assert from 'node:assert/strict';
import dns from 'node:dns';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { test } from 'node:test';
import tls from 'node:tls';
import { startGhcr } from './ghcr/ghcr.ts';

const blocked = (error: Error) => {
  assert.match(`${error.message} ${error.cause}`, /loopback-only: tests may not/);
  return true;
};

test('connections to elsewhere fail at once', async () => {
  assert.throws(() => net.connect(80, '192.0.2.1'), blocked);
  assert.throws(() => net.connect({ port: 80, host: '::ffff:192.0.2.1' }), blocked);
  assert.throws(() => tls.connect({ port: 443, host: '2001:db8::1' }), blocked);
  assert.throws(() => http.get('http://example.com/'), blocked);
  assert.throws(() => https.get('https://example.com/'), blocked);
  await assert.rejects(fetch('https://example.com/'), blocked);
});

test('names other than localhost are not looked up', async () => {
  await assert.rejects(dns.promises.lookup('example.com'), blocked);
  await assert.rejects(new dns.promises.Resolver().resolve4('example.com'), blocked);
  const error = await new Promise<Error | null>(resolve => dns.lookup('example.com', resolve));
  assert.ok(error && blocked(error));
  assert.ok((await dns.promises.lookup('localhost')).address);
});

test('loopback and Unix sockets are allowed', async () => {
  await using ghcr = await startGhcr({ switches: { auth: 'none' } });
  assert.equal((await fetch(`${ghcr.url}/v2/`)).status, 200);
  assert.equal((await fetch(`${ghcr.url.replace('127.0.0.1', 'localhost')}/v2/`)).status, 200);
  const socket = net.connect('/nonexistent/socket');
  const [error] = await once(socket, 'error');
  assert.equal(error.code, 'ENOENT');
});
