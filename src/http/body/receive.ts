// Request bodies, handed over chunk by chunk as they arrive. No promise is made for a chunk unless its consumer wants
// to be waited for, and nothing more is read from the client until then.
import type { IncomingMessage } from 'node:http';
import { RegistryError } from '../../oci/errors.ts';
import type { BodyMemory } from './body-memory.ts';

/** The client disconnected in the middle of its request. */
export class ClientDisconnected extends Error {}

/**
 * Hands over the body. While the promise of a chunk is pending nothing more is read. Rejects with ClientDisconnected
 * when the body breaks off, or is cut because `stop` is aborted, and with what `onChunk` failed with.
 */
export function receive(
  incoming: IncomingMessage,
  onChunk: (chunk: Buffer) => Promise<void> | undefined,
  stop?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let pending: Promise<void> | undefined;
    const fail = (error: unknown) => {
      incoming.off('data', onData);
      incoming.pause();
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      try {
        pending = onChunk(chunk);
      } catch (error) {
        return fail(error);
      }
      if (pending === undefined) return;
      incoming.pause();
      pending.then(() => incoming.resume(), fail);
    };
    incoming.on('data', onData);
    incoming.once('end', () => {
      if (pending === undefined) resolve();
      else pending.then(resolve, fail);
    });
    const breakOff = () => {
      incoming.off('data', onData);
      const disconnected = () => reject(new ClientDisconnected('the client disconnected during its request'));
      // The chunk before may still be in use.
      if (pending === undefined) disconnected();
      else pending.then(disconnected, disconnected);
    };
    stop?.addEventListener('abort', () => incoming.destroy(), { once: true });
    if (stop?.aborted) incoming.destroy();
    incoming.once('close', () => {
      if (!incoming.readableEnded) breakOff();
    });
    if (incoming.destroyed && !incoming.readableEnded) breakOff();
  });
}

/**
 * The whole body, in memory until it is disposed of. Throws TOO_LARGE beyond `limitBytes`, TOOMANYREQUESTS when there is
 * no memory for it, and REQUEST_TIMEOUT when it comes too slowly, or has stalled while others needed its memory.
 */
export async function receiveAll(
  incoming: IncomingMessage,
  limitBytes: number,
  memory: BodyMemory,
): Promise<{ readonly bytes: Buffer } & Disposable> {
  const tooLarge = () =>
    new RegistryError('TOO_LARGE', `a body of more than ${limitBytes / 1024 / 1024} MiB is not accepted here`);
  const length = incoming.headers['content-length'];
  const declaredBytes = length === undefined ? undefined : Number(length);
  if ((declaredBytes ?? 0) > limitBytes) throw tooLarge();
  const cut = Promise.withResolvers<never>();
  const body = memory.begin(declaredBytes, cut.reject);
  const onChunk = (chunk: Buffer) => {
    if (body.length + chunk.length > limitBytes) throw tooLarge();
    body.append(chunk);
    return undefined;
  };
  try {
    await Promise.race([receive(incoming, onChunk), cut.promise]);
    return { bytes: body.whole(), [Symbol.dispose]: () => body[Symbol.dispose]() };
  } catch (error) {
    incoming.pause();
    body[Symbol.dispose]();
    throw error;
  }
}
