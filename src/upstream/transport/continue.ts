// Some servers send `100 Continue` to requests that did not ask for it, which is allowed (RFC 9110, section 15.2) and which
// undici takes for a broken response. It is taken out of what a connection receives.
import type { Socket } from 'node:net';

const START = 'HTTP/1.1 100';
/** A response of this status, whole: it has no body. */
const WHOLE = /^HTTP\/1\.[01] 100(?: [^\r\n]*)?\r\n(?:[^\r\n]+\r\n)*\r\n/;
const LIMIT_BYTES = 8 * 1024;

/** The same socket. One request at a time goes over it: what comes after one was written begins with the head of a response. */
export function withoutContinue<T extends Socket>(socket: T): T {
  const read = socket.read.bind(socket);
  const write = socket.write.bind(socket) as (...args: unknown[]) => boolean;
  let isHeadNext = false;
  let held: Buffer | undefined;
  const writeNoting = (...args: unknown[]): boolean => {
    isHeadNext = true;
    return write(...args);
  };
  const readSkipping = (size?: number): Buffer | null => {
    for (;;) {
      const chunk: Buffer | null = read(size);
      if (!isHeadNext || chunk === null) return chunk;
      held = held === undefined ? chunk : Buffer.concat([held, chunk]);
      held = afterContinue(held);
      if (isStartOfContinue(held)) continue;
      const rest: Buffer = held;
      held = undefined;
      isHeadNext = false;
      return rest;
    }
  };
  return Object.assign(socket, { read: readSkipping, write: writeNoting });
}

function afterContinue(bytes: Buffer): Buffer {
  let rest = bytes;
  for (;;) {
    // Nearly always it is something else.
    if (!isStartOfContinue(rest)) return rest;
    const [whole] = WHOLE.exec(rest.toString('latin1', 0, LIMIT_BYTES)) ?? [];
    if (whole === undefined) return rest;
    rest = rest.subarray(whole.length);
  }
}

/** Whether more bytes have to come before it is known what they are. */
function isStartOfContinue(bytes: Buffer): boolean {
  if (bytes.length > LIMIT_BYTES) return false;
  const start = bytes.toString('latin1', 0, START.length).replace('HTTP/1.0', 'HTTP/1.1');
  return START.startsWith(start);
}
