// Bodies of requests on their way in: handed over chunk by chunk as they come, with no promise for a chunk
// that nobody has to be waited for with.
import type { IncomingMessage } from 'node:http';
import { RegistryError } from '../../oci/errors.ts';

/** The client broke its request off. */
export class ClientDisconnected extends Error {}

/**
 * Hands over the body. While a chunk's promise is pending nothing more is read. Rejects with ClientDisconnected when
 * the body breaks off or the signal says that it has, and with what `take` failed with.
 */
export function receive(
  incoming: IncomingMessage,
  take: (chunk: Buffer) => Promise<void> | undefined,
  stop?: AbortSignal,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let waits: Promise<void> | undefined;
    const fail = (error: unknown) => {
      incoming.off('data', onData);
      incoming.pause();
      reject(error);
    };
    const onData = (chunk: Buffer) => {
      try {
        waits = take(chunk);
      } catch (error) {
        return fail(error);
      }
      if (waits === undefined) return;
      incoming.pause();
      waits.then(() => incoming.resume(), fail);
    };
    incoming.on('data', onData);
    incoming.once('end', () => {
      if (waits === undefined) resolve();
      else waits.then(resolve, fail);
    });
    // What came before it left is still being taken.
    const leave = () => {
      incoming.off('data', onData);
      const left = () => reject(new ClientDisconnected('the client broke its request off'));
      if (waits === undefined) left();
      else waits.then(left, left);
    };
    stop?.addEventListener('abort', () => incoming.destroy(), { once: true });
    if (stop?.aborted) incoming.destroy();
    incoming.once('close', () => {
      if (!incoming.readableEnded) leave();
    });
    if (incoming.destroyed && !incoming.readableEnded) leave();
  });
}

/** The body as a whole. Throws TOO_LARGE beyond `limitBytes`. */
export async function receiveAll(incoming: IncomingMessage, limitBytes: number): Promise<Buffer> {
  const tooLarge = () =>
    new RegistryError('TOO_LARGE', `a body of more than ${limitBytes / 1024 / 1024} MiB is not taken here`);
  if (Number(incoming.headers['content-length'] ?? 0) > limitBytes) throw tooLarge();
  const chunks: Buffer[] = [];
  let length = 0;
  await receive(incoming, chunk => {
    length += chunk.length;
    if (length > limitBytes) throw tooLarge();
    chunks.push(chunk);
    return undefined;
  });
  return Buffer.concat(chunks, length);
}
