// One connection serves one request after another, also those that are answered at once.
import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';

test('a connection stays open after each response without a body in the request, whatever the answer', async t => {
  const { cache } = await startBoth(t);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  t.after(() => agent.destroy());
  const ports = new Set<number | undefined>();
  for (const path of ['/healthz', '/v2/', '/nothing', '/v2/nothing', '/v2/owner/app/manifests/missing', '/readyz']) {
    await new Promise<void>((resolve, reject) => {
      const request = http.get(cache.url + path, { agent }, response => {
        assert.notEqual(response.headers.connection, 'close', path);
        ports.add(response.socket.localPort);
        response.resume().on('end', resolve);
      });
      request.on('error', reject);
    });
  }
  assert.equal(ports.size, 1);
});
