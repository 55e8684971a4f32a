// Bodies on their way out, as tests see them: a bare server that hands over its responses, and sources that count what
// is done with them.
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readSync, rmSync, writeFileSync } from 'node:fs';
import http, { type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Source } from '../../src/content/content.ts';
import type { Sent } from '../../src/http/body/response-writer.ts';

export const MIB = 1024 * 1024;
export const BODY = randomBytes(9 * MIB + 12_345);

/** Where a body is sent to. */
export const to = (outgoing: ServerResponse): Sent => ({ outgoing, sentBytes: 0 });

/** A server that hands the response to each request to `handler`. */
export async function serve(t: TestContext, handler: (outgoing: ServerResponse) => void) {
  const server = http.createServer((_, outgoing) => handler(outgoing));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `http://127.0.0.1:${port}/` };
}

/** A server for one request; `handled` resolves to what its handler returned or threw. */
export async function serveOnce(t: TestContext, handler: (outgoing: ServerResponse) => Promise<unknown>) {
  const handled = Promise.withResolvers<unknown>();
  const { url } = await serve(t, outgoing => handled.resolve(handler(outgoing).catch(error => error)));
  return { url, handled: handled.promise };
}

export function sourceOf(sizeBytes: number, read: Source['read'] = async into => into.fill(7).length) {
  const calls = { reads: 0, closes: 0 };
  const source: Source = {
    sizeBytes,
    read: (into, position) => {
      calls.reads++;
      return read(into, position);
    },
    close: () => {
      calls.closes++;
    },
  };
  return { source, calls };
}

/** BODY as a file, and sources of it that count what is done with them. */
export function fileOf(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-send-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, 'body');
  writeFileSync(path, BODY);
  const calls = { reads: 0, lent: 0, released: 0, closes: 0 };
  const open = (endOf = (_position: number): number | undefined => BODY.length): Source => {
    const fd = openSync(path, 'r');
    return {
      sizeBytes: BODY.length,
      read: async (into, position) => {
        calls.reads++;
        return readSync(fd, into, 0, into.byteLength, position);
      },
      lend: async position => {
        const end = endOf(position);
        if (end === undefined) return undefined;
        calls.lent++;
        // As good as its word: open until it is released, whatever becomes of the source.
        const lent = openSync(path, 'r');
        return {
          fd: lent,
          end,
          release: () => {
            calls.released++;
            closeSync(lent);
          },
        };
      },
      close: () => {
        calls.closes++;
        closeSync(fd);
      },
    };
  };
  return { open, calls };
}

export async function bodyOf(incoming: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Without an agent, on a connection of its own that is closed behind it. */
export async function get(url: string, agent: http.Agent | false = false): Promise<http.IncomingMessage> {
  const request = http.get(url, { agent });
  const [incoming] = (await once(request, 'response')) as [http.IncomingMessage];
  return incoming;
}

export function assertSame(actual: Buffer, expected: Buffer): void {
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.deepEqual([actual.length, sha(actual)], [expected.length, sha(expected)]);
}
