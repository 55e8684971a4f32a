// The rules, against scripted responses; then the whole, against servers on two origins.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { dialerOf } from '../../../test/support/upstream-clients.ts';
import type { DialRequest } from './dialer.ts';
import { dialFollowing, isRedirect } from './redirect.ts';
import { readAll, type UpstreamResponse } from './response.ts';

const AUTHORIZATION = { authorization: 'Bearer secret', range: 'bytes=5-' };

/** Answers `[status, location]` by address; any other address is an error. */
function scripted(script: Record<string, [status: number, location?: string]>) {
  const dialed: DialRequest[] = [];
  const bodies: { isReleased: boolean }[] = [];
  const dial = async (request: DialRequest): Promise<UpstreamResponse> => {
    dialed.push(request);
    const [status, location] = script[request.url.href] ?? assert.fail(`dialed ${request.url.href}`);
    const body = { isReleased: false };
    const release = () => {
      body.isReleased = true;
    };
    bodies.push(body);
    return {
      url: request.url,
      status,
      header: name => (name === 'location' ? location : undefined),
      body: { read: async () => release(), abandon: release },
    };
  };
  const follow = (url: string) => dialFollowing({ dial }, { method: 'GET', url: new URL(url), headers: AUTHORIZATION });
  return { dialed, bodies, follow };
}

describe('following redirects', () => {
  test('a response that is none is returned, untouched', async () => {
    for (const status of [200, 206, 304, 401, 404, 500, 300, 305]) {
      const { follow, dialed, bodies } = scripted({ 'https://a/x': [status, 'https://b/'] });
      assert.equal((await follow('https://a/x')).status, status);
      assert.equal(dialed.length, 1);
      assert.equal(bodies[0]?.isReleased, false);
    }
  });

  for (const status of [301, 302, 303, 307, 308]) {
    test(`a ${status} is followed, with the headers but without our Authorization`, async () => {
      const { follow, dialed, bodies } = scripted({
        'https://a/x': [status, 'https://b/y?sig=1'],
        'https://b/y?sig=1': [200],
      });
      const response = await follow('https://a/x');
      assert.equal(response.url.href, 'https://b/y?sig=1');
      assert.deepEqual(
        dialed.map(({ method, headers }) => ({ method, headers })),
        [
          { method: 'GET', headers: AUTHORIZATION },
          { method: 'GET', headers: { range: 'bytes=5-' } },
        ],
      );
      assert.deepEqual(
        bodies.map(body => body.isReleased),
        [true, false],
        'the body of a redirect is released',
      );
      assert.equal(isRedirect(response), false);
    });
  }

  test('an Authorization that was left out does not come back on the way back', async () => {
    const { follow, dialed } = scripted({
      'https://a/x': [302, 'https://b/'],
      'https://b/': [302, 'https://a/z'],
      'https://a/z': [200],
    });
    await follow('https://a/x');
    assert.deepEqual(
      dialed.map(({ headers }) => headers.authorization),
      ['Bearer secret', undefined, undefined],
    );
  });

  const addresses: [what: string, from: string, location: string, to: string][] = [
    ['a path', 'https://a/v2/x?q=1', '/y', 'https://a/y'],
    ['a relative path', 'https://a/v2/x/y', '../z', 'https://a/v2/z'],
    ['a query', 'https://a/v2/x', '?q=2', 'https://a/v2/x?q=2'],
    ['a host without a scheme', 'https://a/x', '//b/y', 'https://b/y'],
    ['another port', 'https://a/x', 'https://a:444/x', 'https://a:444/x'],
    ['from http to https', 'http://a/x', 'https://b/y', 'https://b/y'],
    ['from http to http', 'http://a/x', 'http://b/y', 'http://b/y'],
  ];
  for (const [what, from, location, to] of addresses) {
    test(`a redirect may name ${what}`, async () => {
      const { follow } = scripted({ [from]: [307, location], [to]: [200] });
      assert.equal((await follow(from)).url.href, to);
    });
  }

  const rejected: [what: string, location: string | undefined][] = [
    ['from https to http', 'http://a/y'],
    ['to another kind of address', 'ftp://a/y'],
    ['to a file', 'file:///etc/passwd'],
    ['to data', 'data:text/plain,x'],
    ['to what is no address', 'https://'],
    ['to an empty place', ''],
    ['to no place', undefined],
  ];
  for (const [what, location] of rejected) {
    test(`a redirect ${what} is rejected, without being dialed`, async () => {
      const { follow, dialed, bodies } = scripted({
        'https://a/x': location === undefined ? [302] : [302, location],
      });
      await assert.rejects(follow('https://a/x'), { code: 'UPSTREAM_INVALID', message: /^a redirects / });
      assert.equal(dialed.length, 1);
      assert.equal(bodies[0]?.isReleased, true);
    });
  }

  test('a redirect from https to http is rejected also when it comes late', async () => {
    const { follow, dialed } = scripted({
      'http://a/': [302, 'https://b/'],
      'https://b/': [302, 'http://c/'],
    });
    await assert.rejects(follow('http://a/'), { code: 'UPSTREAM_INVALID' });
    assert.equal(dialed.length, 2);
  });

  test('five redirects are followed, and a sixth is not', async () => {
    const chain = (length: number) =>
      Object.fromEntries([
        ...Array.from({ length }, (_, i) => [`https://a/${i}`, [302, `/${i + 1}`]]),
        [`https://a/${length}`, [200]],
      ]);
    assert.equal((await scripted(chain(5)).follow('https://a/0')).status, 200);
    const { follow, dialed, bodies } = scripted(chain(6));
    await assert.rejects(follow('https://a/0'), { code: 'UPSTREAM_INVALID', message: /more than 5 times/ });
    assert.equal(dialed.length, 6);
    assert.ok(bodies.every(body => body.isReleased));
  });
});

describe('following redirects among servers', () => {
  async function serve(t: TestContext, listener: RequestListener) {
    const requests: IncomingMessage[] = [];
    const server = createServer((request, response) => {
      requests.push(request);
      listener(request, response);
    }).listen(0, '127.0.0.1');
    t.after(() => {
      server.closeAllConnections();
      server.close();
    });
    await once(server, 'listening');
    return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
  }

  test('the blob host gets the range and never our Authorization', async t => {
    const blobHost = await serve(t, (_, response) => response.end('bytes'));
    const registry = await serve(t, (_, response) =>
      response.writeHead(307, { location: `${blobHost.origin}/blob?sig=a%2Fb` }).end('<html>moved</html>'),
    );
    const response = await dialFollowing(dialerOf(t), {
      method: 'GET',
      url: new URL(`${registry.origin}/v2/blob`),
      headers: AUTHORIZATION,
    });
    assert.equal((await readAll(response, 100))?.toString(), 'bytes');
    assert.equal(registry.requests[0]?.headers.authorization, 'Bearer secret');
    const [asked] = blobHost.requests;
    assert.equal(asked?.url, '/blob?sig=a%2Fb');
    assert.equal(asked.headers.authorization, undefined);
    assert.equal(asked.headers.range, 'bytes=5-');
  });

  test('an address goes out byte for byte as it came', async t => {
    const targets = ["/a/%2e%2e/b?sig='x'&y=%7e", '/a/../b', '/c?', '/d?x="1"&&', '/'];
    for (const target of targets) {
      const blobHost = await serve(t, (_, response) => response.end());
      const registry = await serve(t, (_, response) =>
        response.writeHead(307, { location: blobHost.origin + target }).end(),
      );
      await dialFollowing(dialerOf(t), { method: 'GET', url: new URL(registry.origin), headers: {} });
      assert.equal(blobHost.requests[0]?.url, target);
    }
  });

  test('a circle has an end', async t => {
    const registry = await serve(t, (_, response) => response.writeHead(302, { location: '/again' }).end());
    await assert.rejects(dialFollowing(dialerOf(t), { method: 'GET', url: new URL(registry.origin), headers: {} }), {
      code: 'UPSTREAM_INVALID',
    });
    assert.equal(registry.requests.length, 6);
  });
});
