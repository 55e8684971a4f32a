// sendfile(2), which Node has no function for, called through koffi. In its asynchronous form, so that a disk that is
// slow keeps a thread of the pool waiting and not the event loop.
import type { Socket } from 'node:net';

/**
 * Sends up to `count` bytes of the file from `position` on, past whatever Node has still to write. Resolves to how many
 * the socket has taken: fewer when it is full or the file ends, 0 also when the system refused. Undefined, and nothing
 * is sent, when this is no plain socket or not open. The file must stay open until then; the socket need not.
 */
export type Sendfile = (
  socket: Socket,
  fd: number,
  position: number,
  count: number,
) => Promise<number | undefined>;

/** Undefined, and `onMissing` told why, where there is no such call or koffi does not load. */
export async function loadSendfile(onMissing: (why: string) => void): Promise<Sendfile | undefined> {
  if (process.platform !== 'linux') {
    onMissing(`${process.platform} has another sendfile than Linux`);
    return undefined;
  }
  try {
    const { default: koffi } = await import('koffi');
    // The C library that this process has, whichever it is.
    const libc = koffi.load(null);
    const dup = libc.func('int dup(int fd)');
    const close = libc.func('int close(int fd)');
    const sendfile = libc.func('int64_t sendfile(int to, int from, int64_t *offset, size_t count)');
    return async (socket, fd, position, count) => {
      const open = descriptorOf(socket);
      if (open === undefined) return undefined;
      // Node closes its own when the client leaves, and the next connection gets that number, while the call may
      // still be under way. This one stays what it is until it is closed.
      const own = dup(open) as number;
      if (own < 0) return undefined;
      // A buffer that is given stays outside of the heap, where the collector could move it during the call.
      const offset = new BigInt64Array(new ArrayBuffer(8));
      offset[0] = BigInt(position);
      return new Promise((resolve, reject) => {
        sendfile.async(own, fd, offset, count, (error: Error | null) => {
          close(own);
          if (error) reject(error);
          // The call moves it by what it sent.
          else resolve(Number(offset[0]) - position);
        });
      });
    };
  } catch (error) {
    onMissing((error as Error).message);
    return undefined;
  }
}

/** Node tells it nobody officially, but has had it at this place for as long as there have been handles. */
function descriptorOf(socket: Socket): number | undefined {
  const fd = (socket as { _handle?: { fd?: unknown } | null })._handle?.fd;
  const isPlain = !socket.destroyed && !('encrypted' in socket);
  return isPlain && typeof fd === 'number' && fd >= 0 ? fd : undefined;
}
