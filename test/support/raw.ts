// A client that writes what a test tells it to, byte for byte.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface RawClient {
  readonly socket: Socket;
  /** Everything that has come so far. */
  readonly got: () => string;
  /** Resolves to everything that came, once the server has closed the connection. */
  readonly closed: Promise<string>;
}

/** Connects to a URL's host and writes the text. The other side may close at any time, in any way. */
export async function openRaw(url: string, text = ''): Promise<RawClient> {
  const { hostname, port } = new URL(url);
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true });
  let got = '';
  socket.setEncoding('latin1');
  socket.on('data', chunk => {
    got += chunk;
  });
  socket.on('error', () => {});
  socket.on('end', () => socket.end());
  const closed = new Promise<string>(resolve => socket.on('close', () => resolve(got)));
  await once(socket, 'connect');
  socket.write(text);
  return { socket, got: () => got, closed };
}

/** Everything that comes in response to the text, until the server closes. */
export async function raw(url: string, text: string): Promise<string> {
  return (await openRaw(url, text)).closed;
}

/** A request with these lines, on a connection that is closed after its response. */
export function lines(...all: readonly string[]): string {
  return `${[...all, 'Connection: close'].join('\r\n')}\r\n\r\n`;
}
